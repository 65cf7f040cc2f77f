"""A worker sleeps longer than its lease: others do its work, and whatever it does when it wakes up changes nothing."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import ClientSession

from shared.jobs.schemas import COMPLETED
from shared.jobs.tables import JobEventRow, JobResultRow, JobRow
from shared.request_logs.tables import RequestLogRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.faults.invariants import check_ledger, stored_text
from tests.faults.processes import Processes, command_of, rows, submit, until_all_over
from tests.faults.traffic import chat, open_stream
from tests.waiting import eventually

TABLES = (JobRow, JobResultRow, JobEventRow, RequestLogRow, ChargeRow, UsageRecordRow)
SLOTS = 8


@pytest_asyncio.fixture
async def pair(tmp_path: Path, prepared_url: str) -> Any:
    """Two workers, so small that both have to work."""
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    running = Processes(folder, database_url=prepared_url, workers=2, worker_slots=SLOTS, lease_s=2)
    try:
        await running.start()
        yield running
    finally:
        await running.close()


async def test_a_worker_that_slept_longer_than_its_lease_changes_nothing(pair: Processes) -> None:
    async with ClientSession() as http:
        accepted = await submit(http, pair, 2 * SLOTS - 1, tokens=5, delay_ms=3000)
        await eventually(lambda: has_started(pair, 2 * SLOTS - 1))
        stream = await open_stream(http, pair, tokens=20, chunk_delay_ms=150)
        token = await worker_of(pair, stream.headers["x-job-id"])
        said = await stream.content.readuntil(b'"content"')
        pid = pair.kill(token, signum=signal.SIGSTOP)[0]

        jobs = await until_all_over(pair)
        before = await everything(pair, {job.id for job in jobs})
        os.kill(pid, signal.SIGCONT)
        await until_it_works_again(http, pair, token)
        await asyncio.sleep(0.5)  # its old runs end by themselves, if nobody stopped them
        after = await everything(pair, {job.id for job in jobs})
        said += await stream.read()

    assert after == before
    ledger = await check_ledger(pair, accepted)
    statuses = [attempt.status for found in ledger.attempts.values() for attempt in found if attempt.worker == token]
    assert "lost" in statuses
    assert {job.status for job in ledger.jobs.values()} == {COMPLETED}
    assert b'"stream_restarted"' in said  # its reader cannot take text back
    assert all(len(stored_text(result.body).split()) in (2, 5, 20) for result in ledger.results.values())


async def worker_of(processes: Processes, job_id: str) -> str:
    """Return the name of the worker that runs the job."""

    async def find() -> str | None:
        found = [row for row in await rows(processes, RequestLogRow) if row.job_id == job_id.removeprefix("job_")]
        return found[0].worker if found else None

    return str(await eventually(find))


async def has_started(processes: Processes, count: int) -> bool:
    return len(await rows(processes, RequestLogRow)) == count


async def everything(processes: Processes, job_ids: set[str]) -> dict[str, list[str]]:
    """Return all rows of these jobs as texts, by table."""
    found = {}
    for table in TABLES:
        key = "id" if table is JobRow else "job_id"
        lines = [repr(sorted(row)) for row in await rows(processes, table) if getattr(row, key) in job_ids]
        found[table.__tablename__] = sorted(lines)
    return found


async def until_it_works_again(http: ClientSession, processes: Processes, token: str) -> None:
    """Send jobs until this worker has run one."""

    async def has_run_one() -> bool:
        await asyncio.gather(*(chat(http, processes, text="once more", delay_ms=50) for _ in range(2 * SLOTS)))
        succeeded = [row for row in await rows(processes, RequestLogRow) if row.status == "succeeded"]
        return any(row.worker == token for row in succeeded)

    await eventually(has_run_one)
    assert any(token in command_of(pid) for pid in processes.children("-m worker"))
