"""Callers who wait for a router whose providers are full: they are sent away after a while."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from shared.tasks import end_tasks, start_background

_LOOK_S: Final = 0.25
_AT_ONCE: Final = 500
GiveUp = Callable[[list[str]], Awaitable[None]]


class Patience:
    """Names jobs that were accepted `wait_s` ago."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._due: deque[tuple[float, str]] = deque()
        self._task: asyncio.Task[None] | None = None

    def start(self, give_up: GiveUp) -> None:
        """Begin to call `give_up` with the ids of jobs whose time is over."""
        self._task = start_background(self._repeat(give_up))

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            await end_tasks(self._task)

    def add(self, job_id: str) -> None:
        """Note that a caller waits for this job from now on."""
        self._due.append((asyncio.get_running_loop().time() + self._wait_s, job_id))

    async def _repeat(self, give_up: GiveUp) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            while self._due and self._due[0][0] <= loop.time():
                count = sum(due <= loop.time() for due, _ in list(self._due)[:_AT_ONCE])
                await give_up([self._due.popleft()[1] for _ in range(count)])
