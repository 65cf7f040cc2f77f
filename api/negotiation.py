"""Which of the media types on offer a caller prefers, by the `Accept` header.  Source: RFC 9110, section 12.5.1."""

import re
from collections.abc import Sequence
from typing import Final

_QUALITY: Final = re.compile(r"^(0(\.\d{0,3})?|1(\.0{0,3})?)$")


def preferred(accept: str, offered: Sequence[str]) -> str:
    """Return the type with the highest quality, of equal ones and if none is accepted the one that is offered first."""
    ranges = dict(_range(part) for part in accept.lower().split(",") if part.strip())
    best = max(offered, key=lambda media_type: _quality(ranges, media_type))  # the first one of equals
    return best if _quality(ranges, best) > 0 else offered[0]


def _range(part: str) -> tuple[str, float]:
    """Return a media range and its quality; one that is no number counts as 0."""
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            return name, float(value) if _QUALITY.match(value.strip()) else 0.0
    return name, 1.0


def _quality(ranges: dict[str, float], media_type: str) -> float:
    """Return the quality that the closest range gives to a type."""
    for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return 0.0
