"""What a crash costs: workers killed, stopped and drained, Redis emptied and restarted."""

import asyncio
import os
import signal
from collections import Counter

import pytest
from arq import ArqRedis

from shared.queue.job_queue import JobQueue
from shared.queue.jobs import Enqueued, NewJob
from tests.servers import RedisServer
from tests.waiting import eventually
from tests.worker.conftest import ROOT, Spawn, StartWorker, is_clean, with_own_redis, worker_command
from tests.worker.journal import Journal
from worker.supervisor import Child, Group


def gated(count: int, *, gate: str = "gate", group: str = "") -> list[NewJob]:
    """Return jobs that run until the test opens the gate."""
    return [NewJob(job_id=f"j{n}", function="wait_at", args=(gate,), group=group) for n in range(count)]


def ids(jobs: list[NewJob]) -> list[str]:
    return [job.job_id for job in jobs]


async def are_in_the_lane(queue: JobQueue, job_ids: list[str]) -> bool:
    return await queue.missing(job_ids) == []


async def test_the_jobs_of_a_killed_worker_run_again_when_their_leases_end(
    queue: JobQueue, redis: ArqRedis, spawn: Spawn, journal: Journal
) -> None:
    first = spawn(max_jobs=5)
    await queue.ensure(gated(5))
    await eventually(lambda: len(journal.lines("start")) == 5)
    second = spawn()

    first.kill()
    await eventually(lambda: len(journal.lines("start", pid=second.pid)) == 5)
    journal.open_gate("gate")
    await eventually(lambda: is_clean(redis))

    assert {line.job_try for line in journal.lines("start", pid=second.pid)} == {2}
    assert sorted(journal.ids("end")) == ids(gated(5))


async def test_a_supervisor_hands_the_jobs_of_a_killed_worker_back_without_waiting_for_the_lease(
    queue: JobQueue, redis: ArqRedis, server: RedisServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    lease_s = 600.0
    child = Child(
        name="worker",
        command=lambda token: worker_command(server, journal, token=token, lease_s=lease_s, max_jobs=3),
        ended=lambda token: asyncio.ensure_future(release(queue, token, lease_s)),
    )
    group = Group([child, child], stop_s=10)
    group.start()
    await queue.ensure(gated(4))
    await eventually(lambda: len(journal.lines("start")) == 4)
    victim = journal.lines("start")[0].pid
    lost = journal.ids("start", pid=victim)

    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: len(journal.lines("start")) == 4 + len(lost))
    await eventually(lambda: len({line.pid for line in journal.lines("ready")}) == 3)  # it was replaced
    journal.open_gate("gate")
    await eventually(lambda: is_clean(redis))
    await group.stop()

    again = journal.lines("start")[4:]
    assert sorted(line.job_id for line in again) == sorted(lost)
    assert Counter(journal.ids("end")) == Counter(ids(gated(4)))
    assert victim not in {line.pid for line in journal.lines("leaving")}
    assert len(journal.lines("leaving")) == 2


async def release(queue: JobQueue, token: str, lease_s: float) -> None:
    await queue.release(token, lease_s=lease_s)


async def test_a_stopped_worker_is_replaced_and_its_late_outcome_refused(
    queue: JobQueue, redis: ArqRedis, spawn: Spawn, journal: Journal
) -> None:
    jobs = gated(3)
    zombie = spawn(max_jobs=3)
    await queue.ensure(jobs)
    await eventually(lambda: len(journal.lines("start")) == 3)
    other = spawn()

    zombie.send_signal(signal.SIGSTOP)
    await eventually(lambda: len(journal.lines("start", pid=other.pid)) == 3)
    journal.open_gate(zombie.pid)
    zombie.send_signal(signal.SIGCONT)
    await eventually(lambda: len(journal.lines("end", pid=zombie.pid)) == 3)
    zombie.send_signal(signal.SIGTERM)
    await eventually(lambda: zombie.poll() is not None)  # by now its outcomes have been sent

    assert await queue.missing(ids(jobs)) == []
    assert {line.job_try for line in journal.lines("start", pid=other.pid)} == {2}
    journal.open_gate("gate")
    await eventually(lambda: is_clean(redis))
    assert len(journal.lines("end", pid=other.pid)) == 3
    assert len(journal.lines("start")) == 6


async def test_a_worker_that_wins_its_own_lost_job_runs_it_once_at_a_time(
    queue: JobQueue, redis: ArqRedis, spawn: Spawn, journal: Journal
) -> None:
    worker = spawn()
    await queue.ensure(gated(3))
    await eventually(lambda: len(journal.lines("start")) == 3)

    worker.send_signal(signal.SIGSTOP)
    await eventually(lambda: no_leases(redis))
    worker.send_signal(signal.SIGCONT)
    await eventually(lambda: has_leases(redis, 3))
    journal.open_gate("gate")

    await eventually(lambda: is_clean(redis))
    assert [journal.most_at_once(f"j{n}") for n in range(3)] == [1, 1, 1]
    assert set(journal.ids("end")) == {"j0", "j1", "j2"}


