"""Look how the installation is as a whole."""

import asyncio
from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.call import Call
from api.provider_health import health_of, worst
from shared.clock import now_ms, to_iso
from shared.errors import QueueUnavailableError
from shared.models.health import ClusterHealth, Components, Condition
from shared.queue.keys import alive_key
from shared.queue.lanes import INFERENCE

_PATIENCE_S: Final = 2.0


async def look_at_cluster(call: Call) -> ClusterHealth:
    """Return how database, Redis, workers and providers are now; calls no provider."""
    database, redis, workers, providers = await asyncio.gather(
        _database(call), _redis(call), _workers(call), _providers(call)
    )
    parts = Components(database=database, redis=redis, workers=workers, providers=providers)
    conditions = (database, redis, workers, providers)
    is_down = "down" in conditions[:2] or workers == providers == "down"
    status: Condition = "down" if is_down else "ok" if set(conditions) == {"ok"} else "degraded"
    return ClusterHealth(status=status, components=parts, checked_at=to_iso(now_ms()))


async def _database(call: Call) -> Condition:
    try:
        async with asyncio.timeout(_PATIENCE_S), call.state.database.read() as session:
            await session.exec(text("SELECT 1"))  # type: ignore[call-overload]  # any statement will do
    except (SQLAlchemyError, OSError, TimeoutError):
        return "down"
    return "ok"


async def _redis(call: Call) -> Condition:
    return _of_all([shard.inbox.is_connected for shard in call.state.shards])


def _of_all(goods: Sequence[bool]) -> Condition:
    return "ok" if all(goods) else "degraded" if any(goods) else "down"


async def _workers(call: Call) -> Condition:
    return _of_all(await asyncio.gather(*(_has_workers(shard.redis) for shard in call.state.shards)))


async def _has_workers(redis: Redis) -> bool:
    try:
        seconds, micros = await redis.time()
        return bool(await redis.zcount(alive_key(INFERENCE), seconds * 1000 + micros // 1000, "+inf"))
    except (RedisError, OSError):
        return False


async def _providers(call: Call) -> Condition:
    """Return `ok` if every model has a provider that works, `down` if none has."""
    routers = [router for router in call.state.directory.routers() if router.providers]
    try:
        healths = await health_of(call, routers)
    except QueueUnavailableError:
        return "down"
    lights = [worst(healths[router.id]) for router in routers]
    if routers and all(one.status == "red" for router in routers for one in healths[router.id]):
        return "down"
    return "degraded" if "red" in lights else "ok"
