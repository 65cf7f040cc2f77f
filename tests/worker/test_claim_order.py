"""In which order jobs start."""

import asyncio
from typing import Any

from arq import ArqRedis

from shared.clock import now_ms
from shared.queue.job_queue import JobQueue
from shared.queue.jobs import NewJob
from tests.waiting import eventually
from tests.worker.conftest import StartWorker, is_clean
from tests.worker.journal import Journal


def marked(label: str, number: int, **options: Any) -> NewJob:
    """Return a job that notes its label."""
    return NewJob(job_id=f"{label}-{number}", function="note", args=(label,), **options)


def gated(prefix: str, count: int, gate: str, **options: Any) -> list[NewJob]:
    """Return jobs that run until the gate is open."""
    return [NewJob(job_id=f"{prefix}{n}", function="wait_at", args=(gate,), **options) for n in range(count)]


async def labels_in_order(journal: Journal, count: int) -> list[str]:
    await eventually(lambda: len(journal.lines("start")) == count)
    return [line.label for line in journal.lines("start")]


async def test_bands_share_the_worker_by_weight_and_none_starves(
    queue: JobQueue, start_worker: StartWorker, journal: Journal
) -> None:
    await queue.ensure([marked(f"band{band}", n, band=band) for band in (2, 1, 0) for n in range(40)])

    await start_worker(max_jobs=1)
    labels = await labels_in_order(journal, 120)

    first_rounds = labels[:39]
    assert [first_rounds.count(f"band{band}") for band in (0, 1, 2)] == [24, 12, 3]
    assert labels[0] == "band0"


async def test_a_band_alone_gets_everything(queue: JobQueue, start_worker: StartWorker, journal: Journal) -> None:
    await queue.ensure([marked("late", n, band=2) for n in range(30)])

    await start_worker(max_jobs=1)

    assert await labels_in_order(journal, 30) == ["late"] * 30


async def test_a_newcomer_does_not_wait_behind_a_big_tenant(
    queue: JobQueue, start_worker: StartWorker, journal: Journal
) -> None:
    await queue.ensure([marked("big", n, tenant="big") for n in range(300)])
    await queue.ensure([marked("small", n, tenant="small") for n in range(5)])

    await start_worker(max_jobs=1)
    labels = await labels_in_order(journal, 305)

    assert max(place for place, label in enumerate(labels) if label == "small") <= 10


async def test_an_expensive_job_uses_up_more_of_the_turn(
    queue: JobQueue, start_worker: StartWorker, journal: Journal
) -> None:
    await queue.ensure([marked("costly", n, tenant="costly", cost=4.0) for n in range(5)])
    await queue.ensure([marked("cheap", n, tenant="cheap", cost=1.0) for n in range(20)])

    await start_worker(max_jobs=1)
    labels = await labels_in_order(journal, 25)

    assert 2 <= labels[:10].count("costly") <= 3


