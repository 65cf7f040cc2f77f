"""Counters of all processes, added up in Redis: so one scrape of any api process tells of all of them.

A process counts in memory and sends what is new once a second.  Names and labels are declared here, in one place.  If
Redis loses its data, everything begins at 0 again, which whoever scrapes counters expects of them anyway.

In Redis: a hash, field `name` · label values · upper bound of a bucket, separated by unit separators; and for gauges
one with `name` · label values · process, whose value is of no meaning after its time: "value until-Unix-ms".
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Literal

import structlog
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.clock import now_ms
from shared.ids import new_ulid
from shared.tasks import end_tasks, start_background

log = structlog.get_logger()
_KEY: Final = "sluice:metrics"
_NOW_KEY: Final = "sluice:metrics:now"
_LIVES_MS: Final = 10_000
"""A process that has told nothing for so long counts no more."""
_SEPARATOR: Final = "\x1f"
_TELL_S: Final = 1.0
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_COUNTS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


class Metric(Struct, frozen=True):
    """One metric: its name without `sluice_`, what it says, and its labels."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Of a histogram; none of others."""
    is_gauge: bool = False
    """It is as much as all living processes have of it now."""

    @property
    def kind(self) -> Literal["counter", "gauge", "histogram"]:
        """Return what it is."""
        return "histogram" if self.buckets else "gauge" if self.is_gauge else "counter"


HTTP_REQUESTS: Final = Metric("http_requests", "Answers by route and status.", ("method", "route", "status"))
HTTP_SECONDS: Final = Metric("http_request_seconds", "Time to the end of an answer.", ("route",), _SECONDS)
ADMISSIONS: Final = Metric("admissions", "Decisions about requests with limits or budgets.", ("verdict",))
JOBS: Final = Metric("jobs", "Jobs that ended.", ("kind", "model", "status"))
JOB_SECONDS: Final = Metric("job_seconds", "From the acceptance of a job to its end.", ("kind", "model"), _SECONDS)
ATTEMPTS: Final = Metric("attempts", "Calls of providers by how they ended.", ("provider", "status"))
FIRST_TOKEN_SECONDS: Final = Metric("first_token_seconds", "From a call to its first token.", ("model",), _SECONDS)
TOKENS: Final = Metric("tokens", "Tokens of attempts.", ("model", "type"))
COST: Final = Metric("cost", "What attempts consumed, in units of money.", ("model",))
CHARGE: Final = Metric("charge", "What callers paid, in units of money.", ("model",))
EMISSIONS: Final = Metric("emissions_gco2eq", "Central estimate, operational and embodied.", ("model",))
ENERGY: Final = Metric("energy_kwh", "Central estimate.", ("model",))
TAKEOVERS: Final = Metric("lease_takeovers", "Attempts whose worker was lost.")
COMMIT_UNITS: Final = Metric("commit_units", "Units that one commit of a process wrote.", ("process",), _COUNTS)
COMMIT_SECONDS: Final = Metric("commit_seconds", "Time of one commit.", ("process",), _SECONDS)
PROVIDER_IN_FLIGHT: Final = Metric("provider_in_flight", "Attempts that run now.", ("provider",), is_gauge=True)
WEBHOOK_TRIES: Final = Metric("webhook_tries", "Tries of deliveries by how they ended.", ("result",))

METRICS: Final = (
    HTTP_REQUESTS, HTTP_SECONDS, ADMISSIONS, JOBS, JOB_SECONDS, ATTEMPTS, FIRST_TOKEN_SECONDS, TOKENS, COST, CHARGE,
    EMISSIONS, ENERGY, TAKEOVERS, COMMIT_UNITS, COMMIT_SECONDS, WEBHOOK_TRIES, PROVIDER_IN_FLIGHT,
)  # fmt: skip
_BY_NAME: Final = {metric.name: metric for metric in METRICS}
_SUM: Final = "sum"
_INFINITE: Final = "+Inf"


