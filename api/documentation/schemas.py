"""JSON Schema for readers: what a value may be, in one line; members in a table."""

import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final

from api.documentation.markdown import render_inline

Schema = dict[str, Any]
_PREFIX: Final = "#/components/schemas/"
_LIMITS: Final = {
    "minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters", "maxLength": "at most {} characters", "minItems": "at least {}",
    "maxItems": "at most {}", "maxProperties": "at most {} members", "pattern": "pattern {}", "format": "{}",
}  # fmt: skip


def anchor_of(name: str) -> str:
    """Return the id of a type on a page."""
    return "type-" + re.sub(r"\W", "-", name)


def name_of(schema: Schema) -> str | None:
    """Return the name of the type that a schema refers to."""
    return str(schema["$ref"]).removeprefix(_PREFIX) if "$ref" in schema else None


def describe(schema: Schema) -> str:
    """Return what a value may be, as HTML; named types are links to `anchor_of`."""
    if name := name_of(schema):
        return f'<a href="#{anchor_of(name)}">{escape(name)}</a>'
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(describe(one) for one in choices))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"<code>{escape(str(one))}</code>" for one in schema.get("enum") or [schema["const"]])
    kind = schema.get("type", "any")
    if kind == "array":
        text = f"list of {describe(schema['items'])}" if schema.get("items") else "list"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        text = f"object of {describe(schema['additionalProperties'])}"
    else:
        text = escape(" or ".join(kind) if isinstance(kind, list) else str(kind))
    limits = [escape(form.format(schema[name])) for name, form in _LIMITS.items() if name in schema]
    return f"{text} ({', '.join(limits)})" if limits else text


def members_table(schema: Schema) -> str:
    """Return the members of an object as a table; of anything else, what it may be."""
    properties: dict[str, Schema] = schema.get("properties", {})
    if not properties:
        return f"<p>{describe(schema)}</p>"
    required = schema.get("required", ())
    return table(
        ("member", "type", ""),
        [
            (f"<code>{escape(name)}</code>", describe(one), _about(one, is_required=name in required))
            for name, one in properties.items()
        ],
    )


def _about(schema: Schema, *, is_required: bool) -> str:
    said = list(dict.fromkeys(_descriptions(schema)))
    words = ["required." if is_required else _default(schema), *(render_inline(text) for text in said)]
    return " ".join(word for word in words if word)


def _default(schema: Schema) -> str:
    default = schema.get("default")
    return "" if default in (None, "", [], {}) else f"default <code>{escape(str(default))}</code>."


def _descriptions(schema: Schema) -> Iterator[str]:
    if "description" in schema:
        yield schema["description"]
    for one in schema.get("anyOf", ()):
        yield from _descriptions(one)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of cells that are HTML already."""
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def names_in(value: Any) -> Iterator[str]:
    """Yield the names of all types that a part of the reference refers to."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield str(name_of(value))
        for one in value.values():
            yield from names_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from names_in(one)
