"""Tells Redis which stream jobs have a reader in this process; see `shared.readers`."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.readers import keep_read
from shared.tasks import end_tasks, start_background

log = structlog.get_logger()


class Readers:
    """The stream jobs that are read here."""

    def __init__(self, redis: Redis, grace_s: float) -> None:
        self._redis = redis
        self._grace_s = grace_s
        self._reading: Counter[str] = Counter()
        self._leaving: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tell."""
        self._task = start_background(self._repeat())

    @contextmanager
    def reading(self, job_id: str, *, counts: bool) -> Iterator[None]:
        """Count as a reader of the job; afterwards it may stay unread for the grace period.

        A job that runs whether it is read or not has no readers that count: once known, it would be cancelled.
        """
        if not counts:
            yield
            return
        self._reading[job_id] += 1
        try:
            yield
        finally:
            self._reading[job_id] -= 1
            if not self._reading[job_id]:
                del self._reading[job_id]

    @contextmanager
    def reading_again(self, job_id: str, *, counts: bool) -> Iterator[None]:
        """Count as a reader that came back, which is told at once: the grace period may be nearly over.

        Afterwards the job may stay unread for the grace period.
        """
        if not counts:
            yield
            return
        try:
            with self.reading(job_id, counts=True):
                self._wake.set()
                yield
        finally:
            self.leave(job_id)

    def leave(self, job_id: str) -> None:
        """Say that the reader left before the end, which begins the grace period."""
        self._leaving.add(job_id)
        self._wake.set()

    async def close(self) -> None:
        """Stop telling."""
        if self._task is not None:
            await end_tasks(self._task)

    async def _repeat(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._grace_s / 3):
                    await self._wake.wait()
            self._wake.clear()
            leaving, self._leaving = self._leaving, set()
            if jobs := set(self._reading) | leaving:
                try:
                    await keep_read(self._redis, jobs, self._grace_s)
                except (RedisError, OSError) as error:
                    self._leaving |= leaving
                    log.warning("redis_away", error=repr(error))
