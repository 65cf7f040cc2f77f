"""The reconciler: what the queue has lost comes back from the database, and deadlines are enforced by themselves."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec import msgpack
from sqlalchemy import func
from sqlmodel import col, select, update

from shared.clock import now_ms
from shared.ids import new_ulid
from shared.jobs.tables import JobEventRow, JobRow
from shared.queue.keys import done_channel
from shared.queue.lanes import PLATFORM
from shared.settings import Settings
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.conftest import make_settings, name_after
from tests.databases import prepared_postgres
from tests.installation import Installation, open_installation, run_workers
from tests.servers import RedisServer
from tests.waiting import eventually
from worker.__main__ import open_runtime
from worker.reconciler import Reconciler, reconcile

ASYNC = {"Prefer": "respond-async"}
MANY = 2501
"""Five pages of a sweep and one job."""
LONG_MS = 60_000
LONG_LEASE_S = 20.0
"""Not lost on a busy machine."""
SWEEPS_THAT_WAIT = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
    AND query LIKE '%FROM jobs WHERE finished_ms IS NULL AND shard%'
"""
ONE_SLOT: dict[str, Any] = {"worker_slots": 1, "lease_s": LONG_LEASE_S, "drain_s": 0.1}


async def accept(sluice: Installation, **members: Any) -> str:
    """Post an asynchronous chat; returns the bare id of its job."""
    response = await sluice.chat(headers=ASYNC, **members)
    assert response.status == 202
    return str((await response.json())["id"]).removeprefix("job_")


async def until_over(sluice: Installation, count: int, *, within_s: float = 30.0) -> dict[str, JobRow]:
    """Return all jobs as soon as so many are over, each by its id."""

    async def are_over() -> bool:
        async with sluice.state.database.read() as session:
            over = select(func.count()).select_from(JobRow).where(col(JobRow.finished_ms).is_not(None))
            return (await session.exec(over)).one() == count

    await eventually(are_over, within_s=within_s)
    return {row.id: row for row in await sluice.rows(JobRow, col(JobRow.finished_ms).is_not(None))}


async def change(sluice: Installation, job_id: str, **values: object) -> None:
    """Write columns of a job, as if time had passed."""
    async with sluice.state.database.transaction() as session:
        await session.exec(update(JobRow).where(col(JobRow.id) == job_id).values(**values))


async def insert_copies(sluice: Installation, job_id: str, count: int, **values: object) -> None:
    """Insert jobs like this one, which no queue knows."""
    template = (await sluice.rows(JobRow, JobRow.id == job_id))[0].model_dump()
    async with sluice.state.database.transaction() as session:
        session.add_all([JobRow(**template | values | {"id": new_ulid()}) for _ in range(count)])


@asynccontextmanager
async def open_reconciler(sluice: Installation) -> AsyncIterator[dict[str, Any]]:
    """Yield what a sweep gets, for a test that decides itself when it runs."""
    redis, name = sluice.state.redis, f"{sluice.state.queue.name}:epoch"
    await redis.set(name, "1", nx=True)
    async with open_runtime(sluice.state.settings, redis, "sweeper") as runtime:
        epoch = await redis.get(name)
        await redis.set("sluice:reconciler", msgpack.encode({"epoch": epoch}))
        yield {
            "reconciler": Reconciler(
                runtime=runtime, redis=redis, queue=sluice.state.queue, platform=sluice.state.platform
            )
        }


async def check_charges(sluice: Installation, jobs: dict[str, JobRow]) -> None:
    """Every job has one charge and one terminal event, both of its state."""
    charges, events = await sluice.rows(ChargeRow), await sluice.rows(JobEventRow)
    assert Counter((charge.job_id, charge.status) for charge in charges) == Counter(
        (job.id, job.status) for job in jobs.values()
    )
    assert Counter((event.job_id, event.type) for event in events) == Counter(
        (job.id, f"job.{job.status}") for job in jobs.values()
    )


async def test_jobs_that_the_queue_has_lost_are_run_all_the_same(idle: Installation) -> None:
    redis, queue = idle.state.redis, idle.state.queue.name
    entry, payload, both, neither = [await accept(idle, simulator={"text": "run"}) for _ in range(4)]
    await eventually(lambda: redis.zscore(queue, neither))
    await redis.zrem(queue, entry, both)
    await redis.delete(f"arq:job:{payload}", f"arq:job:{both}")

    async with run_workers(idle.state.settings):
        jobs = await until_over(idle, 4)

    assert jobs.keys() == {entry, payload, both, neither}
    assert {job.status for job in jobs.values()} == {"completed"}
    await check_charges(idle, jobs)
    assert await redis.zcard(queue) == 0


