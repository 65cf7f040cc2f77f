"""The console at /console: static files, which reach everything else through the public API.

Nothing of the pages may be interpreted: scripts and styles come from files here, texts become text nodes.  The browser
is told so, too: no inline script or style, no other origin, no frame, no markup made of strings (`trusted-types`).
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aiohttp import web
from msgspec import Struct

_FOLDER: Final = Path(__file__).parent / "console"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY: Final = "; ".join(
    [
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:",
        "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
        "require-trusted-types-for 'script'", "trusted-types 'none'",
    ]
)  # fmt: skip
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class _File(Struct, frozen=True):
    body: bytes
    content_type: str
    etag: str


def add_console(app: web.Application) -> None:
    """Serve the files of the folder, read once: no other path can be reached."""
    files = _read_files()

    async def get_file(request: web.Request) -> web.Response:
        return _respond(request, files)

    async def get_folder(_request: web.Request) -> web.Response:
        return web.Response(status=308, headers={"Location": "/console/"})

    app.router.add_get("/console", get_folder)
    app.router.add_get("/console/{path:.*}", get_file)


def _read_files() -> dict[str, _File]:
    found = {}
    for path in sorted(_FOLDER.rglob("*")):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            etag = hashlib.sha256(body).hexdigest()[:32]
            found[path.relative_to(_FOLDER).as_posix()] = _File(body, _TYPES[path.suffix], f'"{etag}"')
    return found


def _respond(request: web.Request, files: Mapping[str, _File]) -> web.Response:
    file = files.get(request.match_info["path"] or "index.html")
    if file is None:
        raise web.HTTPNotFound
    headers = HEADERS | {"ETag": file.etag}
    known = [one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(",")]
    if file.etag in known:
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, headers=headers | {"Content-Type": file.content_type})
