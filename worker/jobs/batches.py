"""Many inputs in as few calls of a provider as it takes.

How many inputs a provider takes was told by its operator, was found out an hour ago at most, or is found out by the
first call; the others are sent a few at a time.  What the calls of an attempt consumed is recorded even if one of them
fails.
"""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from worker.context import JobContext, TokenCount
from worker.providers.base import ProviderError


class Batch(Protocol):
    """What one call gave."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of its inputs."""
        ...

    @property
    def is_estimated(self) -> bool:
        """Whether they were counted here."""
        ...


T = TypeVar("T")
B = TypeVar("B", bound=Batch)
_AT_ONCE: Final = 4
"""Calls of one attempt at a provider without an `inflight` limit."""
_REFUSALS: Final = frozenset({400, 413, 422})
_ABOUT_SIZE: Final = re.compile(r"too (many|large)|at most|max|limit|exceed|size", re.IGNORECASE)
_ABOUT_ONE: Final = re.compile(r"context|sequence|must have less than|dimension", re.IGNORECASE)
_TOO_LONG: Final = re.compile(
    r"context.{0,9}length|sequence length|less than \d+ tokens|max\w* \d+ tokens", re.IGNORECASE
)
_COUNTED: Final = re.compile(r"batch|too many|(number|amount) of|items|entries|array", re.IGNORECASE)
"""Says that there were too many inputs, rather than too many bytes or tokens in them."""
_UNKNOWN_TOKEN: Final = re.compile(r"vocab|token ids?\b", re.IGNORECASE)


async def call_in_batches(
    ctx: JobContext, inputs: Sequence[T], call: Callable[[int, Sequence[T]], Awaitable[B]]
) -> list[B]:
    """Return the results of the calls, each with the index of its first input, in the order of the inputs.

    A batch that the provider refuses for its size is halved.  Raises `ProviderError`.
    """
    done: dict[int, B] = {}
    has_counted = False
    """Whether the provider refused a number of inputs."""
    ctx.count_so_far = lambda: count_batches(done.values())

    async def send(start: int, most: int) -> int:
        """Send as many as the provider takes; returns how many that are."""
        nonlocal has_counted
        while True:
            batch = inputs[start : start + most]
            try:
                done[start] = await call(start, batch)
            except ProviderError as error:
                if len(batch) == 1 or not _is_about_size(error):
                    raise _to_unprocessable(error) from error
                has_counted = has_counted or _COUNTED.search(error.message) is not None
                most = (len(batch) + 1) // 2
            else:
                return len(batch)

    taken = await send(0, await _most_inputs(ctx, len(inputs)))
    if has_counted:
        await ctx.runtime.routing.health.learn_batch(ctx.provider.id, taken)
    ranges = deque((start, min(start + taken, len(inputs))) for start in range(taken, len(inputs), taken))
    await _send_all(ranges, send, _AT_ONCE if ctx.provider.most_attempts is None else 1)
    return [done[start] for start in sorted(done)]


async def _most_inputs(ctx: JobContext, wanted: int) -> int:
    """Return how many inputs to try in one call."""
    if ctx.kept is not None:
        return wanted
    if ctx.provider.max_batch is not None:
        return ctx.provider.max_batch
    usual = ctx.runtime.adapters[ctx.provider.type].max_inputs
    if wanted == 1:
        return usual
    return min(await ctx.runtime.routing.health.learned_batch(ctx.provider.id) or usual, usual)


async def _send_all(ranges: deque[tuple[int, int]], send: Callable[[int, int], Awaitable[int]], at_once: int) -> None:
    """Send these ranges of inputs, a few at a time; raises the first failure once no call is under way."""
    failures: list[ProviderError] = []

    async def work() -> None:
        while ranges and not failures:
            start, stop = ranges.popleft()
            try:
                while start < stop:
                    start += await send(start, stop - start)
            except ProviderError as error:
                failures.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(ranges))):
            group.create_task(work())
    if failures:
        raise failures[0]


def count_batches(batches: Iterable[Batch]) -> TokenCount:
    """Return the tokens of these calls."""
    found = list(batches)
    return TokenCount(
        prompt=sum(batch.prompt_tokens for batch in found),
        is_estimated=any(batch.is_estimated for batch in found),
        calls=len(found),
    )


def _is_about_size(error: ProviderError) -> bool:
    """Return whether fewer inputs may help.  Servers tell in words of their own; a needless call is cheap."""
    if error.status not in _REFUSALS:
        return False
    if "batch" in error.message.lower():
        return True
    return not _ABOUT_ONE.search(error.message) and (error.status == 413 or bool(_ABOUT_SIZE.search(error.message)))


def _to_unprocessable(error: ProviderError) -> ProviderError:
    """Return the error with the status that it has if it is found here: 422 for texts and tokens no model can take."""
    if error.status in _REFUSALS and error.blame == "request":
        if error.code == "context_length_exceeded" or _TOO_LONG.search(error.message):
            error.status, error.code = 422, "context_length_exceeded"
        elif _UNKNOWN_TOKEN.search(error.message):
            error.status = 422
    return error
