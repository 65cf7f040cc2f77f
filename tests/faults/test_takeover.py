"""How soon the jobs of a killed worker run elsewhere.  The times are printed (`pytest -rP`), not asserted."""

import os
import signal
import time
from functools import partial
from pathlib import Path

from aiohttp import ClientSession

from shared.request_logs.tables import RequestLogRow
from tests.faults.invariants import check_ledger
from tests.faults.processes import Processes, command_of, rows, submit
from tests.waiting import eventually

JOBS = 5
SLOTS = 100


async def test_jobs_of_a_killed_worker_run_elsewhere_at_once_under_the_supervisor(folder: Path) -> None:
    processes = Processes(folder, workers=2, worker_slots=SLOTS)
    try:
        await processes.start()
        victim = processes.children("-m worker")[0]
        await measure_takeover(processes, victim, token=command_of(victim).split()[-2], name="under the supervisor")
    finally:
        await processes.close()


async def test_jobs_of_a_killed_worker_run_elsewhere_when_its_lease_ends(folder: Path) -> None:
    processes = Processes(folder, workers=1, worker_slots=SLOTS)
    try:
        await processes.start()
        victim = processes.spawn("worker", "alone")
        await eventually(lambda: "token=alone" in processes.output.read_text())
        await measure_takeover(processes, victim, token="alone", name="without a supervisor")
    finally:
        await processes.close()


async def measure_takeover(processes: Processes, victim: int, *, token: str, name: str) -> None:
    """Kill a worker at work and print how long its jobs lay still."""
    accepted: list[str] = []
    lost: set[str] = set()
    async with ClientSession() as http:
        while len(lost) < JOBS:  # the workers take turns at waiting for the next job
            accepted += await submit(http, processes, 2, delay_ms=4000)
            await eventually(partial(has_started, processes, len(accepted)))
            lost = {row.job_id for row in await rows(processes, RequestLogRow) if row.worker == token}
    killed_ms = time.time() * 1000
    os.kill(victim, signal.SIGKILL)

    await eventually(lambda: has_started(processes, len(accepted) + len(lost)))
    again = [row for row in await rows(processes, RequestLogRow) if row.attempt == 2]
    times = sorted(row.created_ms - killed_ms for row in again)
    print(f"takeover {name}: {times[0]:.0f} .. {times[-1]:.0f} ms after kill -9")  # noqa: T201
    assert {row.job_id for row in again} == lost
    assert all(row.worker != token for row in again)
    await check_ledger(processes, accepted)


async def has_started(processes: Processes, count: int) -> bool:
    return len(await rows(processes, RequestLogRow)) >= count
