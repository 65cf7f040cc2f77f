"""Hold answers against the vendor's own description of its API."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_DESCRIPTION = Path(__file__).parent / "data" / "inflection-openapi.json"


@cache
def description() -> dict[str, Any]:
    """Return the description."""
    found: dict[str, Any] = json.loads(_DESCRIPTION.read_text())
    return found


def hold_against(name: str, document: Any) -> None:
    """Fail unless a document is what the schema of this name describes."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": description()["components"]}
    Draft202012Validator(schema).validate(document)
