"""How many attempts of each router began in the last minutes, counted in Redis: what waiting times are told from."""

import asyncio
from collections import Counter
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.clock import now_ms
from shared.tasks import end_tasks

log = structlog.get_logger()
_MINUTE_MS: Final = 60_000
MINUTES: Final = 5
_KEPT_S: Final = (MINUTES + 2) * 60
_TELL_S: Final = 1.0


class Pace:
    """Counts the starts of one worker and tells Redis every second."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._started: Counter[int] = Counter()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tell."""
        self._task = asyncio.get_running_loop().create_task(self._repeat())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            await end_tasks(self._task)

    def note(self, router_id: int) -> None:
        """Count one attempt that has begun."""
        self._started[router_id] += 1

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(_TELL_S)
            if not self._started:
                continue
            started, self._started = self._started, Counter()
            key = _key(now_ms() // _MINUTE_MS)
            try:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for router_id, count in started.items():
                        pipeline.hincrby(key, str(router_id), count)
                    pipeline.expire(key, _KEPT_S)
                    await pipeline.execute()
            except (RedisError, OSError) as error:
                log.warning("pace_not_told", error=repr(error))


async def read_pace(redis: Redis) -> dict[int, float]:
    """Return attempts per minute by router, over the last five whole minutes or as long as there were any."""
    minute = now_ms() // _MINUTE_MS
    async with redis.pipeline(transaction=False) as pipeline:
        for number in range(MINUTES + 1):
            pipeline.hgetall(_key(minute - number))
        current, *earlier = await pipeline.execute()
    total: Counter[int] = Counter()
    for counted in (current, *earlier):
        total.update({int(router_id): int(count) for router_id, count in counted.items()})
    whole = max((number for number, counted in enumerate(earlier, 1) if counted), default=0)
    minutes = max(whole + now_ms() % _MINUTE_MS / _MINUTE_MS, 0.1)
    return {router_id: count / minutes for router_id, count in total.items()}


def _key(minute: int) -> str:
    return f"sluice:started:{minute}"