class Metrics:
    """Counts in one process and tells Redis every second."""

    def __init__(self, redis: Redis, process: str) -> None:
        self.process = process
        """`api` or `worker`."""
        self._redis = redis
        self._new: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        self._told: set[str] = set()
        """Fields of gauges that Redis has."""
        self._id = new_ulid()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tell."""
        self._task = start_background(self._repeat())

    async def close(self) -> None:
        """Tell what is left and stop."""
        if self._task is not None:
            await end_tasks(self._task)
            self._now.clear()
            await self._tell()

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        self._new[_SEPARATOR.join((metric.name, *labels))] += by  # type: ignore[assignment]  # a Counter of floats

    def change(self, metric: Metric, *labels: str, by: int) -> None:
        """Add to a gauge, or take away."""
        self._now[_SEPARATOR.join((metric.name, *labels, self._id))] += by

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """Add one value to a histogram."""
        field = _SEPARATOR.join((metric.name, *labels))
        place = bisect_left(metric.buckets, value)
        bound = str(metric.buckets[place]) if place < len(metric.buckets) else _INFINITE
        self._new[field + _SEPARATOR + bound] += 1
        self._new[field + _SEPARATOR + _SUM] += value  # type: ignore[assignment]

    def note_commit(self, units: int, took_s: float) -> None:
        """Count one commit of the group-commit writer."""
        self.observe(COMMIT_UNITS, self.process, value=units)
        self.observe(COMMIT_SECONDS, self.process, value=took_s)

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(_TELL_S)
            await self._tell()

    async def _tell(self) -> None:
        until_ms = now_ms() + _LIVES_MS
        current = {field: f"{value} {until_ms}" for field, value in self._now.items() if value}
        over = self._told - current.keys()
        if not (self._new or current or over):
            return
        new, self._new, self._told = self._new, Counter(), set(current)
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for field, by in new.items():
                    pipeline.hincrbyfloat(_KEY, field, by)
                if current:
                    pipeline.hset(_NOW_KEY, mapping=current)
                if over:
                    pipeline.hdel(_NOW_KEY, *over)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("metrics_not_told", error=repr(error))


class Series(Struct, frozen=True):
    """One combination of labels; counters and gauges have their value in `sum`."""

    labels: tuple[str, ...]
    """The shard that counted, then those of the metric."""
    buckets: list[tuple[str, float]]
    """Upper bound and the number of values up to it, cumulative."""
    sum: float


Found = dict[str, dict[tuple[str, ...], dict[str, float]]]
"""Name → labels → upper bound, or `sum` → value."""


async def read_metrics(shards: Mapping[str, Redis]) -> Iterator[tuple[Metric, list[Series]]]:
    """Return everything that was counted so far; one shard is not added to another, so none falls while one is away."""
    found: Found = {metric.name: {} for metric in METRICS}
    for shard, redis in shards.items():
        await _add_counters(shard, redis, found)
        for (name, *rest), amount in await _read_gauges(redis):
            values = found.setdefault(name, {}).setdefault((shard, *rest), {_SUM: 0.0})
            values[_SUM] += amount
    return ((metric, _series(metric, found[metric.name])) for metric in METRICS)


async def _add_counters(shard: str, redis: Redis, found: Found) -> None:
    for one in METRICS:
        if not one.labels:  # the first step from nothing to 1 would be no increase
            found[one.name][(shard,)] = {}
    stored: dict[bytes, bytes] = await redis.hgetall(_KEY)  # type: ignore[misc]  # redis-py types both of its clients
    for field, value in stored.items():
        name, *rest = field.decode(errors="replace").split(_SEPARATOR)
        metric = _BY_NAME.get(name)
        if metric is None or len(rest) != len(metric.labels) + bool(metric.buckets):
            continue  # of another version
        values = found[name].setdefault((shard, *rest[: len(metric.labels)]), {})
        values[rest[-1] if metric.buckets else _SUM] = float(value)


async def _read_gauges(redis: Redis) -> list[tuple[list[str], float]]:
    """Return name and labels with the value of each living process; what dead ones told is removed."""
    now, living, dead = now_ms(), [], []
    stored: dict[bytes, bytes] = await redis.hgetall(_NOW_KEY)  # type: ignore[misc]
    for field, told in stored.items():
        value, until_ms = told.split()
        if int(until_ms) < now:
            dead.append(field)
        else:
            living.append((field.decode().split(_SEPARATOR)[:-1], float(value)))
    if dead:
        await redis.hdel(_NOW_KEY, *dead)  # type: ignore[misc, arg-type]
    return living


def _series(metric: Metric, found: dict[tuple[str, ...], dict[str, float]]) -> list[Series]:
    series = []
    for labels, values in sorted(found.items()):
        total, buckets = 0.0, []
        for bound in (*map(str, metric.buckets), _INFINITE) if metric.buckets else ():
            total += values.get(bound, 0.0)
            buckets.append((bound, total))
        series.append(Series(labels, buckets, values.get(_SUM, 0.0)))
    return series
