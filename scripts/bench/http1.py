"""A small HTTP/1.1 client that costs little CPU, so that the load generator is not what gets measured.

One connection carries one request at a time and is kept open.  Requests are bytes prepared once with `encode`.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit


@dataclass(slots=True)
class Response:
    """A whole answer.  Times are `time.perf_counter()` seconds; `first_event_at` is None if no SSE event came."""

    status: int
    body: bytes
    sent_at: float
    first_event_at: float | None
    ended_at: float


def encode(method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Return the bytes of a request for the path and query of the URL."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    every_header = {"Host": parts.netloc, "Content-Length": str(len(body)), **headers}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in every_header.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """A keep-alive connection that opens itself when needed.  Raises ConnectionError if the server breaks off."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Response] | None = None
        self._sent_at = 0.0
        self._reset()

    def _reset(self) -> None:
        self._received = bytearray()
        self._body_at = 0
        self._body_bytes: int | None = None
        self._is_chunked = False
        self._first_event_at: float | None = None

    async def open(self) -> None:
        """Connect, if that is still to be done."""
        if self._transport is None:
            await asyncio.get_running_loop().create_connection(lambda: self, self._host, self._port)

    async def send(self, request: bytes, timeout_s: float = 60) -> Response:
        """Send a prepared request and return its answer."""
        await self.open()
        self._reset()
        self._answer = asyncio.get_running_loop().create_future()
        self._sent_at = time.perf_counter()
        assert self._transport is not None
        self._transport.write(request)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._answer
        except TimeoutError:
            self.close()
            raise ConnectionError("no answer in time") from None

    def close(self) -> None:
        """Close the connection; the next send opens a new one."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def connection_lost(self, exc: Exception | None) -> None:
        """End an answer that the server ends by closing; fail any other."""
        self._transport = None
        if self._answer is None or self._answer.done():
            return
        if self._body_at and not self._is_chunked and self._body_bytes is None:
            self._finish()
        else:
            self._answer.set_exception(exc or ConnectionError("connection lost within an answer"))

    def data_received(self, data: bytes) -> None:
        """Collect the answer and finish it when it is whole."""
        self._received += data
        if not self._body_at and not self._read_head():
            return
        if self._first_event_at is None and self._received.find(b"data:", self._body_at) >= 0:
            self._first_event_at = time.perf_counter()
        if self._is_chunked:
            # The body's end looks the same when it is empty: the head's last two bytes stand in for the line break.
            if self._received.endswith(b"\r\n0\r\n\r\n", self._body_at - 2):
                self._finish()
        elif self._body_bytes is not None and len(self._received) - self._body_at >= self._body_bytes:
            self._finish()

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._body_at = end + 4
        for line in bytes(self._received[:end]).lower().split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name == b"content-length":
                self._body_bytes = int(value)
            elif name == b"transfer-encoding" and b"chunked" in value:
                self._is_chunked = True
        if self._received[9:12] in (b"204", b"304"):  # they have no body, and may not say so
            self._body_bytes = 0
        return True

    def _finish(self) -> None:
        if self._answer is None or self._answer.done():
            return
        body = bytes(self._received[self._body_at :])
        self._answer.set_result(
            Response(
                status=int(self._received[9:12]),
                body=_joined(body) if self._is_chunked else body,
                sent_at=self._sent_at,
                first_event_at=self._first_event_at,
                ended_at=time.perf_counter(),
            )
        )


def _joined(body: bytes) -> bytes:
    """Return a chunked body without its chunk sizes."""
    pieces, at = [], 0
    while size := int(body[at : (line_end := body.index(b"\r\n", at))].partition(b";")[0], 16):
        pieces.append(body[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2
    return b"".join(pieces)
