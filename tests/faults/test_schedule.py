"""Everything at once: traffic of all kinds while a seed decides what breaks when.

`--fault-seeds 20` runs twenty seeds instead of one; each failure names its own.
"""

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from aiohttp import ClientSession

from tests.faults.invariants import check_ledger
from tests.faults.processes import Processes, submit
from tests.faults.schedule import Schedule
from tests.faults.traffic import Traffic, random_calls
from tests.servers import RedisServer

LEASE_S: Final = 2
CALLS: Final = 200
CALLERS: Final = 10
LONGEST_S: Final = 40.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("seed", range(metafunc.config.getoption("--fault-seeds")))


@pytest.mark.timeout(180)
async def test_whatever_breaks_every_accepted_job_is_done_and_charged_once(
    tmp_path: Path, prepared_url: str, own_redis: RedisServer, seed: int
) -> None:
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    options = {"lease_s": LEASE_S, "stream_grace_s": 10, "drain_s": 1, "workers": 2}
    redis = None
    if prepared_url.startswith("postgresql"):
        redis = own_redis  # without persistence: whenever it is killed, everything in it is lost
        options |= {"database_url": prepared_url, "redis_url": redis.url, "api_processes": 2}
    processes = Processes(folder, **options)
    try:
        await processes.start()
        await processes.add_model("priced")
        await break_under_load(processes, redis, seed)
    finally:
        await processes.close()


async def break_under_load(processes: Processes, redis: RedisServer | None, seed: int) -> None:
    dice = random.Random(seed)
    traffic, schedule = Traffic(processes, "priced"), Schedule(processes, dice, LEASE_S, redis)
    breaking = asyncio.ensure_future(schedule.run())
    try:
        async with asyncio.timeout(LONGEST_S):
            await traffic.run(random_calls(random.Random(seed), CALLS, failing=0.1), callers=CALLERS)
    finally:
        breaking.cancel()
        with suppress(asyncio.CancelledError):
            await breaking
        print(f"seed {seed}: {' '.join(schedule.done)}; refused: {len(traffic.refusals)}")  # noqa: T201
    if redis is not None and not redis.is_running:
        redis.start()

    async with ClientSession() as http:
        traffic.accepted |= set(await submit(http, processes, 20, model="priced", delay_ms=500))
    processes.kill_supervisor()
    await processes.start()

    ledger = await check_ledger(processes, traffic.accepted, traffic.streamed, traffic.answered)
    assert len(ledger.jobs) >= CALLS
