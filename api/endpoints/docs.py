"""GET /docs, /docs/{page} and /docs/reference/{tag}: the documentation as pages that need no script."""

import asyncio
from typing import Final

from api.call import Call
from api.documentation.files import REFERENCE
from api.documentation.pages import read_style, render_page
from api.documentation.reference import render_overview, render_tag
from api.http import Reply, Routes
from api.openapi import OPENAPI
from shared.errors import NotFoundError

routes = Routes("Documentation")
_STYLE: Final = "/docs/docs.css"
_HTML: Final = "text/html; charset=utf-8"
_SVG: Final = "image/svg+xml"
_CSS: Final = "text/css; charset=utf-8"
_ON_PAGES: Final = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; " \
    "frame-ancestors 'none'"  # fmt: skip
_ON_FILES: Final = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


@routes.get("/docs", right=None, media_type="text/html")
async def get_documentation(call: Call) -> Reply[str]:
    """Show the contents of the documentation."""
    return _page(call, await asyncio.to_thread(render_page, "/docs"))


@routes.get(
    "/docs/{page}", right=None, media_type="text/html", other_media_types=("text/css", _SVG), raises=(NotFoundError,)
)
async def get_documentation_page(call: Call, page: str) -> Reply[str]:
    """Show a page of the documentation, a drawing of it, or its style sheet."""
    url = f"/docs/{page}"
    if url == REFERENCE:
        return _page(call, await asyncio.to_thread(render_overview, _openapi(call)))
    if url == _STYLE:
        return _file(call, read_style(), _CSS)
    body = await asyncio.to_thread(render_page, url)
    return _file(call, body, _SVG) if page.endswith(".svg") else _page(call, body)


@routes.get("/docs/reference/{tag}", right=None, media_type="text/html", raises=(NotFoundError,))
async def get_documentation_reference(call: Call, tag: str) -> Reply[str]:
    """Show the operations of one tag of the reference, with their parameters, bodies and errors."""
    return _page(call, await asyncio.to_thread(render_tag, _openapi(call), tag))


def _openapi(call: Call) -> bytes:
    return call.request.app[OPENAPI]()


def _page(call: Call, body: bytes) -> Reply[str]:
    call.headers |= {"Content-Security-Policy": _ON_PAGES, "Referrer-Policy": "no-referrer"}
    return Reply(body=body, content_type=_HTML)


def _file(call: Call, body: bytes, content_type: str) -> Reply[str]:
    call.headers["Content-Security-Policy"] = _ON_FILES
    return Reply(body=body, content_type=content_type)
