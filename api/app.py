"""Build the application from its parts; no work happens at import."""

from functools import cache

from aiohttp import web
from msgspec import json

from api.cors import allow_origin, answer_preflight
from api.endpoints import ENDPOINTS
from api.http import JSON, REQUESTS, aiohttp_handler
from api.middlewares import count_answers, render_errors
from api.openapi import build_openapi
from api.state import STATE, State
from shared.dialects import MOUNTS


def create_app(state: State) -> web.Application:
    """Return the app; the caller owns `state` and closes it."""
    has_pages = [answer_preflight] if state.settings.cors_origins else []
    app = web.Application(
        middlewares=[count_answers, *has_pages, render_errors], client_max_size=state.settings.max_body_bytes
    )
    app[STATE] = state
    if has_pages:
        app.on_response_prepare.append(allow_origin)
    for endpoint in ENDPOINTS:
        handler = aiohttp_handler(endpoint)
        for mount in ("", *(f"/{name}" for name in MOUNTS if endpoint.is_mounted)):
            app.router.add_route(endpoint.method, mount + endpoint.path, handler)
    app[REQUESTS] = {one.path: one for one in ENDPOINTS if one.prepare}
    title = state.settings.app_title

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=_reference(title), content_type=JSON)

    app.router.add_get("/openapi.json", openapi)
    return app


@cache
def _reference(title: str) -> bytes:
    return json.encode(build_openapi(ENDPOINTS, title=title))
