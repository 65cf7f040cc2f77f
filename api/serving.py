"""How the app is served: what a connection may do before it is a request."""

import logging
from typing import Final

from aiohttp import web

from api.app import create_app
from api.state import State

_MAX_HEADER_BYTES: Final = 16 * 1024
"""Of one header, and of the first line; larger: 400."""


def open_runner(state: State, *, shutdown_timeout_s: float) -> web.AppRunner:
    """Return the runner of the app; connections that are silent, or slow to say what they want, are closed.

    What is no HTTP is answered with 400 and not logged: aiohttp would quote it, and it may hold somebody's key.
    """
    unlogged = logging.getLogger("api.serving.malformed")
    unlogged.disabled = True
    return web.AppRunner(
        create_app(state), access_log=None, logger=unlogged, handle_signals=False, shutdown_timeout=shutdown_timeout_s,
        keepalive_timeout=state.settings.idle_timeout_s, max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
    )  # fmt: skip
