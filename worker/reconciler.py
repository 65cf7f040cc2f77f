"""What keeps Redis and the database in step: cron jobs of the platform lane, one runner at a time.

The database is the truth.  A job that is not over and not in the queue is put there; a deadline that has passed is
enforced.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import structlog
from msgspec import Struct, msgpack
from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError
from sqlalchemy import text
from sqlmodel import col, select

from shared.clock import now_ms
from shared.jobs.ending import job_cancelled
from shared.jobs.entries import queue_entry
from shared.jobs.messages import message_of
from shared.jobs.queries import LIGHT
from shared.jobs.schemas import CANCELLED, EXPIRED, IN_PROGRESS
from shared.jobs.statements import cancel_unread
from shared.jobs.tables import JobRow
from shared.queue.job_queue import JobQueue
from shared.queue.lanes import PLATFORM, lane_of
from shared.readers import take_unread
from shared.tasks import end_tasks
from worker.context import Runtime
from worker.failures import job_expired
from worker.takeover import end_without_attempt
from worker.waiting_jobs import end_waiting
from worker.webhooks.sweep import enqueue_due, wake_paused

log = structlog.get_logger()

_SETTLED_MS: Final = 4000
"""A younger job may still be on its way into the queue, or to be withdrawn.

Longer than a commit takes as a rule, not than any: of a slow one, each statement may take 3 s.  A job stored so late is
put into the queue by both, which is the same as by one, and runs if its withdrawal comes later still.  If it is older
than `_OVERLAP_MS` by then, and nobody else puts it there, it waits for the next look at all.
"""
_OVERLAP_MS: Final = 9000
_LOCK_S: Final = 3.0
_PROGRESS_KEY: Final = "sluice:reconciler"
_FULL_SWEEP_MS: Final = 60_000
_NEVER_MS: Final = 2**62
_PAGE: Final = 500

# looked at every second, hence as plain SQL: an ORM statement takes longer to build than to run
_UNFINISHED: Final = text("""
SELECT created_ms, id, kind FROM jobs WHERE finished_ms IS NULL AND shard = :shard
    AND (created_ms, id) > (:since, :after) AND created_ms <= :until
    AND status IN ('queued', 'in_progress') AND NOT held
ORDER BY created_ms, id LIMIT :page
""")
_TO_END: Final = text("""
SELECT id FROM jobs WHERE finished_ms IS NULL AND shard = :shard AND cancel_requested_ms IS NOT NULL
    AND status IN ('queued', 'in_progress')
UNION
SELECT id FROM jobs WHERE finished_ms IS NULL AND shard = :shard AND started_ms IS NULL AND expires_ms <= :now
    AND status IN ('queued', 'in_progress')
