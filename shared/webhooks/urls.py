"""Look at the URL of an endpoint when it is registered.

This is feedback for whoever registers it, not protection: at each try the address that is really connected is checked.
"""

import asyncio
import socket
from typing import Final
from urllib.parse import urlsplit

from yarl import URL

from shared.errors import BadRequestError
from shared.settings import Settings
from shared.ssrf import is_denied, parse_networks

_MAX_CHARACTERS: Final = 2048
_LOW_PORTS: Final = {"https": (443,), "http": (80, 443)}
_HIGH_PORTS_FROM: Final = 1024
_RESOLVE_S: Final = 3.0


class WebhookUrlNotAllowedError(BadRequestError):
    """Webhooks are not sent to this URL; the message says why, but nothing of what was found there."""

    code = "webhook_url_not_allowed"

    def __init__(self, reason: str, param: str) -> None:
        super().__init__(f"The webhook URL is not allowed: {reason}.", param=param)


async def check_webhook_url(text: str, settings: Settings, param: str) -> str:
    """Return the normalised URL; raises `WebhookUrlNotAllowedError`."""
    url = _parse(text, settings, param)
    host = url.raw_host or ""
    if _is_literal(host) and not settings.webhook_allow_literals:
        raise WebhookUrlNotAllowedError("it needs a name instead of an address", param)
    try:
        async with asyncio.timeout(_RESOLVE_S):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # also TimeoutError
        raise WebhookUrlNotAllowedError("its host cannot be resolved", param) from error
    allowed = parse_networks(settings.webhook_allow_networks)
    if any(is_denied(str(address[4][0]), allowed) for address in found):
        raise WebhookUrlNotAllowedError("its host is not on the public internet", param)
    return str(url)


def _parse(text: str, settings: Settings, param: str) -> URL:
    """Return the URL if it has the right form."""
    if len(text) > _MAX_CHARACTERS:
        raise WebhookUrlNotAllowedError(f"it is longer than {_MAX_CHARACTERS} characters", param)
    if any(character <= " " or character in "\\\x7f" for character in text):
        raise WebhookUrlNotAllowedError("it has characters that no URL has", param)
    try:
        url = URL(text)
        port, host, has_user = url.port, url.raw_host, "@" in urlsplit(text).netloc
    except ValueError as error:
        raise WebhookUrlNotAllowedError("it is not a URL", param) from error
    schemes = ("https", "http") if settings.webhook_allow_http else ("https",)
    if url.scheme not in schemes:
        raise WebhookUrlNotAllowedError(f"it must start with {' or '.join(f'{one}://' for one in schemes)}", param)
    if not host or "%" in host:
        raise WebhookUrlNotAllowedError("it has no host", param)
    if has_user:
        raise WebhookUrlNotAllowedError("it must not have a user or a password", param)
    if port is None or (port not in (*_LOW_PORTS[url.scheme], 8443) and port < _HIGH_PORTS_FROM):
        raise WebhookUrlNotAllowedError("its port must be 443, 8443 or at least 1024", param)
    return url.with_fragment(None)


def _is_literal(host: str) -> bool:
    """Return whether the host is an address, in any form that a resolver takes: `127.1`, `0x7f000001`, `2130706433`."""
    if ":" in host:
        return True
    try:
        socket.inet_aton(host.rstrip("."))
    except OSError:
        return False
    return True
