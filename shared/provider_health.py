"""What workers tell one another, and the api, about providers; all of it in Redis, and lost with it.

    sluice:providers:open            sorted set: provider -> Unix ms until which nothing is sent; past: half-open
sluice:provider:{id}:failures    hash: failures in a row, since when, the last pause
sluice:provider:{id}:probe       there is an attempt that tries a provider that is not well
sluice:provider:{id}:samples     sorted set by time: "ttft:latency:rate:id" of successful attempts
sluice:provider:{id}:running     sorted set: attempt -> end of its lease; of providers whose attempts are counted
"""

from collections.abc import Iterable, Sequence
from math import ceil
from statistics import median
from typing import Final

from msgspec import Struct
from redis.asyncio import Redis

from shared.clock import now_ms

SAMPLES_S: Final = 120
OPEN_KEY: Final = "sluice:providers:open"


class Figures(Struct, frozen=True, kw_only=True):
    """The samples of a provider in short; None without samples."""

    ttft_p95_ms: float | None = None
    latency_p95_ms: float | None = None
    tokens_per_s: float | None = None
    """Median."""

    def keep(self, metric: str | None, limit: float | None) -> bool:
        """Return whether a quality of service is kept; without samples it is, and `inflight` is kept by counting."""
        if limit is None or metric in (None, "inflight"):
            return True
        if metric == "performance":
            return self.tokens_per_s is None or self.tokens_per_s >= limit
        found = self.ttft_p95_ms if metric == "ttft" else self.latency_p95_ms
        return found is None or found <= limit


NO_FIGURES: Final = Figures()


class ProviderState(Struct, frozen=True, kw_only=True):
    """A provider at one instant."""

    opens_ms: int
    """Nothing is sent there before this Unix ms; in the past: half-open; 0: closed."""
    failures: int
    running: int
    figures: Figures


async def read_states(shards: Sequence[Redis], provider_ids: Sequence[int]) -> dict[int, ProviderState]:
    """Return what is known of these providers: of each shard the worst, of all what runs."""
    if not provider_ids:
        return {}
    found = [await _read_states(redis, provider_ids) for redis in shards]
    return {number: _joined([states[number] for states in found]) for number in provider_ids}


def _joined(states: Sequence[ProviderState]) -> ProviderState:
    worst = max(states, key=lambda state: (state.opens_ms, state.failures))
    known = [state.figures for state in states if state.figures != NO_FIGURES]
    return ProviderState(
        opens_ms=worst.opens_ms,
        failures=worst.failures,
        running=sum(state.running for state in states),
        figures=max(known, key=lambda figures: figures.latency_p95_ms or 0.0, default=NO_FIGURES),
    )


async def _read_states(redis: Redis, provider_ids: Sequence[int]) -> dict[int, ProviderState]:
    """Return what one shard knows of these providers, in one round trip."""
    now = now_ms()
    async with redis.pipeline(transaction=False) as pipeline:
        for number in provider_ids:
            pipeline.zscore(OPEN_KEY, str(number))
            pipeline.hget(f"sluice:provider:{number}:failures", "count")
            pipeline.zcount(f"sluice:provider:{number}:running", now, "+inf")
            pipeline.zrangebyscore(samples_key(number), now - SAMPLES_S * 1000, "+inf")
        found = await pipeline.execute()
    rows = zip(provider_ids, found[::4], found[1::4], found[2::4], found[3::4], strict=True)
    return {
        number: ProviderState(
            opens_ms=int(until or 0),
            failures=int(failures or 0),
            running=running,
            figures=to_figures(member.decode() for member in samples),
        )
        for number, until, failures, running, samples in rows
    }


def samples_key(provider_id: int) -> str:
    """Return the key of a provider's samples."""
    return f"sluice:provider:{provider_id}:samples"


def to_figures(members: Iterable[str]) -> Figures:
    """Return the figures of samples as they stand in Redis."""
    rows = [member.split(":") for member in members]
    return Figures(
        ttft_p95_ms=_p95([float(row[0]) for row in rows if row[0]]),
        latency_p95_ms=_p95([float(row[1]) for row in rows]),
        tokens_per_s=median(rates) if (rates := [float(row[2]) for row in rows if row[2]]) else None,
    )


def _p95(values: list[float]) -> float | None:
    return sorted(values)[ceil(0.95 * len(values)) - 1] if values else None
