"""Whole pages: a text between the list of all pages and the list of its own headings."""

from functools import cache
from html import escape
from string import Template

from api.documentation.files import INDEX, ROOT, file_of
from api.documentation.markdown import Heading, render_file
from shared.errors import NotFoundError

_DEEPEST_LISTED = 3


@cache
def render_page(url: str) -> bytes:
    """Return the page of a file; raises `NotFoundError`."""
    file = file_of(url)
    if file is None:
        raise NotFoundError("Not Found")
    text = (ROOT / file).read_text()
    if file.endswith(".svg"):
        return text.encode()
    rendered = render_file(text, file)
    title = rendered.headings[0].text if rendered.headings else url
    return layout(title, rendered.html, rendered.headings[1:], url)


@cache
def read_style() -> bytes:
    """Return the style sheet of all pages."""
    return (ROOT / "api" / "pages" / "docs.css").read_bytes()


def layout(title: str, body: str, headings: list[Heading], url: str) -> bytes:
    """Return a page around `body`, which is HTML already; `url` is marked in the list of pages."""
    return _template().substitute(
        title=escape(title), body=_accessible(body), pages=_pages(url),
        contents=_list([(one.text, f"#{one.anchor}") for one in headings if one.level <= _DEEPEST_LISTED], url),
    ).encode()  # fmt: skip


def _accessible(body: str) -> str:
    """Return a body in which what scrolls can be reached by keyboard, and heads of tables say something."""
    for plain, better in (
        ("<pre>", '<pre tabindex="0">'),
        ("<table>", '<table tabindex="0">'),
        ("<th></th>", "<td></td>"),
    ):
        body = body.replace(plain, better)
    return body


@cache
def _template() -> Template:
    return Template((ROOT / "api" / "pages" / "docs.html").read_text())


@cache
def _pages(current: str) -> str:
    """Return the list of all pages: the links of the index."""
    links = render_file((ROOT / INDEX).read_text(), INDEX).links
    return _list([("Contents", "/docs"), *links], current)


def _list(links: list[tuple[str, str]], current: str) -> str:
    def item(text: str, address: str) -> str:
        mark = ' aria-current="page"' if address == current else ""
        return f'<li><a href="{escape(address)}"{mark}>{escape(text)}</a></li>'

    return "".join(item(text, address) for text, address in links)
