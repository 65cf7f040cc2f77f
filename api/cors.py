"""Answers for browsers that run a page of another origin (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from api.state import STATE

_METHODS: Final = "GET, POST, PUT, PATCH, DELETE"
_SHOWN: Final = "x-request-id, x-job-id, retry-after, etag, location"
_KEPT_S: Final = "600"


@web.middleware
async def answer_preflight(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer what a browser asks before it calls for a page; everything else goes on."""
    if request.method != hdrs.METH_OPTIONS or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
        return await handler(request)
    return web.Response(status=204)


async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Say that the page may read the answer, if its origin is among `SLUICE_CORS_ORIGINS`; keys travel as headers."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or origin not in request.app[STATE].settings.cors_origins.split(","):
        return
    response.headers.add(hdrs.VARY, "Origin")
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _SHOWN
    if request.method == hdrs.METH_OPTIONS:
        asked = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = _METHODS
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = _KEPT_S
