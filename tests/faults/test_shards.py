"""Two shards under load: a worker and the Redis of one of them are lost, and nobody's work is, or is done twice."""

import asyncio
from pathlib import Path

from aiohttp import ClientSession

from shared.jobs.schemas import COMPLETED
from shared.jobs.tables import JobRow
from tests.faults.invariants import check_attempts, check_jobs, check_outcomes, left_in_redis, read_ledger, statuses_of
from tests.faults.processes import Processes, rows
from tests.faults.tenants import add_tenants
from tests.servers import RedisServer
from tests.waiting import eventually


async def submit(http: ClientSession, headers: dict[str, str], count: int) -> list[tuple[int, str]]:
    """Post so many asynchronous chats; returns status and, of those that were accepted, the id."""

    async def one(number: int) -> tuple[int, str]:
        chat = {"model": "simulator", "messages": [{"role": "user", "content": f"number {number}"}]}
        body = chat | {"simulator": {"tokens": 3, "delay_ms": 400}}
        later = headers | {"Prefer": "respond-async"}
        async with http.post("/v1/chat/completions", json=body, headers=later) as answer:
            return answer.status, (await answer.json()).get("id", "")

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def test_a_shard_that_loses_its_worker_and_its_redis_loses_no_job(
    tmp_path: Path, prepared_url: str, own_redis: RedisServer
) -> None:
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    options = {"database_url": prepared_url, "shard_redis_urls": own_redis.url, "worker_slots": 8, "lease_s": 2}
    processes = Processes(folder, **options)
    try:
        await processes.start()
        keys = await add_tenants(processes)
        async with ClientSession(processes.url) as http:
            accepted = [await submit(http, keys[shard], 40) for shard in (0, 1)]
            assert {status for answers in accepted for status, _ in answers} == {202}

            async def has_begun() -> bool:
                return any(row.shard == 1 and row.attempt for row in await rows(processes, JobRow))

            await eventually(has_begun)
            processes.kill("-m worker", " 1 ")
            own_redis.kill()
            during = await submit(http, keys[0], 10)
            refused = await submit(http, keys[1], 3)
            own_redis.start()  # empty
            ids = [job_id for answers in (*accepted, during) for _, job_id in answers]
            ledger = await read_ledger(processes)
            check_jobs(ledger, ids)
            check_attempts(ledger)
            await check_outcomes(processes, ledger)
            await eventually(lambda: not left_in_redis(processes))
    finally:
        await processes.close()

    assert {status for status, _ in during} == {202}
    assert {status for status, _ in refused} <= {503}
    assert statuses_of(ledger, ids) == {COMPLETED}
    workers: dict[int, set[str | None]] = {0: set(), 1: set()}
    for job in ledger.jobs.values():
        workers[job.shard] |= {attempt.worker for attempt in ledger.attempts[job.id]}
    assert workers[0]
    assert workers[1]
    assert not workers[0] & workers[1]
    lost = [one for attempts in ledger.attempts.values() for one in attempts if one.status == "lost"]
    assert lost
    assert {ledger.jobs[one.job_id or ""].shard for one in lost} == {1}
