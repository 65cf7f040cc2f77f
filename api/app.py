"""Build the application from its parts; no work happens at import."""

from functools import cache, partial
from typing import Final

from aiohttp import HttpVersion11, hdrs, web
from msgspec import json

from api.console_files import add_console
from api.cors import allow_origin, answer_preflight
from api.documentation.files import REFERENCE
from api.endpoints import ENDPOINTS
from api.http import JSON, REQUESTS, aiohttp_handler
from api.middlewares import count_answers, render_errors
from api.openapi import OPENAPI, build_openapi
from api.state import STATE, State
from api.tracing import trace_requests
from shared.dialects import MOUNTS
from shared.settings import Settings, SettingsError

HEADERS: Final = {"Server": "Sluice", "X-Content-Type-Options": "nosniff"}
"""Of every answer: no versions, and nobody guesses at media types."""


def create_app(state: State) -> web.Application:
    """Return the app; the caller owns `state` and closes it."""
    traced = [] if state.tracer is None else [trace_requests(state.tracer)]
    has_pages = [answer_preflight] if state.settings.cors_origins else []
    middlewares = [*traced, count_answers, *has_pages, render_errors]
    app = web.Application(middlewares=middlewares, client_max_size=state.settings.max_body_bytes)
    app[STATE] = state
    app.on_response_prepare.append(_add_headers)
    if has_pages:
        app.on_response_prepare.append(allow_origin)
    disabled, hidden = _tags("DISABLED_TAGS", state.settings), _tags("HIDDEN_TAGS", state.settings)
    served = [one for one in ENDPOINTS if one.tag.lower() not in disabled]
    for endpoint in served:
        handler = aiohttp_handler(endpoint)
        for mount in ("", *(f"/{name}" for name in MOUNTS if endpoint.is_mounted)):
            app.router.add_route(endpoint.method, mount + endpoint.path, handler, expect_handler=_go_on)
    app[REQUESTS] = {one.path: one for one in served if one.prepare}
    app[OPENAPI] = partial(_reference, state.settings.app_title, disabled | hidden)

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=app[OPENAPI](), content_type=JSON)

    app.router.add_get("/openapi.json", openapi)
    if any(one.path == "/docs" for one in served):
        app.router.add_get("/docs/", _go_without_slash)
        app.router.add_get(f"{REFERENCE}/", _go_without_slash)
    add_console(app)
    return app


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers[name] = value


async def _go_without_slash(request: web.Request) -> web.Response:
    return web.Response(status=308, headers={"Location": request.path.rstrip("/")})


async def _go_on(request: web.Request) -> None:
    """Ask for the body if the caller waits for that; any other expectation is left unmet, which HTTP allows.

    aiohttp's own handler quotes what it does not know, and fails if that is no text.
    """
    if request.headers[hdrs.EXPECT].lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def _tags(name: str, settings: Settings) -> frozenset[str]:
    """Return the tags that a setting names, in lower case; raises `SettingsError` for one that is not there."""
    tags = frozenset(tag.strip().lower() for tag in getattr(settings, name.lower()).split(",") if tag.strip())
    known = {one.tag for one in ENDPOINTS}
    if unknown := tags - {tag.lower() for tag in known}:
        raise SettingsError(f"SLUICE_{name}: unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}.")
    return tags


@cache
def _reference(title: str, left_out: frozenset[str]) -> bytes:
    return json.encode(build_openapi([one for one in ENDPOINTS if one.tag.lower() not in left_out], title=title))
