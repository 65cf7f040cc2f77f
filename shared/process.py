"""What api and worker processes do alike when they start."""

import gc
from typing import Final

_YOUNG_OBJECTS: Final = 50_000
"""Allocations between two looks for cycles; requests make few, and Python's default of 700 costs 5 % of a worker."""


def tune_collector() -> None:
    """Keep the garbage collector away from what was imported, and call it less often; after start-up, once."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 50)
