"""How the app is served: what a connection may do before it is a request."""

import logging
from typing import Any, Final

from aiohttp import web
from typing_extensions import override

from api.app import HEADERS, create_app
from api.state import State
from shared.errors import ApiError, BadRequestError

_MAX_HEADER_BYTES: Final = 16 * 1024
"""Of one header, and of the first line; larger: 400."""


def open_runner(state: State, *, shutdown_timeout_s: float) -> web.AppRunner:
    """Return the runner of the app; connections that are silent, or slow to say what they want, are closed.

    What is no HTTP is answered with 400 and neither logged nor quoted: it may hold somebody's key.
    """
    unlogged = logging.getLogger("api.serving.malformed")
    unlogged.disabled = True
    return _Runner(
        create_app(state), access_log=None, logger=unlogged, handle_signals=False, shutdown_timeout=shutdown_timeout_s,
        keepalive_timeout=state.settings.idle_timeout_s, max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
    )  # fmt: skip


class _Handler(web.RequestHandler):
    """Answers what is no request as all other errors are answered; aiohttp would say what it could not read."""

    __slots__ = ()

    @override
    def handle_error(self, request: Any, status: int = 500, exc: Any = None, message: Any = None) -> web.StreamResponse:
        super().handle_error(request, status, exc)  # closes what has begun
        is_ours = status >= 500
        error = ApiError("An unexpected error occurred") if is_ours else BadRequestError("This is not valid HTTP.")
        response = web.Response(status=status, body=error.body(), content_type="application/json", headers=HEADERS)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> _Handler:
        return _Handler(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    @override
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server  # there is no other way to choose the handler
        return server
