"""Where a request comes from: the address of its connection, or what trusted proxies say."""

import ipaddress
from functools import cache, lru_cache

from aiohttp import web

from api.state import STATE
from shared.ssrf import Network, parse_networks

_HEADER = "X-Forwarded-For"
_parse = cache(parse_networks)


def address_of(request: web.Request) -> str | None:
    """Return the address of the client.

    Each proxy adds whom it was called by at the end, so the list is read from there, as far as it is trusted
    (`SLUICE_TRUSTED_PROXIES`); what a caller wrote itself is before that.
    """
    address = None if request.remote is None else _plain(request.remote)
    trusted = _parse(request.app[STATE].settings.trusted_proxies)
    if not trusted or address is None:
        return address
    hops = [hop.strip() for line in request.headers.getall(_HEADER, ()) for hop in line.split(",")]
    while hops and _is_in(address, trusted):
        try:
            address = _plain(hops.pop())
        except ValueError:
            break
    return address


@lru_cache(maxsize=4096)
def _plain(address: str) -> str:
    """Return an address as text; a socket for both protocols tells those of IPv4 as `::ffff:198.51.100.7`."""
    known = ipaddress.ip_address(address)
    return str(getattr(known, "ipv4_mapped", None) or known)


def _is_in(address: str, networks: tuple[Network, ...]) -> bool:
    known = ipaddress.ip_address(address)
    return any(known in network for network in networks)
