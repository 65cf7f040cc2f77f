"""What is known of providers, shared by all workers through Redis and at most half a second old.

Circuit breaker: after 5 failures in a row for at least a second, or as long as the provider asks with `Retry-After`,
nothing is sent there (open, 2 to 10 s); then one attempt at a time (half-open) until one succeeds (closed).
Batches: how many inputs a provider took that had refused more, for an hour, since servers change.
Samples: time to first token, latency and tokens per second of the attempts of the last two minutes.
"""

import asyncio
import time
from pathlib import Path
from typing import Final, cast

import structlog
from msgspec import Struct
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from shared.clock import now_ms
from shared.ids import new_ulid
from shared.provider_health import NO_FIGURES, OPEN_KEY, SAMPLES_S, Figures, samples_key, to_figures
from shared.tasks import end_tasks

log = structlog.get_logger()
PROBE_S: Final = 10
_MAX_SAMPLES: Final = 1000
_MAX_SHARED: Final = 50
"""Samples of a provider that one worker shares at a time."""
_OPEN_AFTER: Final = 5
_OPEN_AFTER_MS: Final = 1000
"""A burst of failures at the same moment is not enough."""
_FIRST_PAUSE_MS: Final = 2_000
_LONGEST_PAUSE_MS: Final = 10_000
_REFRESH_S: Final = 0.5
_WATCHED_S: Final = 60.0
_ASK_AGAIN_S: Final = 0.5
_BATCH_KNOWN_S: Final = 3600
_FAIL: Final = Path(__file__).parent / "scripts" / "fail.lua"


class Sample(Struct, frozen=True, array_like=True):
    """One successful attempt."""

    ttft_ms: int | None
    latency_ms: int
    tokens_per_s: float | None


class Health:
    """What this process knows of providers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._fail = AsyncScript(redis, _FAIL.read_text())
        self._open_until: dict[int, int] = {}
        self._figures: dict[int, Figures] = {}
        self._watched: dict[int, float] = {}
        self._probed: dict[int, float] = {}
        """When this process asked last whether it may probe."""
        self._samples: dict[int, list[Sample]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to exchange what is known with the other workers."""
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            await end_tasks(self._task)

    def opens_ms(self, provider_id: int) -> int:
        """Return until when nothing may be sent to the provider, Unix ms; in the past: half-open; 0: closed."""
        return self._open_until.get(provider_id, 0)

    def figures(self, provider_id: int) -> Figures:
        """Return the figures of a provider, which is watched from now on."""
        self._watched[provider_id] = time.monotonic()
        return self._figures.get(provider_id, NO_FIGURES)

    async def may_probe(self, provider_id: int) -> bool:
        """Return whether this attempt is the one that may try a provider that is not well."""
        now = time.monotonic()
        if now - self._probed.get(provider_id, 0.0) < _ASK_AGAIN_S:
            return False
        self._probed[provider_id] = now
        key = f"sluice:provider:{provider_id}:probe"
        return bool(await self._redis.set(key, 1, nx=True, px=PROBE_S * 1000))

    def succeeded(self, provider_id: int, sample: Sample) -> None:
        """Note a success."""
        samples = self._samples.setdefault(provider_id, [])
        if len(samples) < _MAX_SHARED:
            samples.append(sample)

    async def close_breaker(self, provider_id: int) -> None:
        """Send everything there again."""
        self._open_until.pop(provider_id, None)
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.zrem(OPEN_KEY, str(provider_id))
                pipeline.delete(f"sluice:provider:{provider_id}:failures", f"sluice:provider:{provider_id}:probe")
                await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("breaker_not_closed", provider_id=provider_id, error=repr(error))

    async def failed(self, provider_id: int, retry_after_s: float | None) -> None:
        """Note a failure; opens the breaker if it was one too many, or the provider asks for a pause."""
        asked_ms = int((retry_after_s or 0.0) * 1000)
        arguments = [provider_id, _OPEN_AFTER, _OPEN_AFTER_MS, _FIRST_PAUSE_MS, _LONGEST_PAUSE_MS, asked_ms]
        try:
            until = cast(int, await self._fail(args=arguments))
        except (RedisError, OSError) as error:
            log.warning("failure_not_shared", provider_id=provider_id, error=repr(error))
            return
        self._open_until[provider_id] = until or self._open_until.get(provider_id, -1)
        if until:
            log.warning("provider_paused", provider_id=provider_id, seconds=round((until - now_ms()) / 1000, 1))

    async def learned_batch(self, provider_id: int) -> int | None:
        """Return how many inputs the provider took lately when more were refused; None if nothing is known."""
        try:
            found = await self._redis.get(f"sluice:provider:{provider_id}:batch")
        except (RedisError, OSError) as error:
            log.warning("batch_not_known", provider_id=provider_id, error=repr(error))
            return None
        return None if found is None else int(found)

    async def learn_batch(self, provider_id: int, inputs: int) -> None:
        """Remember how many inputs the provider takes."""
        try:
            await self._redis.set(f"sluice:provider:{provider_id}:batch", inputs, ex=_BATCH_KNOWN_S)
        except (RedisError, OSError) as error:
            log.warning("batch_not_learned", provider_id=provider_id, error=repr(error))

    def has_failed(self, provider_id: int) -> bool:
        """Return whether a success would be news."""
        return provider_id in self._open_until

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            try:
                await self._share()
                await self._learn()
            except (RedisError, OSError) as error:
                log.warning("provider_health_unknown", error=repr(error))

    async def _share(self) -> None:
        shared, self._samples = self._samples, {}
        if not shared:
            return
        now = now_ms()
        async with self._redis.pipeline(transaction=False) as pipeline:
            for provider_id, samples in shared.items():
                key = samples_key(provider_id)
                pipeline.zadd(key, {_member(sample): now for sample in samples})
                pipeline.zremrangebyrank(key, 0, -_MAX_SAMPLES - 1)
                pipeline.expire(key, SAMPLES_S)
            await pipeline.execute()

    async def _learn(self) -> None:
        oldest = time.monotonic() - _WATCHED_S
        self._watched = {number: at for number, at in self._watched.items() if at > oldest}
        watched, since = list(self._watched), now_ms() - SAMPLES_S * 1000
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zrange(OPEN_KEY, 0, -1, withscores=True)
            for provider_id in watched:
                pipeline.zrangebyscore(samples_key(provider_id), since, "+inf")
            found, *samples = await pipeline.execute()
        shared = {int(number): int(until) for number, until in found}
        own = {number: until for number, until in self._open_until.items() if until == -1}
        self._open_until = own | shared
        figures = zip(watched, samples, strict=True)
        self._figures = {number: to_figures(member.decode() for member in members) for number, members in figures}


def _member(sample: Sample) -> str:
    words = (
        f"{value:.6g}" if value is not None else ""
        for value in (sample.ttft_ms, sample.latency_ms, sample.tokens_per_s)
    )
    return ":".join((*words, new_ulid()))
