"""How full the queue is: looked up every second, so that accepting a job costs no question."""

import asyncio

import structlog
from redis.exceptions import RedisError

from shared.queue.job_queue import JobQueue
from shared.tasks import end_tasks, start_background

log = structlog.get_logger()
_PAUSE_S = 1.0


class QueueLoad:
    """Knows whether the queue takes more jobs."""

    def __init__(self, queue: JobQueue, max_queued: int) -> None:
        self.is_full = False
        self._queue = queue
        self._max_queued = max_queued
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = start_background(self._repeat())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            await end_tasks(self._task)

    async def _repeat(self) -> None:
        while True:
            try:
                self.is_full = await self._queue.depth() >= self._max_queued
            except (RedisError, OSError) as error:
                log.warning("redis_away", error=repr(error))
            await asyncio.sleep(_PAUSE_S)