async def test_a_running_job_whose_entry_is_lost_is_not_run_twice(
    tmp_path: Path, redis_server: RedisServer, prepared_url: str
) -> None:
    settings = make_settings(tmp_path, redis_server, database_url=prepared_url, lease_s=LONG_LEASE_S)
    async with open_installation(settings) as sluice, open_reconciler(sluice) as ctx:
        redis, queue = sluice.state.redis, sluice.state.queue.name
        job_id = await accept(sluice, simulator={"text": "once", "delay_ms": 1000})
        await eventually(lambda: sluice.rows(JobRow, JobRow.status == "in_progress"))

        await redis.zrem(queue, job_id)
        await change(sluice, job_id, created_ms=now_ms() - 10_000)
        await reconcile(ctx)
        came_back = await redis.zscore(queue, job_id)
        jobs = await until_over(sluice, 1)

        assert came_back is not None
        assert (jobs[job_id].status, jobs[job_id].attempt) == ("completed", 1)
        await check_charges(sluice, jobs)
        await eventually(lambda: is_empty(sluice))


async def is_empty(sluice: Installation) -> bool:
    return int(await sluice.state.redis.zcard(sluice.state.queue.name)) == 0


async def test_thousands_of_rows_without_a_queue_entry_are_enqueued_in_one_sweep(idle: Installation) -> None:
    redis, queue = idle.state.redis, idle.state.queue.name
    first = await accept(idle)
    await insert_copies(idle, first, MANY, created_ms=now_ms() - 3_600_000)

    async with open_reconciler(idle) as ctx:
        await reconcile(ctx)
        enqueued = await redis.zrange(queue, 0, -1)
        await reconcile(ctx)

    jobs = {row.id.encode() for row in await idle.rows(JobRow)}
    assert len(jobs) == MANY + 1
    assert set(enqueued) == set(await redis.zrange(queue, 0, -1)) == jobs
    assert await redis.exists(*(b"arq:job:" + job_id for job_id in jobs)) == len(jobs)


async def test_a_clock_that_was_set_back_does_not_keep_jobs_from_being_restored(idle: Installation) -> None:
    redis, queue = idle.state.redis, idle.state.queue.name
    ahead_ms = now_ms() + 3_600_000
    first = await accept(idle)
    await change(idle, first, created_ms=now_ms() - 20_000)
    await insert_copies(idle, first, 1, created_ms=ahead_ms)

    async with open_reconciler(idle) as ctx:
        epoch = await redis.get(f"{queue}:epoch")
        noted = {"epoch": epoch, "last_ms": ahead_ms, "next_full_ms": ahead_ms + 30_000, "resume_ms": ahead_ms + 1000}
        await redis.set("sluice:reconciler", msgpack.encode(noted))
        await redis.delete(queue, f"arq:job:{first}")

        async def is_restored() -> bool:
            await reconcile(ctx)
            return int(await redis.zcard(queue)) == 2

        await eventually(is_restored)


async def test_a_job_that_finds_no_free_slot_in_time_expires_and_costs_nothing(
    tmp_path: Path, redis_server: RedisServer, prepared_url: str
) -> None:
    settings = make_settings(tmp_path, redis_server, database_url=prepared_url, **ONE_SLOT)
    async with open_installation(settings) as sluice:
        running = await accept(sluice, simulator={"delay_ms": LONG_MS})
        await eventually(lambda: sluice.rows(JobRow, JobRow.status == "in_progress"))
        call = asyncio.ensure_future(sluice.chat())
        waiting = (await eventually(lambda: sluice.rows(JobRow, JobRow.status == "queued")))[0].id

        await change(sluice, waiting, expires_ms=now_ms())
        answer = await call

        assert (answer.status, (await answer.json())["error"]["code"]) == (504, "job_expired")
        jobs = await until_over(sluice, 1)
        assert (jobs[waiting].status, jobs[waiting].attempt) == ("expired", 0)
        await check_charges(sluice, jobs)
        assert [charge.amount_micros for charge in await sluice.rows(ChargeRow)] == [0]
        assert await sluice.rows(UsageRecordRow) == []
        assert await sluice.state.redis.zscore(sluice.state.queue.name, waiting) is None
        assert (await sluice.job(f"job_{running}"))["status"] == "in_progress"


