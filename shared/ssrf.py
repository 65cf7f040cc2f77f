"""Keep URLs that callers name away from private networks.  Networks: the deny list of the job model, section 9.

Webhooks are sent by Sluice: `address_guard` looks at the address of every connection when it is opened, which is after
the name was resolved, so neither a name that changes nor an odd form of an address gets past it.

Documents are not fetched by Sluice: OCR providers take their URLs, so a public URL is passed on.  Fetching here would
move up to 20 MiB through api, store and worker for nothing, and would put the machine that reaches everything inside
the operator's network at the disposal of callers.  What is checked here is what the provider is going to be asked for,
since a provider may stand in the same private network as Sluice.  Chats are another matter: they reach the provider
unchanged, as the contract says, with all URLs in them.

That is a check at acceptance, not a wall: a name may resolve to something else a second later, and a server may
redirect.  Names that nothing here can resolve are passed on, unless they can only mean something inside of a network;
they lead nowhere from here.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from shared.errors import BadRequestError

_DENIED: Final = tuple(
    map(
        ipaddress.ip_network,
        """
        0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
        192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
        ::/128 ::1/128 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/32 2001:db8::/32 2002::/16 3fff::/20 5f00::/16
        fc00::/7 fe80::/10 fec0::/10 ff00::/8
        """.split(),
    )
)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
AddressInfo = tuple[Any, ...]
"""(family, type, protocol, canonical name, socket address), as `getaddrinfo` returns it."""
_INNER: Final = frozenset({"localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "arpa"})
"""Last labels of names that mean something inside of a network only."""
_RESOLVE_S: Final = 3.0


class UrlNotAllowedError(BadRequestError):
    """The URL leads to a private network, or is none that could be checked."""

    code = "url_not_allowed"

    def __init__(self, param: str) -> None:
        super().__init__("The URL is not allowed.", param=param)


class BlockedAddressError(OSError):
    """A connection was not opened, since its address is none of the public internet."""


def is_denied(address: str, allowed: Sequence[Network] = ()) -> bool:
    """Return whether an IP address is none of the public internet, nor of the networks that are allowed besides.

    IPv4 inside of IPv6 is looked at as IPv4.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    if any(found in network for network in allowed if network.version == found.version):
        return False
    return any(found in network for network in _DENIED if network.version == found.version)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a comma-separated list; raises `ValueError`."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def address_guard(
    allowed: Sequence[Network], opens: Callable[[str, bool], None]
) -> Callable[[AddressInfo], socket.socket]:
    """Return a `socket_factory` for aiohttp that raises `BlockedAddressError` instead of opening a denied connection.

    `opens` is told each address that somebody is about to connect to, and whether it is denied.
    """

    def open_socket(info: AddressInfo) -> socket.socket:
        address = str(info[4][0])
        denied = is_denied(address, allowed)
        opens(address, denied)
        if denied:
            raise BlockedAddressError(address)
        opened = socket.socket(*info[:3])
        opened.setblocking(False)
        return opened

    return open_socket


async def check_public_url(url: str, param: str) -> None:
    """Raise `UrlNotAllowedError` unless the http(s) URL leads to the public internet, as far as can be told."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise UrlNotAllowedError(param) from error
    is_odd = any(character <= " " or character in "\\\x7f" for character in url) or "%" in host
    if not host or is_odd or "@" in parts.netloc:
        raise UrlNotAllowedError(param)
    try:
        async with asyncio.timeout(_RESOLVE_S):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise UrlNotAllowedError(param) from error
    except OSError as error:  # also TimeoutError: nobody here knows the name
        if _is_inner(host):
            raise UrlNotAllowedError(param) from error
        return
    if any(is_denied(str(address[4][0])) for address in found):
        raise UrlNotAllowedError(param)


def _is_inner(host: str) -> bool:
    """Return whether an unknown name can only mean something inside of a network, or is an odd form of an address."""
    *labels, last = host.lower().split(".")
    return not labels or last in _INNER or last[0:1].isdigit() or ":" in host
