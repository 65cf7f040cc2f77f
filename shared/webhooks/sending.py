"""One try: sign, connect, send, read a little of the answer, and say what it means.

Receivers are strangers: the connection is opened by a guard that sees the final address, redirects are not followed,
nothing is decompressed, and no more than 8 kB of an answer are read.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final

from aiohttp import (
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientError,
    ClientOSError,
    ClientResponse,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
    InvalidURL,
    ServerDisconnectedError,
    TCPConnector,
)
from msgspec import Struct
from yarl import URL

from shared.clock import now_ms
from shared.settings import Settings
from shared.ssrf import address_guard, parse_networks
from shared.version import VERSION
from shared.webhooks.schedule import parse_retry_after
from shared.webhooks.signature import Secret, sign

MAX_READ_BYTES: Final = 8 * 1024
_TIMEOUT: Final = ClientTimeout(total=15, connect=5)
_READ_S: Final = 2.0
"""For the body of an answer, which decides nothing."""
_SNIPPET: Final = 1000
_RESET_S: Final = 1.0
_GONE: Final = 410
_SLOW_DOWN: Final = (429, 503)


class _Opened(Struct):
    """Where the try that is under way connects to."""

    address: str | None = None
    is_blocked: bool = False


_OPENED: ContextVar[_Opened] = ContextVar("opened")


class Outgoing(Struct, frozen=True, kw_only=True):
    """What is sent, and where to."""

    url: str
    event_id: str
    """Public."""
    body: bytes
    secrets: list[Secret]
    headers: dict[str, str]
    """Of the endpoint, and of the trace if there is one."""


class Try(Struct, kw_only=True):
    """How one try ended."""

    started_ms: int
    latency_ms: int
    status_code: int | None = None
    error_class: str | None = None
    """http_error | redirect | timeout | dns | connect | tls | blocked_address | aborted"""
    error: str | None = None
    remote_address: str | None = None
    snippet: str | None = None
    retry_after_s: float | None = None
    is_reset: bool = False
    """The connection broke within a second."""

    @property
    def is_delivered(self) -> bool:
        """Return whether the receiver took it."""
        return self.error_class is None

    @property
    def is_gone(self) -> bool:
        """Return whether the receiver wants nothing any more."""
        return self.status_code == _GONE


@asynccontextmanager
async def open_webhook_session(settings: Settings) -> AsyncIterator[ClientSession]:
    """Yield the HTTP client of webhooks, which nothing else uses."""
    connector = TCPConnector(
        limit=0, ttl_dns_cache=0, force_close=True,
        socket_factory=address_guard(parse_networks(settings.webhook_allow_networks), _note_address),
    )  # fmt: skip
    async with ClientSession(
        connector=connector, cookie_jar=DummyCookieJar(), trust_env=False, timeout=_TIMEOUT, auto_decompress=False,
        read_bufsize=MAX_READ_BYTES,
        headers={
            "User-Agent": f"Sluice/{VERSION} (+{settings.effective_public_url()}/docs/webhooks)",
            "Accept-Encoding": "identity",
        },
    ) as session:  # fmt: skip
        yield session


def _note_address(address: str, is_denied: bool) -> None:
    opened = _OPENED.get(None)
    if opened is not None:
        opened.is_blocked = is_denied
        opened.address = None if is_denied else address


async def send(http: ClientSession, outgoing: Outgoing) -> Try:
    """Send it once and return what came of it; never raises for what the receiver does."""
    opened = _Opened()
    token = _OPENED.set(opened)
    begun_ms, begun = now_ms(), time.perf_counter()
    ended = Try(started_ms=begun_ms, latency_ms=0)
    headers = outgoing.headers | sign(outgoing.secrets, outgoing.event_id, begun_ms, outgoing.body)
    headers["Content-Type"] = "application/json"
    try:
        async with http.post(URL(outgoing.url), data=outgoing.body, headers=headers, allow_redirects=False) as response:
            _judge(ended, response)
            ended.snippet = await _read_some(response)
            response.close()
    except (ClientError, OSError, TimeoutError, ValueError) as error:
        if ended.status_code is None:
            ended.error_class, ended.error = _class_of(error, opened)
            ended.is_reset = _has_broken(error) and time.perf_counter() - begun < _RESET_S
    finally:
        _OPENED.reset(token)
    ended.remote_address = opened.address
    ended.latency_ms = int((time.perf_counter() - begun) * 1000)
    return ended


def _judge(ended: Try, response: ClientResponse) -> None:
    """Write down what status and headers of the answer mean."""
    ended.status_code = status = response.status
    if 200 <= status < 300:
        return
    if response.headers.get("webhook-delivery", "").strip().lower() == "abort-message":
        ended.error_class, ended.error = "aborted", f"receiver answered {status} and wants no further try"
        return
    ended.error_class = "redirect" if 300 <= status < 400 else "http_error"
    ended.error = f"receiver answered {status}"
    if status in _SLOW_DOWN:
        ended.retry_after_s = parse_retry_after(response.headers.get("retry-after"))


async def _read_some(response: ClientResponse) -> str | None:
    """Return the beginning of the body as far as it comes soon, as text."""
    read = bytearray()
    try:
        async with asyncio.timeout(_READ_S):
            while len(read) < MAX_READ_BYTES and (part := await response.content.read(MAX_READ_BYTES - len(read))):
                read += part
    except (ClientError, OSError, TimeoutError):
        pass  # the status has been said
    return bytes(read).decode(errors="replace").replace("\x00", "")[:_SNIPPET] or None


def _has_broken(error: Exception) -> bool:
    """Return whether there was a connection, which broke."""
    is_broken = isinstance(error, ServerDisconnectedError | ConnectionResetError | ClientOSError)
    return is_broken and not isinstance(error, ClientConnectorError)


def _class_of(error: Exception, opened: _Opened) -> tuple[str, str]:
    """Return class and text of what kept the receiver from answering; nothing in it was said by an inner host."""
    if opened.is_blocked:
        return "blocked_address", "the address is not allowed"
    found = next((row[1:] for row in _CLASSES if isinstance(error, row[0])), None)
    return found or ("http_error", "the answer is not HTTP")


_CLASSES: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...]] = (
    ((ClientConnectorDNSError, socket.gaierror), "dns", "the name could not be resolved"),
    (ClientSSLError, "tls", "no secure connection could be made"),
    (TimeoutError, "timeout", "no answer in time"),
    (ClientConnectorError, "connect", "no connection could be made"),
    ((InvalidURL, ValueError), "connect", "the URL leads nowhere"),
    ((ServerDisconnectedError, OSError), "connect", "the connection broke before an answer came"),
)
"""First the special ones."""
