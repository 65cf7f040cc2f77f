"""Make up a document that fits a JSON Schema, as far as models are asked for such documents."""

import hashlib
from typing import Any, Final

_MAX_DEPTH: Final = 8


def make_up(schema: Any, subject: str, depth: int = 0) -> Any:
    """Return a value of this schema: the same one for the same subject."""
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    if isinstance(options := schema.get("enum"), list) and options:
        return options[_number(subject) % len(options)]
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    for name in ("anyOf", "oneOf"):
        if isinstance(choices := schema.get(name), list) and choices:
            return make_up(choices[0], subject, depth + 1)
    kind = schema.get("type")
    return _of_kind(kind[0] if isinstance(kind, list) and kind else kind, schema, subject, depth)


def _of_kind(kind: Any, schema: dict[str, Any], subject: str, depth: int) -> Any:
    if kind == "object":
        members = schema.get("properties")
        named = members.items() if isinstance(members, dict) else ()
        return {name: make_up(one, f"{subject}/{name}", depth + 1) for name, one in named}
    if kind == "array":
        return [make_up(schema.get("items"), f"{subject}/0", depth + 1)]
    number = _number(subject)
    plain = {"number": number % 101 / 100, "integer": number % 10, "boolean": number % 2 == 0, "string": "text"}
    return plain.get(kind)


def _number(subject: str) -> int:
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:4], "big")
