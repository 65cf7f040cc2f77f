"""Markdown as HTML: what looks like HTML in a file is shown as text."""

import re
from functools import cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from msgspec import Struct

from api.documentation.files import url_of

_LEFT_OUT: Final = re.compile(r"[^\w\- ]")


class Heading(Struct, frozen=True):
    """A heading; `anchor` is what a Git host makes of it, too."""

    level: int
    text: str
    anchor: str


class Rendered(Struct, frozen=True):
    """A file as HTML; the links of it in order, as (text, address)."""

    html: str
    headings: list[Heading]
    links: list[tuple[str, str]]


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def render_inline(text: str) -> str:
    """Return one line of Markdown as HTML without a paragraph around it."""
    return str(_parser().renderInline(text))


def render_block(text: str) -> str:
    """Return Markdown without links between files as HTML."""
    return str(_parser().render(text))


def render_file(text: str, file: str) -> Rendered:
    """Return the text of a file as HTML; links to files that are not served become their text."""
    parser = _parser()
    tokens = parser.parse(text)
    headings: list[Heading] = []
    links: list[tuple[str, str]] = []
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            headings.append(_heading(token, tokens[place + 1], {one.anchor for one in headings}))
        if token.children:
            token.children = _with_urls(token.children, file, links)
    return Rendered(str(parser.renderer.render(tokens, parser.options, {})), headings, links)


def _heading(opening: Token, inline: Token, taken: set[str]) -> Heading:
    text = _text_of(inline.children or [])
    anchor = base = _LEFT_OUT.sub("", text.lower()).replace(" ", "-")
    count = 0
    while anchor in taken:
        count += 1
        anchor = f"{base}-{count}"
    opening.attrSet("id", anchor)
    return Heading(int(opening.tag[1]), text, anchor)


def _text_of(tokens: list[Token]) -> str:
    return "".join(token.content for token in tokens if token.type in ("text", "code_inline"))


def _with_urls(tokens: list[Token], file: str, links: list[tuple[str, str]]) -> list[Token]:
    """Return the tokens of a paragraph with addresses in place of files; notes the links."""
    kept: list[Token] = []
    is_served: list[bool] = []
    for place, token in enumerate(tokens):
        if token.type == "link_open":
            url = url_of(str(token.attrGet("href")), file)
            is_served.append(url is not None)
            if url is None:
                continue
            token.attrSet("href", url)
            links.append((_text_of(tokens[place + 1 : _end_of_link(tokens, place)]), url))
        elif token.type == "link_close" and not is_served.pop():
            continue
        elif token.type == "image":
            token.attrSet("src", url_of(str(token.attrGet("src")), file) or "")
        kept.append(token)
    return kept


def _end_of_link(tokens: list[Token], place: int) -> int:
    return next(i for i in range(place, len(tokens)) if tokens[i].type == "link_close")
