"""SIGTERM under load: what runs is finished or given back, and no try is used up by it."""

import asyncio
import random
from pathlib import Path

from shared.jobs.schemas import COMPLETED
from tests.faults.invariants import check_ledger
from tests.faults.processes import Processes
from tests.faults.traffic import Traffic, random_calls
from tests.waiting import eventually

MAX_ATTEMPTS = 3


async def test_a_drain_that_is_too_short_loses_no_job_and_no_try(folder: Path) -> None:
    processes = Processes(folder, workers=2, drain_s=0.2, stream_grace_s=20)
    try:
        await processes.start()
        await processes.add_model("priced")
        traffic = Traffic(processes, "priced")
        calling = asyncio.ensure_future(traffic.run(random_calls(random.Random(3), 70), callers=20))
        await eventually(lambda: len(traffic.accepted) > 30)

        assert processes.stop() == 0
        await processes.start()
        await calling

        ledger = await check_ledger(processes, traffic.accepted, traffic.streamed, traffic.answered)
        for job_id, job in ledger.jobs.items():
            given_back = [row for row in ledger.attempts[job_id] if row.retry_reason == "worker_draining"]
            assert job.max_attempts == MAX_ATTEMPTS + len(given_back)
            assert all(row.status == "cancelled" for row in given_back)
            assert "lost" not in {row.status for row in ledger.attempts[job_id]}
            assert job.status == COMPLETED
    finally:
        await processes.close()
