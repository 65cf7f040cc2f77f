"""A stream that has begun cannot be taken back when its worker dies: its caller is told to read the result by id."""

from pathlib import Path

from aiohttp import ClientSession

from shared.jobs.schemas import COMPLETED
from tests.faults.invariants import check_ledger
from tests.faults.processes import Processes, until_all_over
from tests.faults.traffic import open_stream


async def test_a_restarted_job_runs_to_its_end_although_nobody_reads_it(folder: Path, prepared_url: str) -> None:
    processes = Processes(folder, database_url=prepared_url, lease_s=2, stream_grace_s=1)
    try:
        await processes.start()
        async with ClientSession() as http:
            stream = await open_stream(http, processes, tokens=60, chunk_delay_ms=100)
            await stream.content.readuntil(b'"content"')
            processes.kill("-m worker")
            said = await stream.read()
            (job,) = await until_all_over(processes)
            result = await http.get(f"{processes.url}/v1/jobs/job_{job.id}/result", headers=processes.headers)

        assert b'"stream_restarted"' in said
        assert (job.status, job.attempt, result.status) == (COMPLETED, 2, 200)
        await check_ledger(processes)
    finally:
        await processes.close()