async def no_leases(redis: ArqRedis) -> bool:
    return await has_leases(redis, 0)


async def has_leases(redis: ArqRedis, count: int) -> bool:
    return len(await redis.keys("arq:in-progress:*")) == count


async def test_losing_all_of_redis_loses_and_doubles_nothing(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    jobs = gated(9, group="a")
    await queue.ensure(jobs)
    await start_worker(max_jobs=5, share=0.0)
    await eventually(lambda: len(journal.lines("start")) == 5)

    await redis.flushall()
    await eventually(lambda: are_in_the_lane(queue, journal.ids("start")))  # the renewal takes the leases back
    answers = Counter(await queue.ensure(jobs))
    journal.open_gate("gate")
    await eventually(lambda: len(journal.lines("end")) == 9)
    await eventually(lambda: is_clean(redis))

    assert answers == {Enqueued.PRESENT: 5, Enqueued.QUEUED: 4}
    assert Counter(journal.ids("start")) == dict.fromkeys(ids(jobs), 1)


async def test_a_job_that_ends_right_after_a_loss_is_not_run_again(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    jobs = gated(3)
    await start_worker(lease_s=600.0, max_jobs=3)  # no renewal before the jobs end
    await queue.ensure(jobs)
    await eventually(lambda: len(journal.lines("start")) == 3)

    await redis.flushall()
    assert set(await queue.ensure(jobs)) == {Enqueued.QUEUED}  # nobody has taken the leases back yet
    journal.open_gate("gate")
    await eventually(lambda: is_clean(redis))

    assert sorted(journal.ids("start")) == ids(jobs)
    assert sorted(journal.ids("end")) == ids(jobs)


@with_own_redis
async def test_workers_outlive_a_crash_of_redis(
    queue: JobQueue, redis: ArqRedis, server: RedisServer, spawn: Spawn, journal: Journal
) -> None:
    worker = spawn(keep_result=60)
    short, long = gated(3, gate="short"), NewJob(job_id="long", function="wait_at", args=("long",))
    await queue.ensure([*short, long])
    await eventually(lambda: len(journal.lines("start")) == 4)

    server.kill()
    journal.open_gate("short")
    await eventually(lambda: len(journal.lines("end")) == 3)
    server.start()

    await eventually(lambda: have_results(redis, ids(short)))  # the outcomes waited for Redis
    await eventually(lambda: are_in_the_lane(queue, ["long"]))
    assert await queue.ensure([*short, long]) == [Enqueued.FINISHED] * 3 + [Enqueued.PRESENT]
    journal.open_gate("long")
    await queue.enqueue(NewJob(job_id="next", function="note", args=("x",)))
    await eventually(lambda: is_clean(redis))
    assert Counter(journal.ids("start")) == dict.fromkeys([*ids(short), "long", "next"], 1)
    assert worker.poll() is None


async def have_results(redis: ArqRedis, job_ids: list[str]) -> bool:
    return await redis.exists(*(f"arq:result:{job_id}" for job_id in job_ids)) == len(job_ids)


async def test_a_drained_worker_finishes_what_it_can_and_gives_the_rest_back(
    queue: JobQueue, redis: ArqRedis, spawn: Spawn, journal: Journal
) -> None:
    first = spawn(drain_s=1)
    long = NewJob(job_id="long", function="wait_at", args=("long",), group="a")
    await queue.ensure([*gated(2), long])
    await eventually(lambda: len(journal.lines("start")) == 3)

    first.send_signal(signal.SIGTERM)
    await eventually(lambda: journal.lines("leaving"))
    await queue.enqueue(NewJob(job_id="late", function="note", args=("late",)))
    journal.open_gate("gate")
    await eventually(lambda: first.poll() is not None)

    assert first.returncode == 0
    assert sorted(journal.ids("end")) == ["j0", "j1"]
    assert journal.ids("cancelled") == ["long"]
    assert "late" not in journal.ids("start")
    second = spawn()
    await eventually(lambda: len(journal.lines("start", pid=second.pid)) == 2)
    tries = {line.job_id: line.job_try for line in journal.lines("start", pid=second.pid)}
    assert tries == {"long": 1, "late": 1}
    journal.open_gate("long")
    await eventually(lambda: is_clean(redis))


async def test_what_comes_after_a_drain_is_left_to_another_worker(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    first = await start_worker()
    await queue.enqueue(NewJob(job_id="first", function="note", args=("x",)))
    await eventually(lambda: is_clean(redis))

    await first.drain()
    await eventually(lambda: first.main_task is not None and first.main_task.cancelled())
    await queue.enqueue(NewJob(job_id="second", function="note", args=("x",)))
    await start_worker()

    await eventually(lambda: is_clean(redis))
    assert journal.ids("start") == ["first", "second"]