async def test_a_group_leaves_slots_for_others_however_many_jobs_it_has(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    for _ in range(2):
        await start_worker(max_jobs=10, share=1.0)
    await eventually(lambda: has_slots(redis, 20))
    await queue.ensure(gated("a", 25, "gate", group="a"))
    await eventually(lambda: len(journal.lines("start")) == 10)
    assert await eventually(lambda: is_parked(queue, 15))

    await queue.ensure(gated("b", 9, "gate", group="b") + gated("c", 1, "gate", group="c"))
    await eventually(lambda: {job_id[0] for job_id in journal.ids("start")} == {"a", "b", "c"})
    journal.open_gate("gate")
    await eventually(lambda: len(journal.lines("end")) == 35)

    assert journal.most_at_once("a") == 10
    await eventually(lambda: is_clean(redis))


async def has_slots(redis: ArqRedis, slots: int) -> bool:
    return int(await redis.get("sluice:platform:slots") or 0) == slots


async def is_parked(queue: JobQueue, jobs: int) -> bool:
    return sum((await queue.stats()).parked) == jobs


async def test_parked_jobs_start_when_another_group_leaves(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    await start_worker(max_jobs=12, share=1.0)
    await eventually(lambda: has_slots(redis, 12))
    await queue.ensure(gated("b", 4, "gate-b", group="b"))
    await eventually(lambda: len(journal.lines("start")) == 4)
    await queue.ensure(gated("a", 12, "gate-a", group="a"))
    await eventually(lambda: len(journal.lines("start")) == 8)

    journal.open_gate("gate-b")

    await eventually(lambda: journal.most_at_once("a") == 6)


async def test_the_deep_queue_of_a_group_without_a_slot_holds_nobody_up(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    await start_worker(max_jobs=10, share=1.0)
    await eventually(lambda: has_slots(redis, 10))
    await queue.ensure(gated("a", 5000, "never", group="a"))
    await queue.ensure([marked("b", n, group="b") for n in range(5)])

    await eventually(lambda: len([job_id for job_id in journal.ids("start") if job_id[0] == "b"]) == 5)
    assert journal.most_at_once("a") == 5


async def test_background_jobs_leave_slots_for_the_first_band(
    queue: JobQueue, start_worker: StartWorker, journal: Journal
) -> None:
    await start_worker(max_jobs=8)
    await queue.ensure(gated("batch", 20, "gate", band=2) + gated("later", 20, "gate", band=1))
    await eventually(lambda: len(journal.lines("start")) == 6)

    await queue.ensure(gated("now", 2, "gate", band=0))

    await eventually(lambda: len([job_id for job_id in journal.ids("start") if job_id.startswith("now")]) == 2)
    assert len(journal.lines("start")) == 8


async def test_callers_who_wait_find_slots_beside_the_batch_jobs_of_the_same_group(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    await start_worker(max_jobs=16)
    await eventually(lambda: has_slots(redis, 16))
    await queue.ensure(gated("batch", 50, "gate", band=2, group="a"))
    await eventually(lambda: len(journal.lines("start")) == 12)

    await queue.ensure(gated("now", 4, "gate", band=0, group="a"))

    await eventually(lambda: len([job_id for job_id in journal.ids("start") if job_id.startswith("now")]) >= 3)


async def test_due_jobs_keep_their_band(queue: JobQueue, start_worker: StartWorker, journal: Journal) -> None:
    soon = now_ms() + 300
    await queue.ensure([marked("batch", n, band=2, due_ms=soon) for n in range(20)])
    await queue.ensure([marked("now", n, band=0, due_ms=soon) for n in range(20)])
    await asyncio.sleep(0.4)

    await start_worker(max_jobs=1)

    assert (await labels_in_order(journal, 40))[:13].count("now") == 12


async def test_a_due_job_is_before_those_of_its_group_that_came_later(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    await start_worker(max_jobs=2, share=1.0)
    await eventually(lambda: has_slots(redis, 2))
    await queue.ensure(gated("first", 1, "gate", group="a"))
    await eventually(lambda: journal.lines("start"))
    await queue.ensure([marked("due", 0, group="a", due_ms=now_ms() + 50)])
    await eventually(lambda: is_parked(queue, 1))
    await queue.ensure([marked("later", n, group="a") for n in range(20)])
    await eventually(lambda: is_parked(queue, 21))

    journal.open_gate("gate")

    await eventually(lambda: len(journal.lines("start")) == 22)
    assert journal.ids("start")[1] == "due-0"


async def test_freed_slots_are_filled_again_from_the_lower_bands(
    queue: JobQueue, start_worker: StartWorker, journal: Journal
) -> None:
    await queue.ensure([marked("batch", n, band=2, group="a") for n in range(300)])

    await start_worker(max_jobs=4)

    await eventually(lambda: len(journal.lines("start")) == 300, within_s=10)


async def test_waiting_retries_take_no_slots(
    queue: JobQueue, redis: ArqRedis, start_worker: StartWorker, journal: Journal
) -> None:
    await start_worker(max_jobs=8, lease_s=30.0)
    await eventually(lambda: has_slots(redis, 8))
    await queue.ensure([marked("retry", n, due_ms=now_ms() + 20_000) for n in range(50)])

    await queue.ensure(gated("a", 6, "gate", group="a"))

    await eventually(lambda: len(journal.lines("start")) == 6)


async def test_more_jobs_run_than_arq_would_read(queue: JobQueue, start_worker: StartWorker, journal: Journal) -> None:
    await queue.ensure(gated("j", 60, "gate"))

    for _ in range(6):
        await start_worker(max_jobs=10, queue_read_limit=10)

    await eventually(lambda: journal.most_at_once("j") == 60)


async def test_stats_tell_depth_and_age(queue: JobQueue) -> None:
    await queue.ensure([marked("x", n, band=n % 2) for n in range(5)])
    await queue.enqueue(NewJob(job_id="later", function="note", args=("later",), due_ms=4_000_000_000_000))

    stats = await queue.stats()

    assert (stats.ready, stats.due, stats.held, stats.parked) == ((3, 2, 0), 0, 1, (0, 0, 0))
    assert stats.oldest_s[2] == stats.oldest_due_s == 0
    assert min(stats.oldest_s) >= 0


async def test_stats_count_what_runs_as_held(queue: JobQueue, start_worker: StartWorker, journal: Journal) -> None:
    await queue.ensure(gated("j", 3, "gate"))

    await start_worker(max_jobs=2)
    await eventually(lambda: len(journal.lines("start")) == 2)

    stats = await queue.stats()
    assert (stats.ready, stats.held) == ((1, 0, 0), 2)
