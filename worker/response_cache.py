"""Exact answers, kept for routers that ask for it: the same request gets the same answer without a provider.

Only what is meant to repeat is kept: embeddings and rerankings, and texts asked for with `temperature: 0` or a `seed`,
unstreamed.  The answers are in Redis, and lost with it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import structlog
from msgspec import Struct, json, msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.unreadable import UNREADABLE
from shared.usage.schemas import NANO_PER_UNIT, CacheUse, Impacts

log = structlog.get_logger()
_MAX_BYTES: Final = 1024 * 1024
_ALWAYS: Final = frozenset({"embedding", "rerank"})
_BESIDE: Final = ("model", "user", "metadata", "store", "service_tier", "stream", "stream_options")
"""Members that do not change the answer, or are the same for all who ask this router."""


class CacheLook(Struct, frozen=True, kw_only=True):
    """One call that was looked up; `found` is None if the provider had to be called."""

    key: str
    body: bytes
    found: "CachedReply | None"


class CachedReply(Struct, frozen=True, array_like=True):
    """An answer, and what making it consumed: that is avoided with each repetition."""

    body: bytes
    energy_nwh: int
    carbon_ng: int


def cache_key(router_id: int, operation: str, body: bytes) -> str | None:
    """Return the key of a request; None if its answer is not meant to repeat."""
    try:
        request: dict[str, Any] = json.decode(body)
    except UNREADABLE:
        return None
    has_seed = request.get("seed") not in (None, -1)
    if operation not in _ALWAYS and request.get("temperature") != 0 and not has_seed:
        return None
    kept = {name: value for name, value in request.items() if name not in _BESIDE}
    digest = hashlib.sha256(json.encode([operation, kept], order="sorted")).hexdigest()
    return f"sluice:cache:{router_id}:{digest}"


async def find_reply(redis: Redis, key: str) -> CachedReply | None:
    """Return the answer; None if there is none, or Redis is away."""
    try:
        found = await redis.get(key)
        return None if found is None else msgpack.decode(found, type=CachedReply)
    except (*UNREADABLE, RedisError, OSError) as error:
        log.warning("cache_not_read", error=repr(error))
        return None


async def keep_replies(
    redis: Redis, looks: Sequence[CacheLook], *, energy_nwh: int, carbon_ng: int, ttl_s: int
) -> None:
    """Keep the answers that had to be made, which consumed so much, for a while; very large ones are not kept."""
    missed = [look for look in looks if look.found is None and len(look.body) <= _MAX_BYTES]
    share = max(len(missed), 1)
    try:
        async with redis.pipeline(transaction=False) as pipeline:
            for look in missed:
                reply = CachedReply(look.body, energy_nwh // share, carbon_ng // share)
                pipeline.set(look.key, msgpack.encode(reply), ex=ttl_s)
            await pipeline.execute()
    except (RedisError, OSError) as error:
        log.warning("cache_not_written", error=repr(error))


def avoided(looks: Sequence[CacheLook]) -> CacheUse:
    """Return what the kept answers of a request avoided."""
    found = [look.found for look in looks if look.found is not None]
    return CacheUse(
        hit=True,
        avoided=Impacts(
            kWh=sum(reply.energy_nwh for reply in found) / NANO_PER_UNIT,
            kgCO2eq=sum(reply.carbon_ng for reply in found) / NANO_PER_UNIT,
        ),
    )
