"""Many inputs in as few calls of a provider as it takes."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from worker.providers.base import ProviderError

T = TypeVar("T")
R = TypeVar("R")
_REFUSALS: Final = frozenset({400, 413, 422})
_ABOUT_SIZE: Final = re.compile(r"too (many|large)|at most|max|limit|exceed|size", re.IGNORECASE)
_ABOUT_ONE: Final = re.compile(r"context|sequence|must have less than|dimension", re.IGNORECASE)


async def call_in_batches(inputs: Sequence[T], most: int, call: Callable[[int, Sequence[T]], Awaitable[R]]) -> list[R]:
    """Return the results of the calls, each with the index of its first input and at most `most` inputs.

    A batch that the provider refuses for its size is halved, and no later one is larger.  Raises `ProviderError`.
    """
    results: list[R] = []
    start = 0
    while start < len(inputs):
        batch = inputs[start : start + most]
        try:
            results.append(await call(start, batch))
        except ProviderError as error:
            if len(batch) == 1 or not _is_about_size(error):
                raise
            most = (len(batch) + 1) // 2
        else:
            start += len(batch)
    return results


def _is_about_size(error: ProviderError) -> bool:
    """Return whether fewer inputs may help.  Servers tell in words of their own; a needless call is cheap."""
    if error.status not in _REFUSALS:
        return False
    if "batch" in error.message.lower():
        return True
    return not _ABOUT_ONE.search(error.message) and (error.status == 413 or bool(_ABOUT_SIZE.search(error.message)))
