"""How many examples are tried: few, always the same ones, unless `scripts/fuzz` asks for more."""

import os
from typing import Final

from hypothesis import HealthCheck, settings

_FEW: Final = 100
_ASKED: Final = os.environ.get("FUZZ_EXAMPLES")
settings.register_profile(
    "fuzz",
    max_examples=int(_ASKED or _FEW),
    derandomize=_ASKED is None,
    database=settings.default.database if _ASKED else None,  # type: ignore[union-attr]  # there is a default
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
FUZZED: Final = settings.get_profile("fuzz")
"""Decorates the tests of this folder."""


def share_of(part: float) -> settings:
    """Return the profile with fewer examples, for those that take long."""
    return settings(FUZZED, max_examples=max(int(FUZZED.max_examples * part), 5))
