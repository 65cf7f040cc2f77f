"""`backlog`: what it costs to put jobs into the queue and to take them out, with few and with very many waiting.

The code is that of `shared.queue`, the Redis a private one as an installation starts it.  Times are microseconds per
job: `whole` as the caller sees them (median of the calls), `redis` inside Redis (mean of the calls).
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import machine
import uvloop
from machine import SERVER_CORES
from measure import Row
from upstream import CHAT

from shared.clock import now_ms
from shared.embedded_redis import answers, redis_command
from shared.ids import new_ulid
from shared.jobs.messages import JobMessage
from shared.queue.connections import open_pool
from shared.queue.job_queue import JobQueue
from shared.queue.jobs import Claim, NewJob
from shared.queue.keys import BANDS
from shared.queue.lanes import INFERENCE, RUN_JOB, group_of, open_lane
from shared.queue.lua import Outcome, QueueScripts, Wanted

_FILL = 500
_BATCH, _CLAIMS = 64, 256
_SINGLES, _ENQUEUES, _CLAIM_CALLS = 300, 36, 10
_TENANTS, _ROUTERS = 100, 10
_LEASE_MS = 60_000
_SLOTS = 100_000
_TOKEN = "bench:1:0"  # noqa: S105  # the identity of a worker
_BODY = json.dumps(CHAT).encode()

Costs = dict[tuple[str, str], float]
"""From operation and where it was measured to microseconds per job."""


def run_backlog(depths: list[int]) -> list[Row]:
    """Measure at each number of waiting jobs, from the least to the most."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        socket = folder / "redis.sock"
        process = machine.start(redis_command(folder, socket), SERVER_CORES, folder / "log")
        try:
            machine.wait_until("Redis answers", lambda: answers(socket), 10, 0.01)
            costs = uvloop.run(_measure(f"unix://{socket}", sorted(depths)))
        finally:
            machine.stop(process)
    return [_row(key, costs) for key in costs[min(costs)]]


def _row(key: tuple[str, str], costs: dict[int, Costs]) -> Row:
    operation, where = key
    row: Row = {"name": "backlog", "database": "-", "gateway": "sluice", "operation": operation, "measured": where}
    found = [of_depth[key] for of_depth in costs.values()]
    row |= {f"at_{depth}": round(value, 2) for depth, value in zip(costs, found, strict=True)}
    return row | {"last_/_first": round(found[-1] / found[0], 2)}


async def _measure(url: str, depths: list[int]) -> dict[int, Costs]:
    pool = open_pool(url)
    redis = open_lane(pool, INFERENCE)
    bench = _Bench(redis)
    await bench.scripts.load()
    empty_bytes = await _used_bytes(redis)
    costs: dict[int, Costs] = {}
    for depth in depths:
        machine.say(f"backlog: filling up to {depth} jobs")
        while (left := depth - await redis.zcard(INFERENCE)) > 0:
            await bench.queue.ensure([bench.new_job() for _ in range(min(left, _FILL))])
        await _wait_for_rewrite(redis)
        memory: Costs = {("memory", "bytes per job"): (await _used_bytes(redis) - empty_bytes) / depth}
        costs[depth] = memory | await bench.operations()
    await pool.disconnect()
    return costs


class _Bench:
    """One lane with what is done to it."""

    def __init__(self, redis: Any) -> None:
        self.queue = JobQueue(redis)
        self.scripts = QueueScripts(redis, INFERENCE)
        self._redis = redis
        self._numbers = count()
        self._claims: list[Claim] = []

    def new_job(self) -> NewJob:
        """Return a job like those of the api; tenants and bands take turns."""
        number = next(self._numbers)
        message = JobMessage(
            job_id=new_ulid(), kind="chat.completion", endpoint="/v1/chat/completions", band=number % BANDS,
            stream=False, user_id=1, organization_id=number % _TENANTS, key_id=None,
            router_id=number % _ROUTERS, router_name="model",
            model="model", price_prompt="0", price_completion="0", created_ms=now_ms(), request_id=f"req_{new_ulid()}",
            timeout_s=600, result_ttl_s=3600, traceparent=None, on_worker_lost="retry", inbox=None, admission=None,
            request=_BODY,
        )  # fmt: skip
        return NewJob(
            job_id=message.job_id, function=RUN_JOB, args=(message,), tenant=str(number % _TENANTS),
            group=group_of(message.router_id), band=message.band, cost=0.12,
        )  # fmt: skip

    async def operations(self) -> Costs:
        """Put jobs in, take as many out, and finish them."""
        await self.scripts.renew(_TOKEN, [], _LEASE_MS, "", _SLOTS)
        costs: Costs = {}
        steps: list[tuple[str, int, int, Callable[[], Awaitable[int]]]] = [
            ("enqueue 1", _SINGLES, 1, lambda: self._enqueue(1)),
            (f"enqueue {_BATCH}", _ENQUEUES, _BATCH, lambda: self._enqueue(_BATCH)),
            ("claim 1", _SINGLES, 1, lambda: self._claim(1)),
            ("finish 1", _SINGLES, 1, lambda: self._finish(1)),
            (f"claim {_CLAIMS}", _CLAIM_CALLS, _CLAIMS, lambda: self._claim(_CLAIMS)),
            (f"finish {_CLAIMS}", _CLAIM_CALLS, _CLAIMS, lambda: self._finish(_CLAIMS)),
        ]
        for name, calls, jobs, step in steps:
            await self._redis.config_resetstat()
            times_s = []
            for _ in range(calls):
                began = time.perf_counter()
                done = await step()
                times_s.append(time.perf_counter() - began)
                if done != jobs:
                    raise machine.BenchError(f"backlog: {name} gave {done} jobs")
            statistics = (await self._redis.info("commandstats"))["cmdstat_evalsha"]
            costs[name, "whole"] = median(times_s) / jobs * 1e6
            costs[name, "redis"] = statistics["usec"] / (calls * jobs)
        return costs

    async def _enqueue(self, jobs: int) -> int:
        return len(await self.queue.ensure([self.new_job() for _ in range(jobs)]))

    async def _claim(self, jobs: int) -> int:
        wanted = Wanted(jobs=jobs, can_wait=jobs, slots=jobs, share=0.0, weights=(8, 4, 1))
        claims = (await self.scripts.claim(_TOKEN, _LEASE_MS, wanted)).claims
        self._claims += claims
        return len(claims)

    async def _finish(self, jobs: int) -> int:
        ending, self._claims = self._claims[:jobs], self._claims[jobs:]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for claim in ending:
                outcome = Outcome(job_id=claim.job_id, token=_TOKEN, epoch="", script="finish", arguments=(b"", "", ""))
                await self.scripts.settle(outcome, pipeline)
            return sum(await pipeline.execute())


async def _used_bytes(redis: Any) -> int:
    memory = await redis.info("memory")
    return int(memory["used_memory"]) - int(memory["mem_aof_buffer"]) - int(memory["mem_clients_normal"])


async def _wait_for_rewrite(redis: Any) -> None:
    """Wait until Redis does not rewrite its log, which it starts by itself while it grows."""
    while True:
        state = await redis.info("persistence")
        if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
            return
        await asyncio.sleep(0.2)