async def test_a_job_that_has_begun_does_not_expire(both: Installation) -> None:
    job_id = await accept(both, simulator={"text": "late", "delay_ms": 1200})
    await eventually(lambda: both.rows(JobRow, JobRow.status == "in_progress"))

    await change(both, job_id, expires_ms=now_ms())
    jobs = await until_over(both, 1)

    assert jobs[job_id].status == "completed"


async def test_expired_jobs_that_no_queue_knows_end_with_one_charge_each(idle: Installation) -> None:
    first = await accept(idle)
    past = {"expires_ms": now_ms() - 1, "created_ms": now_ms() - 3_600_000}
    await change(idle, first, **past)
    await insert_copies(idle, first, 20, **past)

    async with open_reconciler(idle) as ctx:
        await reconcile(ctx)

    jobs = await until_over(idle, 21)
    assert {(job.status, job.attempt) for job in jobs.values()} == {("expired", 0)}
    await check_charges(idle, jobs)
    assert {charge.amount_micros for charge in await idle.rows(ChargeRow)} == {0}
    assert await is_empty(idle)


async def test_a_cancellation_that_nobody_heard_of_is_told_again(
    tmp_path: Path, redis_server: RedisServer, prepared_url: str
) -> None:
    settings = make_settings(tmp_path, redis_server, database_url=prepared_url, **ONE_SLOT)
    async with open_installation(settings) as sluice:
        running = await accept(sluice, simulator={"delay_ms": LONG_MS})
        await eventually(lambda: sluice.rows(JobRow, JobRow.status == "in_progress"))
        waiting = await accept(sluice, simulator={"delay_ms": LONG_MS})

        for job_id in (running, waiting):  # as an api process does that dies before it tells Redis
            await change(sluice, job_id, cancel_requested_ms=now_ms())
        jobs = await until_over(sluice, 2)

        assert [jobs[job_id].status for job_id in (running, waiting)] == ["cancelled", "cancelled"]
        assert jobs[waiting].attempt == 0
        await check_charges(sluice, jobs)


@pytest.fixture
def patient(tmp_path: Path, redis_server: RedisServer) -> Settings:
    """Settings under which no lease ends during a test."""
    return make_settings(tmp_path, redis_server, lease_s=LONG_LEASE_S)


async def test_each_sweep_runs_once_however_many_workers_there_are(patient: Settings) -> None:
    async with open_installation(patient) as sluice, run_workers(patient), run_workers(patient):
        runs = Counter(await sweeps_of(sluice, 3))

    assert {name.rpartition(":")[0] for name in runs} <= {
        f"cron:{name}" for name in ("reconcile", "retain", "advance_batches", "tend_documents")
    }
    assert set(runs.values()) == {1}


async def sweeps_of(sluice: Installation, count: int) -> list[str]:
    """Return the ids of the sweeps that end, until there are so many different ones."""
    found: list[str] = []
    async with sluice.state.redis.pubsub() as pubsub:
        await pubsub.subscribe(done_channel(PLATFORM))
        while len(set(found)) < count:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
            found += [message["data"].decode()] if message else []
    return found


@pytest.fixture
def postgres_database_url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    """A database of PostgreSQL, ready to serve."""
    with prepared_postgres(postgres_url, name_after(tmp_path)) as url:
        yield url


async def test_a_slow_sweep_is_not_joined_by_the_next_one(
    tmp_path: Path, redis_server: RedisServer, postgres_database_url: str
) -> None:
    settings = make_settings(tmp_path, redis_server, database_url=postgres_database_url)
    async with open_installation(settings) as sluice, run_workers(settings):
        await eventually(lambda: sluice.state.redis.exists(f"{sluice.state.queue.name}:epoch"))
        await asyncio.sleep(2 * settings.lease_s)  # only then does a sweep look at jobs
        locker, watcher = [await asyncpg.connect(postgres_database_url) for _ in range(2)]
        most = 0
        async with locker.transaction():
            await locker.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
            for _ in range(25):
                await asyncio.sleep(0.1)
                most = max(most, await watcher.fetchval(SWEEPS_THAT_WAIT))
        await locker.close()
        await watcher.close()

    assert most == 1
