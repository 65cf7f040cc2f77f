"""Choose the provider of an attempt.

1. Providers that were tried, or whose breaker is open, are out.
2. Those whose breaker is half-open, or whose figures miss their quality of service, get one attempt in ten seconds.
3. Of the rest the strategy of the router prefers one; `inflight` limits hold exactly over all workers.
4. If the router has none, its fallback router is asked.

A router that needs nothing shared (no limits, not `least_busy`) is served without a round trip.
"""

import asyncio
import random
from collections.abc import Sequence
from functools import lru_cache
from math import inf
from typing import Final, Literal

import structlog
from msgspec import Struct
from redis.exceptions import RedisError

from shared.carbon.footprint import Profile, compute_footprint
from shared.clock import now_ms
from shared.directory import Directory, Provider, Router
from shared.queue.job_queue import JobQueue
from shared.queue.lanes import group_of
from shared.tasks import end_tasks
from worker.response_cache import CacheLook
from worker.routing.health import Health, Sample
from worker.routing.slots import Slots

log = structlog.get_logger()
_BUSY_PAUSE_S: Final = 0.1
_PROBE_PAUSE_S: Final = 1.0
"""Another attempt is trying the provider."""
_WITHOUT_REDIS_S: Final = 0.5
_CAPS_S: Final = 0.5
_CAPS_ANYWAY_TURNS: Final = 20
_TOKENS: Final = 1000


class Choice(Struct, frozen=True):
    """A provider, and its slot if its attempts are counted; it is not called if the answer was kept."""

    provider: Provider
    slot: str | None = None
    kept: CacheLook | None = None


class NoChoice(Struct, frozen=True):
    """Why no provider can be used now, and when to ask again."""

    reason: Literal["busy", "paused"]
    delay_s: float


class Routing:
    """Chooses providers and learns how they did; one per process."""

    def __init__(self, directory: Directory, health: Health, slots: Slots, queue: JobQueue) -> None:
        self.health = health
        self._directory = directory
        self._slots = slots
        self._queue = queue
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tell the queue how many jobs of a router can run."""
        self.health.start()
        self._slots.start()
        self._task = asyncio.get_running_loop().create_task(self._tell_caps())

    async def close(self) -> None:
        """Stop; slots that are held end with their lease."""
        if self._task is not None:
            await end_tasks(self._task)
        await self._slots.close()
        await self.health.close()

    def candidates(self, router: Router, tried: set[int]) -> list[Provider]:
        """Return the providers that are left for a job, those of the fallback router last."""
        fallback = self._directory.peek_by_id(router.fallback_id) if router.fallback_id is not None else None
        known = (*router.providers, *(() if fallback is None else fallback.providers))
        return [provider for provider in known if provider.id not in tried]

    async def choose(self, router: Router, tried: set[int], *, is_stream: bool) -> Choice | NoChoice | None:
        """Return a provider with room; None if the job has tried all there are."""
        left = self.candidates(router, tried)
        if not left:
            return None
        try:
            own = [provider for provider in left if provider.router_id == router.id]
            others = [provider for provider in left if provider.router_id != router.id]
            for tier in (own, others):
                if tier and (choice := await self._take(router, tier, is_stream=is_stream)) is not None:
                    return choice
        except (RedisError, OSError) as error:
            log.warning("no_provider_chosen", error=repr(error))
            return NoChoice("busy", _WITHOUT_REDIS_S)
        now = now_ms()
        opens = min(self.health.opens_ms(provider.id) for provider in left)
        if opens > 0:
            return NoChoice("paused", max((opens - now) / 1000, _PROBE_PAUSE_S))
        return NoChoice("busy", _BUSY_PAUSE_S)

    async def _take(self, router: Router, tier: list[Provider], *, is_stream: bool) -> Choice | None:
        now = now_ms()
        ready, probing = list[Provider](), list[Provider]()
        for provider in tier:
            until = self.health.opens_ms(provider.id)
            if until > now:
                continue
            (probing if until > 0 or not self._keeps_quality(provider) else ready).append(provider)
        for provider in random.sample(probing, len(probing)):
            if await self.health.may_probe(provider.id):
                ready = [provider]  # should it fail, the others are still there
                break
        return await self._acquire(router, ready, is_stream=is_stream) if ready else None

    def _keeps_quality(self, provider: Provider) -> bool:
        if provider.qos_metric in (None, "inflight"):
            return True
        return self.health.figures(provider.id).keep(provider.qos_metric, provider.qos_limit)

    async def _acquire(self, router: Router, ready: list[Provider], *, is_stream: bool) -> Choice | None:
        ordered = self._order(router.load_balancing_strategy, ready, is_stream=is_stream)
        is_least = router.load_balancing_strategy == "least_busy"
        if not is_least and ordered[0].most_attempts is None:
            return Choice(ordered[0])
        taken = await self._slots.acquire([(one.id, one.most_attempts) for one in ordered], least=is_least)
        if taken is None:
            return None
        return next(Choice(provider, taken[1]) for provider in ordered if provider.id == taken[0])

    def _order(self, strategy: str, ready: Sequence[Provider], *, is_stream: bool) -> list[Provider]:
        """Return the providers in the order of preference; equal ones at random."""
        shuffled = random.sample(ready, len(ready))
        if strategy == "weighted":
            shuffled.sort(key=lambda one: random.random() ** (1 / one.weight), reverse=True)  # noqa: S311  # no secret
        elif strategy == "lowest_carbon":
            shuffled.sort(key=lambda one: _kg_per_token(one.profile))
        elif strategy == "least_busy":
            shuffled.sort(key=lambda one: self._slowness(one, is_stream=is_stream))
        return shuffled

    def _slowness(self, provider: Provider, *, is_stream: bool) -> float:
        figures = self.health.figures(provider.id)
        found = figures.ttft_p95_ms if is_stream else figures.latency_p95_ms
        return -1.0 if found is None else found

    def leave(self, choice: Choice) -> None:
        """Give the slot back: the attempt is over."""
        if choice.slot is not None:
            self._slots.release(choice.provider.id, choice.slot)

    async def succeeded(self, provider: Provider, sample: Sample) -> None:
        """Learn from a success."""
        self.health.succeeded(provider.id, sample)
        if self.health.has_failed(provider.id):
            await self.health.close_breaker(provider.id)

    async def failed(self, provider: Provider, retry_after_s: float | None) -> None:
        """Learn from a failure that is not the request's fault."""
        if provider.type != "simulator":  # it fails since it was told to
            await self.health.failed(provider.id, retry_after_s)

    async def _tell_caps(self) -> None:
        """Keep the queue from giving out more jobs of a router than its providers take; the rest waits there."""
        known, turns = -1, 0
        while True:
            if known != self._directory.revision or turns >= _CAPS_ANYWAY_TURNS:
                caps = {group_of(one.id): one.capacity for one in self._directory.routers() if one.capacity is not None}
                try:
                    await self._queue.set_caps(caps)
                    known, turns = self._directory.revision, 0
                except (RedisError, OSError) as error:
                    log.warning("caps_not_told", error=repr(error))
            turns += 1
            await asyncio.sleep(_CAPS_S)


@lru_cache(maxsize=1000)
def _kg_per_token(profile: Profile) -> float:
    """Return what a token emits; of a model without known parameters, more than any other."""
    if profile.source == "none":
        return inf
    found = compute_footprint(profile, _TOKENS, None)
    return (found.operational_kg + found.embodied_kg) / _TOKENS