LIMIT :page
""")


class Reconciler(Struct, kw_only=True):
    """What the cron jobs work with."""

    runtime: Runtime
    redis: Redis
    queue: JobQueue
    """Of the inference lane."""
    platform: JobQueue

    def queue_of(self, kind: str) -> JobQueue:
        """Return the lane of a kind of jobs."""
        return self.platform if lane_of(kind) == PLATFORM else self.queue


class _Progress(Struct):
    """What the last run noted, in whichever process; kept in Redis and lost with it."""

    epoch: bytes | None = None
    last_ms: int = 0
    """When the last look began; after a pause, jobs may have been missed that are not new any more.

    If it is ahead, the clock was set back, and the instants below tell nothing.
    """
    next_full_ms: int = 0
    """When all unfinished jobs are looked at again, not only the newest."""
    resume_ms: int = 0
    """Nothing is restored before: after a loss of data, workers take back what they run first."""


@asynccontextmanager
async def alone(reconciler: Reconciler, name: str) -> AsyncIterator[bool]:
    """Yield whether this run is the only one of its name; a killed one blocks the next for a few seconds."""
    lock = reconciler.redis.lock(f"sluice:lock:{name}", timeout=_LOCK_S, blocking=False)
    if not await lock.acquire():
        yield False
        return
    keeping = asyncio.get_running_loop().create_task(_keep(lock))
    try:
        yield True
    finally:
        await end_tasks(keeping)
        with suppress(LockError, RedisError, OSError):
            await lock.release()


async def _keep(lock: Lock) -> None:
    """Extend the lock until cancelled."""
    while True:
        await asyncio.sleep(_LOCK_S / 3)
        with suppress(LockError, RedisError, OSError):  # a second runner does no harm
            await lock.reacquire()


async def reconcile(ctx: dict[str, Any]) -> None:
    """Put jobs into the queue that should be there; every second a look at the newest, every minute at all.

    When Redis has lost its data, all are looked at as soon as the workers have taken back what they run.
    """
    reconciler: Reconciler = ctx["reconciler"]
    async with alone(reconciler, "reconcile") as is_alone:
        if is_alone:
            await _restore_lost(reconciler)
            await _cancel_unread(reconciler)
            await _repeat_cancels(reconciler)


async def _restore_lost(reconciler: Reconciler) -> None:
    now = now_ms()
    epoch, noted = await reconciler.redis.mget(f"{reconciler.queue.name}:epoch", _PROGRESS_KEY)
    progress = msgpack.decode(noted, type=_Progress) if noted else _Progress()
    adopted_ms = now + int(reconciler.runtime.settings.lease_s * 1000)
    if epoch is None or epoch != progress.epoch:
        log.info("queue_is_new", epoch=epoch)
        progress.epoch = epoch
        progress.resume_ms = progress.next_full_ms = adopted_ms
    elif abs(now - progress.last_ms) > _OVERLAP_MS - _SETTLED_MS:
        progress.next_full_ms = now
        progress.resume_ms = min(progress.resume_ms, adopted_ms)
    progress.last_ms = now
    if now >= progress.resume_ms:
        since = now - _OVERLAP_MS
        if now >= progress.next_full_ms:
            since = 0
        await _restore(reconciler, since, now - _SETTLED_MS)
        if reconciler.runtime.shard == 0:
            await _restore_deliveries(reconciler.runtime, since)
        if since == 0:
            await _restore(reconciler, now + _FULL_SWEEP_MS, _NEVER_MS)  # of the time before the clock was set back
            # a deep queue takes long to look through
            progress.next_full_ms = now_ms() + max(_FULL_SWEEP_MS, 20 * (now_ms() - now))
    await reconciler.redis.set(_PROGRESS_KEY, msgpack.encode(progress))


async def _restore_deliveries(runtime: Runtime, since_ms: int) -> None:
    await enqueue_due(runtime, since_ms)
    if since_ms == 0:
        await wake_paused(runtime)


async def _restore(reconciler: Reconciler, since_ms: int, until_ms: int) -> None:
    """Enqueue the unfinished jobs created in this span that the queue does not know."""
    after, restored = "", 0
    while True:
        shard = reconciler.runtime.shard
        span = {"since": since_ms, "until": until_ms, "after": after, "page": _PAGE, "shard": shard}
        async with reconciler.runtime.database.engine.connect() as connection:
            found = (await connection.execute(_UNFINISHED, span)).all()
        if not found:
            break
        since_ms, after, _ = found[-1]
        for queue in (reconciler.queue, reconciler.platform):
            ids = [job_id for _, job_id, kind in found if reconciler.queue_of(kind) is queue]
            if ids and (missing := await queue.missing(ids)):
                restored += await _enqueue(reconciler, queue, missing)
        if len(found) < _PAGE:
            break
    if restored:
        log.warning("jobs_restored", count=restored)


async def _enqueue(reconciler: Reconciler, queue: JobQueue, job_ids: Sequence[str]) -> int:
    async with reconciler.runtime.database.read() as session:
        statement = select(JobRow).where(col(JobRow.id).in_(job_ids), col(JobRow.finished_ms).is_(None)).options(*LIGHT)
        rows = (await session.exec(statement)).all()
    await queue.ensure([queue_entry(message_of(row), row) for row in rows])
    return len(rows)


async def _cancel_unread(reconciler: Reconciler) -> None:
    """Cancel stream jobs that nobody has read for the grace period."""
    for job_id in await take_unread(reconciler.redis):
        (flagged,) = await reconciler.runtime.writer.execute_many((cancel_unread(job_id, now_ms()),))
        if flagged.rows:
            log.info("stream_without_reader_cancelled", job_id=job_id)


async def _repeat_cancels(reconciler: Reconciler) -> None:
    """Tell workers again about running jobs that are to be cancelled; end waiting ones and those that came too late."""
    now = now_ms()
    async with reconciler.runtime.database.engine.connect() as connection:
        values = {"now": now, "page": _PAGE, "shard": reconciler.runtime.shard}
        ids = list((await connection.execute(_TO_END, values)).scalars())
    if not ids:
        return
    async with reconciler.runtime.database.read() as session:
        rows = (await session.exec(select(JobRow).where(col(JobRow.id).in_(ids)).options(*LIGHT))).all()
    unheard = {True: list[JobRow](), False: list[JobRow]()}
    for row in rows:
        is_cancelled = row.cancel_requested_ms is not None
        if row.status == IN_PROGRESS:
            await reconciler.queue_of(row.kind).signal(row.id)
        elif row.inbox is None and row.attempt == 0:
            unheard[is_cancelled].append(row)
        else:
            await reconciler.queue_of(row.kind).abort(row.id)
            status, error = (CANCELLED, job_cancelled()) if is_cancelled else (EXPIRED, job_expired())
            await end_without_attempt(reconciler.runtime, message_of(row), status, error)
    await end_waiting(reconciler.runtime, reconciler.queue_of, unheard[True], CANCELLED, job_cancelled())
    await end_waiting(reconciler.runtime, reconciler.queue_of, unheard[False], EXPIRED, job_expired())
