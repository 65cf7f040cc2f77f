"""Answers as tables for people or as JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

_TIMES = frozenset({"created", "updated", "expires", "last_used_at", "opens_at"})
_WIDE = 1000
"""Columns of a pipe, whose reader cuts lines himself."""


def add_verb(verbs: Any, name: str, text: str, command: Any) -> Any:
    """Return the parser of a new command that prints a table, or JSON if it is told to."""
    add = verbs.add_parser(name, help=text)
    add.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    add.set_defaults(command=command)
    return add


def print_json(value: Any) -> None:
    """Print one document."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print one line per row; a value is not cut where nobody can widen the window."""
    table = Table(box=None)
    for name in columns:
        table.add_column(name, no_wrap=name in ("id", columns[1]), overflow="fold")
    for row in rows:
        table.add_row(*(_text(name, row.get(name)) for name in columns))
    _console().print(table, markup=False)


def print_object(found: Mapping[str, Any]) -> None:
    """Print one member per line."""
    table = Table(box=None, show_header=False)
    for name, value in found.items():
        if name != "object":
            table.add_row(name, _text(name, value))
    _console().print(table, markup=False)


def _console() -> Console:
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


def _text(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in _TIMES:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M")
    if name == "created_at":  # of what comes many times a minute
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S")
    if name == "limits":
        return ", ".join(
            f"{one['router']}:{one['type']}={'-' if one['value'] is None else one['value']}" for one in value
        )
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value) or "-"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else str(value)
