"""What routing costs, `routing`: choosing a provider, taking a slot there, and going on from a failed attempt."""

import asyncio
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import uvloop
from installation import open_installation
from measure import Row, Setup
from redis.asyncio import Redis

from shared.carbon.footprint import Deployment, build_profile
from shared.database import Database
from shared.directory import Directory, Provider, Router
from shared.embedded_redis import start_redis
from shared.queue.job_queue import JobQueue
from shared.queue.lanes import INFERENCE, open_lane
from worker.routing.choice import Choice, Routing
from worker.routing.health import Health
from worker.routing.slots import Slots

_CHOICES = 20_000
_SLOTS = 6_400
_FAILOVERS = 100
_BODY = {
    "model": "failing", "messages": [{"role": "user", "content": "Hello"}],
    "simulator": {"fail": "500", "fail_attempts": 1},
}  # fmt: skip
_GAPS = """SELECT count(*), avg(b.created_ms - a.completed_ms), max(b.created_ms - a.completed_ms) FROM request_logs a
    JOIN request_logs b ON b.job_id = a.job_id AND b.attempt = 2 WHERE a.attempt = 1 AND a.status = 'failed'"""


def run_choices() -> list[Row]:
    """Measure how long one of three providers without limits takes to choose; that needs neither Redis nor database."""
    return [uvloop.run(_choose(strategy)) for strategy in ("shuffle", "weighted", "lowest_carbon")]


async def _choose(strategy: str) -> Row:
    redis: Any = Redis(unix_socket_path="unused")
    routing = Routing(
        Directory(Database("sqlite:///unused")), Health(redis), Slots(redis, 3.0),
        JobQueue(open_lane(redis.connection_pool, INFERENCE)),
    )  # fmt: skip
    router = _router(strategy)
    times_us: list[float] = []
    for _ in range(_CHOICES):
        begun = time.perf_counter()
        await routing.choose(router, set(), is_stream=False)
        times_us.append((time.perf_counter() - begun) * 1e6)
    return _row(f"choice: {strategy}", times_us)


def run_slots() -> list[Row]:
    """Measure how long taking a slot of one of three providers takes: a round trip to a Redis of our own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "redis.sock"
        process = start_redis(Path(folder), path)
        try:
            return [
                uvloop.run(_take_slots(str(path), strategy, at_once))
                for strategy in ("shuffle", "least_busy")
                for at_once in (1, 32)
            ]
        finally:
            process.terminate()
            process.wait()


async def _take_slots(path: str, strategy: str, at_once: int) -> Row:
    redis = Redis(unix_socket_path=path)
    slots = Slots(redis, 3.0)
    routing = Routing(
        Directory(Database("sqlite:///unused")), Health(redis), slots,
        JobQueue(open_lane(redis.connection_pool, INFERENCE)),
    )  # fmt: skip
    router = _router(strategy, most_attempts=100)
    times_us: list[float] = []

    async def take() -> None:
        for _ in range(_SLOTS // at_once):
            begun = time.perf_counter()
            choice = await routing.choose(router, set(), is_stream=False)
            times_us.append((time.perf_counter() - begun) * 1e6)
            assert isinstance(choice, Choice)
            routing.leave(choice)

    begun = time.perf_counter()
    await asyncio.gather(*(take() for _ in range(at_once)))
    seconds = time.perf_counter() - begun
    await slots.close()
    await redis.aclose()
    return _row(f"slot: {strategy}, {at_once} at once", times_us) | {"per_s": round(len(times_us) / seconds)}


def _row(name: str, times_us: list[float]) -> Row:
    return {
        "name": name, "database": "-", "gateway": "sluice", "requests": len(times_us),
        "p50_us": round(median(times_us), 1), "p99_us": round(quantiles(times_us, n=100)[98], 1),
    }  # fmt: skip


def _router(strategy: str, most_attempts: int | None = None) -> Router:
    return Router(
        id=1, name="r", owner=None, type="text-generation", aliases=(), load_balancing_strategy=strategy,
        cache_ttl_s=None, cache_charge="free", fallback_id=None, price_prompt=Decimal(0), price_completion=Decimal(0),
        max_context_length=None, created_ms=0,
        providers=tuple(_provider(number, most_attempts) for number in (1, 2, 3)),
    )  # fmt: skip


def _provider(number: int, most_attempts: int | None) -> Provider:
    profile = build_profile(Deployment(total_params=70.0, zone=("FRA", "POL", "USA")[number - 1]))
    return Provider(
        id=number, router_id=1, type="openai", url="http://unused/", key=None, timeout_s=300, model_name="m",
        profile=profile, weight=float(number), qos_metric=most_attempts and "inflight",
        qos_limit=most_attempts,
    )  # fmt: skip


def run_failover(database: str, setup: Setup) -> list[Row]:
    """Measure the milliseconds from the stored end of a failed attempt to the start of the next one; one connection."""
    with open_installation(database, setup.postgres) as installation:
        router = installation.ask("POST", "/admin/routers", {"name": "failing", "type": "text-generation"})["id"]
        for name in ("one", "two"):
            installation.ask("POST", "/admin/providers", {"router": router, "type": "simulator", "model_name": name})
        time.sleep(1.0)  # until the worker knows both
        for _ in range(_FAILOVERS):
            installation.ask("POST", "/chat/completions", _BODY)
        count, mean_ms, max_ms = installation.ledger.row(_GAPS)
        installation.ledger.check()
    return [
        {
            "name": "failover", "database": database, "gateway": "sluice", "requests": int(count),
            "mean_ms": round(float(mean_ms), 2), "max_ms": int(max_ms),
        }
    ]  # fmt: skip
