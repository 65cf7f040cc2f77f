"""Where a request comes from: the address of its connection, or what trusted proxies say."""

import ipaddress
from functools import cache

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
    address = request.remote
    trusted = _parse(request.app[STATE].settings.trusted_proxies)
    if not trusted or address is None:
        return address
    hops = [hop.strip() for line in request.headers.getall(_HEADER, ()) for hop in line.split(",")]
    while hops and _is_in(address, trusted):
        try:
            address = str(ipaddress.ip_address(hops.pop()))
        except ValueError:
            break
    return address


def _is_in(address: str, networks: tuple[Network, ...]) -> bool:
    known = ipaddress.ip_address(address)
    return any(known in network for network in networks)
