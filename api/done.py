"""Wait for the end of any job: workers publish the id of each job that is over, after its result is stored."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.queue.keys import done_channel
from shared.tasks import end_tasks, start_background

log = structlog.get_logger()
_PAUSE_S: Final = 0.5
_LISTEN_S: Final = 1.0


class DoneWatch:
    """One subscription per process; it is there only while somebody waits."""

    def __init__(self, redis: Redis, lanes: Sequence[str]) -> None:
        self._redis = redis
        self._channels = [done_channel(lane) for lane in lanes]
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait(self, job_id: str, timeout_s: float) -> None:
        """Return when the job may be over, or after `timeout_s`; the caller looks into the database either way."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.setdefault(job_id, set()).add(done)
        if self._task is None:
            self._task = start_background(self._listen())
        try:
            await asyncio.wait({done}, timeout=timeout_s)
        finally:
            waiting = self._waiting[job_id]
            waiting.discard(done)
            if not waiting:
                del self._waiting[job_id]

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            await end_tasks(self._task)

    async def _listen(self) -> None:
        try:
            while self._waiting:
                try:
                    await self._hear()
                except (RedisError, OSError) as error:
                    log.warning("redis_away", error=repr(error))
                    await asyncio.sleep(_PAUSE_S)
        finally:
            self._task = None

    async def _hear(self) -> None:
        subscription = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            await subscription.subscribe(*self._channels)
            while self._waiting:
                message = await subscription.get_message(timeout=_LISTEN_S)
                if message is not None:
                    self._tell(message["data"].decode())
        finally:
            with suppress(RedisError, OSError):
                await subscription.aclose()  # type: ignore[no-untyped-call]

    def _tell(self, job_id: str) -> None:
        for future in self._waiting.get(job_id, ()):
            if not future.done():
                future.set_result(None)
