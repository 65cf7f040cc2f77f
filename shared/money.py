"""Amounts that are decimal numbers on the wire and integers everywhere else: money in micro-units, CO2e in mg."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Final

from msgspec import Meta

from shared.errors import InvalidFieldError

MICROS_PER_UNIT: Final = 1_000_000
MG_PER_G: Final = 1000
_MAX: Final = Decimal(10**9)
"""Up to here a float on the wire holds every micro-unit exactly."""
_NUMBER: Final = {"type": "number", "format": "double", "minimum": 0, "maximum": 10**9}

Budget = Annotated[Decimal, Meta(description="Money; null is unlimited.", extra_json_schema=_NUMBER)]
CarbonBudget = Annotated[
    Decimal, Meta(description="Grams of CO2e per calendar month (UTC); null is unlimited.", extra_json_schema=_NUMBER)
]


def to_integer(amount: Decimal | None, parts: int, name: str) -> int | None:
    """Return how many parts (`MICROS_PER_UNIT`, ..) the amount has, rounded half-even; raises `InvalidFieldError`."""
    if amount is None:
        return None
    if not amount.is_finite() or not 0 <= amount <= _MAX:
        raise InvalidFieldError(["body", name], f"Expected a number from 0 to {_MAX}")
    return int((amount * parts).to_integral_value(ROUND_HALF_EVEN))


def from_integer(amount: int | None, parts: int) -> float | None:
    """Return the number of the wire; its shortest decimal form is exact."""
    return None if amount is None else amount / parts
