"""Redis restarts without its data, hangs, or cannot be reached, while callers of all sorts go on."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.jobs.schemas import COMPLETED
from tests.faults.invariants import check_ledger, statuses_of
from tests.faults.processes import Processes, free_port
from tests.faults.traffic import Call, Traffic, random_calls, refusal
from tests.servers import TcpRedisServer
from tests.waiting import eventually

AWAY_S = 10.0
REFUSED_S = 3.0


async def test_a_redis_that_restarts_empty_loses_nothing(folder: Path) -> None:
    processes = Processes(folder, workers=2, lease_s=2)
    try:
        traffic, calling = await start_under_load(processes, seed=5)

        processes.kill("redis-server", signum=signal.SIGSTOP)
        (folder / "redis" / "appendonly.aof").unlink()
        processes.kill("redis-server")
        await eventually(lambda: processes.children("redis-server"))
        await calling

        ledger = await check_ledger(processes, traffic.accepted, traffic.streamed, traffic.answered)
        assert statuses_of(ledger, traffic.accepted) == {COMPLETED}
    finally:
        await processes.close()


async def test_streams_that_redis_lost_are_told_from_the_database(folder: Path) -> None:
    processes = Processes(folder)
    try:
        await processes.start()
        traffic = Traffic(processes, "simulator")
        for start in range(0, 30, 10):
            with processes.redis() as redis:
                redis.flushall()  # with it goes the inbox of the api process, which is made anew every second
            calls = [Call(start + number, "stream", {"tokens": 10, "delay_ms": 20 * number}) for number in range(10)]
            await traffic.run(calls, callers=len(calls))

        assert len(traffic.streamed) == 30
        await check_ledger(processes, traffic.accepted, traffic.streamed)
    finally:
        await processes.close()


async def test_a_redis_that_does_not_answer_for_ten_seconds_delays_jobs_and_loses_none(folder: Path) -> None:
    processes = Processes(folder, workers=2, lease_s=2)
    try:
        traffic, calling = await start_under_load(processes, seed=6)
        children = processes.children()

        pid = processes.kill("redis-server", signum=signal.SIGSTOP)[0]
        await asyncio.sleep(AWAY_S)
        refused = await refusal(processes)
        os.kill(pid, signal.SIGCONT)
        await calling

        assert refused == (503, "queue_unavailable")
        assert processes.children() == children
        ledger = await check_ledger(processes, traffic.accepted, traffic.streamed, traffic.answered)
        assert statuses_of(ledger, traffic.accepted) == {COMPLETED}
    finally:
        await processes.close()


@pytest.fixture
def tcp_redis(tmp_path: Path) -> Iterator[TcpRedisServer]:
    """A server on a port; dead, it refuses connections, and afterwards it has its data."""
    (tmp_path / "own-redis").mkdir()
    server = TcpRedisServer(tmp_path / "own-redis", free_port())
    server.start()
    yield server
    server.kill()


async def test_a_redis_that_refuses_connections_delays_jobs_and_loses_none(
    folder: Path, tcp_redis: TcpRedisServer
) -> None:
    processes = Processes(folder, redis_url=tcp_redis.url, workers=2, lease_s=2)
    try:
        traffic, calling = await start_under_load(processes, seed=7)
        children = processes.children()

        tcp_redis.kill()
        await asyncio.sleep(REFUSED_S)
        refused = await refusal(processes)
        tcp_redis.start()
        await calling

        assert refused == (503, "queue_unavailable")
        assert processes.children() == children
        ledger = await check_ledger(processes, traffic.accepted, traffic.streamed, traffic.answered)
        assert statuses_of(ledger, traffic.accepted) == {COMPLETED}
    finally:
        await processes.close()


async def start_under_load(processes: Processes, *, seed: int) -> tuple[Traffic, "asyncio.Task[None]"]:
    """Start the installation and callers; returns when a third of their jobs are accepted."""
    await processes.start()
    await processes.add_model("priced")
    traffic = Traffic(processes, "priced")
    calls = random_calls(random.Random(seed), 80)
    calling = asyncio.ensure_future(traffic.run(calls, callers=10))
    await eventually(lambda: len(traffic.accepted) > len(calls) // 3 or calling.done())
    return traffic, calling
