"""Stock arq on the same queue: producers, handles, cron, and a stock worker beside a leased one."""

import asyncio
import inspect
import time
from contextlib import suppress
from itertools import pairwise

import pytest
from arq import ArqRedis, Worker, cron
from arq.constants import abort_jobs_ss
from arq.jobs import Job, JobStatus
from redis.asyncio import ConnectionPool

from shared.queue.connections import open_pool
from shared.queue.job_queue import JobQueue
from shared.queue.jobs import Enqueued, NewJob
from shared.queue.lanes import PLATFORM, open_lane
from tests.servers import RedisServer
from tests.waiting import eventually
from tests.worker.conftest import Connect, StartWorker, is_clean
from tests.worker.job_functions import FUNCTIONS, tick
from tests.worker.journal import Journal
from worker.engine import LeasedWorker


@pytest.fixture
def connect(server: RedisServer) -> Connect:
    """Return a new client as arq makes it: its own queue name, payloads in pickle, no limit of time."""
    return lambda: ArqRedis(ConnectionPool.from_url(server.url))


async def has_status(job: Job, expected: JobStatus) -> bool:
    return await job.status() is expected


async def test_a_stock_producer_gets_status_and_result(
    redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    job = await redis.enqueue_job("wait_at", "gate")
    assert job is not None
    assert await job.status() is JobStatus.queued

    await start_worker(keep_result=60)

    await eventually(lambda: has_status(job, JobStatus.in_progress))
    journal.open_gate("gate")
    assert await job.result(timeout=10, poll_delay=0.01) == "passed"
    assert await job.status() is JobStatus.complete
    assert await redis.enqueue_job("wait_at", "gate", _job_id=job.job_id) is None
    await eventually(lambda: is_clean(redis))


async def test_a_stock_producer_on_a_lane_of_sluice_needs_only_its_client(
    server: RedisServer, start_worker: StartWorker, journal: Journal
) -> None:
    lane = open_lane(open_pool(server.url), PLATFORM)
    worker = LeasedWorker(FUNCTIONS, redis_pool=lane, handle_signals=False, ctx={"journal": journal}, burst=True)
    job = await lane.enqueue_job("note", "by stock arq")
    assert job is not None

    await worker.async_run()

    assert [line.label for line in journal.lines("start")] == ["by stock arq"]
    with suppress(asyncio.CancelledError):
        await worker.close()


async def test_a_deferred_job_does_not_start_before_it_is_due(
    redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    await start_worker()
    due = time.time() + 0.6
    job = await redis.enqueue_job("note", "later", _defer_by=0.6)
    assert job is not None
    assert await job.status() is JobStatus.deferred

    await eventually(lambda: journal.lines("start"))

    assert journal.lines("start")[0].at > due - 0.05


async def test_a_retry_waits_and_counts(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    await queue.enqueue(NewJob(job_id="flaky", function="fail_twice"))

    await start_worker()
    await eventually(lambda: is_clean(redis))

    starts = journal.lines("start")
    assert [line.job_try for line in starts] == [1, 2, 3]
    assert all(later.at - sooner.at > 0.09 for sooner, later in pairwise(starts))
    assert journal.ids("end") == ["flaky"]


async def test_stock_abort_ends_a_running_job(redis: ArqRedis, start_worker: StartWorker, journal: Journal) -> None:
    await start_worker(keep_result=60)
    job = await redis.enqueue_job("wait_at", "gate")
    assert job is not None
    await eventually(lambda: journal.lines("start"))

    assert await job.abort(timeout=10, poll_delay=0.01)

    assert await job.status() is JobStatus.complete
    assert journal.ids("cancelled") == [job.job_id]
    assert await redis.zcard(abort_jobs_ss) == 0


async def test_an_old_abort_mark_is_dropped_when_its_job_is_gone(redis: ArqRedis, start_worker: StartWorker) -> None:
    long_ago = int(time.time() * 1000) - 120_000
    await redis.zadd(abort_jobs_ss, {"gone": long_ago, "waits": long_ago})
    await redis.zadd(redis.default_queue_name, {"waits": 4_000_000_000_000})

    await start_worker()

    await eventually(lambda: marks_are(redis, [b"waits"]))


async def marks_are(redis: ArqRedis, expected: list[bytes]) -> bool:
    return list(await redis.zrange(abort_jobs_ss, 0, -1)) == expected


async def test_cron_runs_once_with_many_workers(start_worker: StartWorker, journal: Journal) -> None:
    for _ in range(3):
        await start_worker(cron_jobs=[cron(tick, second=set(range(60)), name="tick")])

    await eventually(lambda: len(journal.lines("tick")) >= 2)

    assert len(journal.ids("tick")) == len(set(journal.ids("tick")))


async def test_a_late_duplicate_of_a_cron_job_does_not_run(
    redis: ArqRedis, queue: JobQueue, start_worker: StartWorker, journal: Journal
) -> None:
    await start_worker(cron_jobs=[cron(tick, month=1, day=1, hour=0, minute=0, name="tick")])
    await redis.enqueue_job("tick", _job_id="tick:123")
    await eventually(lambda: journal.lines("tick"))
    await eventually(lambda: is_empty(redis))

    assert await redis.enqueue_job("tick", _job_id="tick:123") is not None
    await eventually(lambda: is_empty(redis))

    assert len(journal.lines("tick")) == 1
    assert await queue.enqueue(NewJob(job_id="tick:123", function="tick")) is Enqueued.FINISHED


async def is_empty(redis: ArqRedis) -> bool:
    return not await redis.exists(redis.default_queue_name)


async def test_a_stock_worker_shares_the_queue(
    connect: Connect, queue: JobQueue, start_worker: StartWorker, journal: Journal
) -> None:
    await queue.ensure([NewJob(job_id=f"j{n}", function="hold", args=(0.02,)) for n in range(100)])
    stock = Worker(
        FUNCTIONS, redis_pool=connect(), burst=True, handle_signals=False, poll_delay=0.01, ctx={"journal": journal}
    )

    leased = await start_worker()
    async with asyncio.timeout(15):
        await stock.async_run()  # until the queue is empty
    await stock.close()

    assert sorted(journal.ids("start")) == sorted(f"j{n}" for n in range(100))
    assert stock.jobs_complete > 0
    assert stock.jobs_complete + leased.jobs_complete == 100


async def test_a_burst_worker_drains_the_queue_and_returns(connect: Connect, queue: JobQueue, journal: Journal) -> None:
    await queue.ensure([NewJob(job_id=f"j{n}", function="note", args=("x",)) for n in range(50)])
    worker = LeasedWorker(FUNCTIONS, redis_pool=connect(), burst=True, handle_signals=False, ctx={"journal": journal})

    async with asyncio.timeout(15):
        await worker.async_run()
    with suppress(asyncio.CancelledError):
        await worker.close()

    assert worker.jobs_complete == 50


@pytest.mark.parametrize(
    ("seam", "parameters"),
    [
        ("_poll_iteration", ["self"]),
        ("_cancel_aborted_jobs", ["self"]),
        ("finish_failed_job", ["self", "job_id", "result_data"]),
        ("run_job", ["self", "job_id", "score"]),
        ("close", ["self"]),
        ("heart_beat", ["self"]),
        ("_release_sem_dec_counter_on_complete", ["self"]),
        ("_jobs_started", ["self"]),
        (
            "finish_job",
            ["self", "job_id", "finish", "result_data", "result_timeout_s", "keep_result_forever", "incr_score",
             "keep_in_progress"],
        ),
    ],
)  # fmt: skip
def test_the_seams_of_arq_are_as_expected(seam: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(Worker, seam)).parameters) == parameters
