"""One measurement of one gateway: warm up, let it come to rest, load it, and weigh what that cost."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import machine
from load import Load, Result, run_load
from postgres import Postgres

KINDS = ("api", "worker", "redis", "postgres")
"""Processes whose CPU time is told apart."""
_DISTURBED_SHARE = 0.05

Row = dict[str, str | int | float | None]
"""One line of the result."""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """A server under test."""

    name: str
    url: str
    database: str = "-"
    headers: Mapping[str, str] = field(default_factory=dict)
    roots: Sequence[int] = ()
    """Processes whose trees are weighed."""
    others: Sequence[int] = ()
    """Further processes of the run that are no strangers: those which are not our children."""
    settle: Callable[[], None] = lambda: None
    """Returns when the gateway has done what it was asked for."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to load, and with what."""

    seconds: float
    warm_up_s: float
    with_wrk: bool
    retries: int
    """Further tries of a measurement in which strangers had too much of the cores."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all measurements of a run have in common."""

    upstream_url: str
    postgres: Postgres | None
    effort: Effort
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What came of it; `others_share` is the part of all cores that strangers had meanwhile."""

    result: Result
    cpu_s: Mapping[str, float]
    """By kind of process."""
    others_share: float
    settle_s: float


def measure(gateway: Gateway, load: Load, effort: Effort, *, counts_rest: bool = False) -> Sample:
    """Measure once, and again while strangers disturb and there are retries left; returns the least disturbed sample.

    A sample with errors is never dropped.  With `counts_rest` the work that is left when the load ends is weighed, too.
    """
    samples = [_measure_once(gateway, load, effort, counts_rest=counts_rest)]
    while samples[-1].others_share > _DISTURBED_SHARE and len(samples) <= effort.retries:
        samples.append(_measure_once(gateway, load, effort, counts_rest=counts_rest))
    return min(samples, key=lambda sample: (-sample.result.errors, sample.others_share))


def _measure_once(gateway: Gateway, load: Load, effort: Effort, *, counts_rest: bool) -> Sample:
    run_load(load, gateway.url, gateway.headers, effort.warm_up_s, with_wrk=effort.with_wrk)
    gateway.settle()
    began, cpu_s, busy_s, ours_s = (
        time.perf_counter(),
        machine.cpu_s_by_kind(gateway.roots),
        machine.busy_s(),
        _ours_s(gateway),
    )
    result = run_load(load, gateway.url, gateway.headers, effort.seconds, with_wrk=effort.with_wrk)
    ended = time.perf_counter()
    others_s = machine.busy_s() - busy_s - (_ours_s(gateway) - ours_s)
    cpu_s_after = machine.cpu_s_by_kind(gateway.roots)
    gateway.settle()
    settle_s = time.perf_counter() - ended
    if counts_rest:
        cpu_s_after = machine.cpu_s_by_kind(gateway.roots)
    used_s = {kind: seconds - cpu_s.get(kind, 0.0) for kind, seconds in cpu_s_after.items()}
    share = max(others_s, 0) / (ended - began) / (os.cpu_count() or 1)
    return Sample(result=result, cpu_s=used_s, others_share=share, settle_s=settle_s)


def _ours_s(gateway: Gateway) -> float:
    return machine.cpu_s([os.getpid(), *gateway.roots, *gateway.others])


def summarize(name: str, gateway: Gateway, samples: Sequence[Sample]) -> Row:
    """Return the medians over the rounds; requests and errors are sums."""
    results = [sample.result for sample in samples]
    rates = [result.requests / result.seconds for result in results]
    events_ms = [result.first_event_p50_ms for result in results if result.first_event_p50_ms is not None]
    requests = sum(result.requests for result in results)
    return {
        "name": name,
        "database": gateway.database,
        "gateway": gateway.name,
        "per_s": round(median(rates), 1),
        "low": round(min(rates), 1),
        "high": round(max(rates), 1),
        "p50_ms": round(median(result.p50_ms for result in results), 3),
        "p90_ms": round(median(result.p90_ms for result in results), 3),
        "p99_ms": round(median(result.p99_ms for result in results), 3),
        "first_event_p50_ms": round(median(events_ms), 3) if events_ms else None,
        "added_p50_ms": None,
        "cpu_s_per_1000": _cost(None, samples),
        **{f"of_{kind}": _cost(kind, samples) for kind in KINDS},
        "requests": requests,
        "errors": sum(result.errors for result in results),
        "others_percent": round(median(sample.others_share for sample in samples) * 100, 1),
    }


def _cost(kind: str | None, samples: Sequence[Sample]) -> float | None:
    """Return the CPU seconds per 1,000 requests of these processes, or of all; None if there are none of them."""
    used_s = [seconds for sample in samples for name, seconds in sample.cpu_s.items() if kind in (None, name)]
    requests = sum(sample.result.requests for sample in samples)
    return round(sum(used_s) / requests * 1000, 3) if used_s and requests else None
