"""Usage of several calls together."""

from typing import Any

import msgspec

from shared.usage.schemas import Usage


def usage_sum(one: Usage, other: Usage) -> Usage:
    """Return the usage of two calls; what only one of them tells is kept."""
    return msgspec.convert(_add(msgspec.to_builtins(one), msgspec.to_builtins(other)), Usage)


def _add(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {**other, **{name: _add(value, other[name]) if name in other else value for name, value in one.items()}}
    return one + other if isinstance(one, int | float) and isinstance(other, int | float) else one
