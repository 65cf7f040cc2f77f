"""How a job comes to a worker, and how it is taken away again."""

import asyncio
from typing import Any

import pytest
from arq import ArqRedis
from arq.constants import abort_jobs_ss
from redis.exceptions import RedisError

from shared.queue.job_queue import JobQueue
from shared.queue.jobs import Aborted, Enqueued, NewJob
from shared.queue.keys import wake_key
from tests.servers import RedisServer
from tests.waiting import eventually
from tests.worker.conftest import Spawn, StartWorker, is_clean, left_over, with_own_redis
from tests.worker.journal import Journal


def notes(count: int) -> list[NewJob]:
    return [NewJob(job_id=f"j{n}", function="note", args=("x",)) for n in range(count)]


async def test_an_idle_worker_answers_the_bell(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    await start_worker()
    await redis.zadd(wake_key(queue.name), {"0": 0})

    await eventually(lambda: bell_is_taken(redis))
    await queue.enqueue(NewJob(job_id="first", function="note", args=("x",)))

    await eventually(lambda: bell_is_taken(redis))
    await eventually(lambda: journal.ids("start") == ["first"])


async def bell_is_taken(redis: ArqRedis) -> bool:
    return not await redis.exists(wake_key(redis.default_queue_name))


async def test_a_worker_process_runs_what_is_put_into_the_lane(queue: JobQueue, spawn: Spawn, journal: Journal) -> None:
    worker = spawn()

    for job in notes(20):
        await queue.enqueue(job)
    await eventually(lambda: len(journal.lines("start")) == 20)

    assert sorted(journal.ids("start", pid=worker.pid)) == sorted(f"j{n}" for n in range(20))


async def test_a_freed_slot_takes_the_next_job(queue: JobQueue, start_worker: StartWorker, journal: Journal) -> None:
    await queue.ensure([NewJob(job_id=f"j{n}", function="hold", args=(0.01,)) for n in range(20)])

    await start_worker(max_jobs=1)
    await eventually(lambda: len(journal.lines("end")) == 20)

    assert journal.most_at_once("j") == 1


async def test_a_job_in_the_lane_is_not_put_there_again(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    job = NewJob(job_id="once", function="wait_at", args=("gate",))
    assert await queue.ensure([job, job]) == [Enqueued.QUEUED, Enqueued.PRESENT]
    await start_worker()
    await eventually(lambda: journal.lines("start"))

    assert await queue.enqueue(job) is Enqueued.PRESENT

    journal.open_gate("gate")
    await eventually(lambda: is_clean(redis))
    assert journal.ids("start") == ["once"]


async def test_a_job_whose_result_is_kept_is_not_put_there_again(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    [job] = notes(1)
    await queue.enqueue(job)
    await start_worker(keep_result=60)
    await eventually(lambda: is_clean(redis))

    assert await queue.enqueue(job) is Enqueued.FINISHED
    assert await queue.abort(job.job_id) is Aborted.FINISHED
    assert journal.ids("start") == [job.job_id]


async def test_concurrent_calls_share_a_pipeline_and_each_gets_its_own_answer(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    jobs = notes(700)

    answers = await asyncio.gather(*(queue.enqueue(job) for job in [*jobs, jobs[3], jobs[650]]))

    assert answers == [Enqueued.QUEUED] * 700 + [Enqueued.PRESENT] * 2
    assert len(await redis.client_list()) < 5
    await start_worker(max_jobs=20)
    await eventually(lambda: len(journal.lines("start")) == 700)
    assert len(set(journal.ids("start"))) == 700


async def test_a_caller_that_gives_up_does_not_stop_the_others(queue: JobQueue) -> None:
    calls = [asyncio.ensure_future(queue.enqueue(job)) for job in notes(10)]
    await asyncio.sleep(0)

    calls[0].cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert answers[1:] == [Enqueued.QUEUED] * 9
    assert await queue.missing([job.job_id for job in notes(10)]) == []


@with_own_redis
async def test_every_caller_learns_that_redis_is_away(queue: JobQueue, server: RedisServer) -> None:
    server.kill()

    answers = await asyncio.gather(*(queue.enqueue(job) for job in notes(10)), return_exceptions=True)

    assert all(isinstance(answer, RedisError | OSError) for answer in answers)
    server.start()
    assert await queue.enqueue(notes(1)[0]) is Enqueued.QUEUED


async def test_a_lost_queue_entry_of_a_running_job_is_restored(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    job = NewJob(job_id="runs", function="wait_at", args=("gate",))
    await queue.enqueue(job)
    await start_worker()
    await eventually(lambda: journal.lines("start"))

    await redis.delete(queue.name, "arq:job:runs")

    assert await queue.missing(["runs"]) == ["runs"]
    assert await queue.enqueue(job) is Enqueued.RUNNING
    assert await queue.missing(["runs"]) == []
    journal.open_gate("gate")
    await eventually(lambda: is_clean(redis))
    assert journal.ids("start") == ["runs"]


async def test_missing_names_what_is_not_in_the_lane_in_the_order_asked(queue: JobQueue) -> None:
    await queue.ensure(notes(3))

    assert await queue.missing(["z", "j1", "a", "j0"]) == ["z", "a"]
    assert await queue.missing([]) == []


@pytest.mark.parametrize("wrong", [{"band": 3}, {"band": -1}, {"cost": 0.0}])
async def test_a_job_out_of_range_is_refused(queue: JobQueue, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"band|cost"):
        await queue.ensure([NewJob(job_id="x", function="note", **wrong)])

    assert await queue.missing(["x"]) == ["x"]


async def test_abort_ends_a_waiting_job_at_once(queue: JobQueue, redis: ArqRedis) -> None:
    await queue.enqueue(NewJob(job_id="waits", function="note", tenant="a"))

    assert await queue.abort("waits") is Aborted.ABORTED

    assert await queue.missing(["waits"]) == ["waits"]
    assert await left_over(redis) == []
    assert await redis.keys("arq:result:*") == []


async def test_abort_cancels_a_running_job(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    await start_worker()
    await queue.enqueue(NewJob(job_id="runs", function="wait_at", args=("gate",)))
    await eventually(lambda: journal.lines("start"))

    assert await queue.abort("runs") is Aborted.SIGNALLED

    await eventually(lambda: journal.ids("cancelled") == ["runs"])
    await eventually(lambda: is_clean(redis))
    assert await redis.zcard(abort_jobs_ss) == 0
    assert journal.ids("start") == ["runs"]


async def test_abort_of_an_unknown_job_leaves_nothing_behind(queue: JobQueue, redis: ArqRedis) -> None:
    assert await queue.abort("nobody") is Aborted.UNKNOWN

    assert await redis.keys("*") == []


async def test_a_bad_job_harms_no_neighbour(queue: JobQueue) -> None:
    jobs = [NewJob(job_id=f"j{n}", function="note", band=9 if n == 1 else 1) for n in range(3)]

    first, bad, last = await asyncio.gather(*(queue.enqueue(job) for job in jobs), return_exceptions=True)

    assert (first, last) == (Enqueued.QUEUED, Enqueued.QUEUED)
    assert isinstance(bad, ValueError)
