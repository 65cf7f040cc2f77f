"""The OpenAPI description as pages: one with all operations, and one for each tag."""

import re
from collections.abc import Iterator
from functools import lru_cache
from html import escape
from typing import Any

from msgspec import Struct, json

from api.documentation.files import REFERENCE
from api.documentation.markdown import Heading, render_block, render_inline
from api.documentation.pages import layout
from api.documentation.schemas import Schema, anchor_of, describe, members_table, names_in, table
from shared.errors import NotFoundError


class _Operation(Struct, frozen=True):
    method: str
    path: str
    details: dict[str, Any]

    @property
    def anchor(self) -> str:
        return str(self.details["operationId"])


def slug_of(tag: str) -> str:
    """Return the last part of the path of a tag's page."""
    return re.sub(r"\W+", "-", tag.lower()).strip("-")


@lru_cache(maxsize=1)
def render_overview(openapi: bytes) -> bytes:
    """Return the page with all operations by tag."""
    document = json.decode(openapi)
    parts = ["<h1>Reference</h1>", "<p>The same as a file: <a href='/openapi.json'>/openapi.json</a>.</p>"]
    parts.append(render_block(document["info"]["description"]))
    headings = []
    for tag, operations in _by_tag(document).items():
        headings.append(Heading(2, tag, slug_of(tag)))
        page = f"{REFERENCE}/{slug_of(tag)}"
        parts.append(f'<h2 id="{slug_of(tag)}"><a href="{page}">{escape(tag)}</a></h2>')
        parts.append(table(("operation", ""), (_line(page, one) for one in operations)))
    return layout("Reference", "".join(parts), headings, REFERENCE)


def _line(page: str, operation: _Operation) -> tuple[str, str]:
    return (
        f'<a href="{page}#{operation.anchor}">{_name(operation)}</a>',
        render_inline(operation.details["summary"]),
    )


def _name(operation: _Operation) -> str:
    return f'<span class="method">{operation.method}</span> <code>{escape(operation.path)}</code>'


@lru_cache(maxsize=128)
def render_tag(openapi: bytes, slug: str) -> bytes:
    """Return the page of a tag; raises `NotFoundError`."""
    document = json.decode(openapi)
    tag, operations = next(
        ((tag, found) for tag, found in _by_tag(document).items() if slug_of(tag) == slug), (None, [])
    )
    if tag is None:
        raise NotFoundError("Not Found")
    types = _types_of(operations, document["components"]["schemas"])
    headings = [Heading(3, f"{one.method} {one.path}", one.anchor) for one in operations]
    parts = [f"<h1>{escape(tag)}</h1>", f'<p><a href="{REFERENCE}">All operations</a></p>']
    parts += [_section(one) for one in operations]
    if types:
        headings.append(Heading(2, "Types", "types"))
        parts.append('<h2 id="types">Types</h2>')
        parts += [_type(name, schema) for name, schema in types.items()]
    return layout(f"{tag} - Reference", "".join(parts), headings, REFERENCE)


def _by_tag(document: dict[str, Any]) -> dict[str, list[_Operation]]:
    found: dict[str, list[_Operation]] = {}
    for path, methods in document["paths"].items():
        for method, details in methods.items():
            found.setdefault(details["tags"][0], []).append(_Operation(method.upper(), path, details))
    return dict(sorted(found.items()))


def _types_of(operations: list[_Operation], schemas: dict[str, Schema]) -> dict[str, Schema]:
    """Return the types that these operations take and give, and the types in those, by name."""
    found: set[str] = set()
    wanted = {name for one in operations for name in names_in(one.details)}
    while wanted:
        found |= wanted
        wanted = {inner for name in wanted for inner in names_in(schemas[name])} - found
    return {name: schemas[name] for name in sorted(found)}


def _section(operation: _Operation) -> str:
    details = operation.details
    parts = [f'<section id="{escape(operation.anchor)}"><h2>{_name(operation)}</h2>']
    parts += [f"<p>{render_inline(details[name])}</p>" for name in ("summary", "description") if details[name]]
    if "security" not in details:
        parts.append("<p>Needs no key.</p>")
    if details["parameters"]:
        parts.append("<h3>Parameters</h3>" + table(("parameter", "type", ""), map(_parameter, details["parameters"])))
    if "requestBody" in details:
        parts.append("<h3>Body</h3>" + "".join(_content(details["requestBody"]["content"])))
    answers = [(status, one) for status, one in details["responses"].items() if int(status) < 400]
    errors = [(status, one) for status, one in details["responses"].items() if int(status) >= 400]
    parts.append("<h3>Answers</h3>" + table(("status", "body", ""), (_answer(*one) for one in answers)))
    if errors:
        parts.append("<h3>Errors</h3>" + table(("status", "code"), (_error(*one) for one in errors)))
    return "".join(parts) + "</section>"


def _parameter(parameter: dict[str, Any]) -> tuple[str, str, str]:
    about = f"in the {parameter['in']}{', required' if parameter['required'] else ''}."
    described = parameter.get("description") or parameter["schema"].get("description", "")
    name = f"<code>{escape(parameter['name'])}</code>"
    return name, describe(parameter["schema"]), f"{about} {render_inline(described)}"


def _content(content: dict[str, Any]) -> Iterator[str]:
    for media_type, one in content.items():
        yield f"<p><code>{escape(media_type)}</code>: {describe(one['schema'])}</p>"


def _answer(status: str, response: dict[str, Any]) -> tuple[str, str, str]:
    return escape(status), "".join(_content(response.get("content", {}))), render_inline(response["description"])


def _error(status: str, response: dict[str, Any]) -> tuple[str, str]:
    codes = re.split(r" (?=`\w+`: )", response["description"])
    return escape(status), "<br>".join(render_inline(code) for code in codes)


def _type(name: str, schema: Schema) -> str:
    about = f"<p>{render_inline(schema['description'])}</p>" if "description" in schema else ""
    return f'<h3 id="{anchor_of(name)}">{escape(name)}</h3>{about}{members_table(schema)}'
