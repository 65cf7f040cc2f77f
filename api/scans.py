"""Scanned pages of PDFs become text before an ingestion begins: its job is held back until they are.

The job and its file are stored before anything is read, so nothing is lost with this process: another one goes on when
the lease ends.  Each page is a job of its own, admitted, charged and kept like any; its id follows from that of the
ingestion and the number of the page, so a page that was read is not read, or paid for, again.
"""

import asyncio
from contextlib import suppress
from typing import Final

import structlog
from msgspec import json
from redis.asyncio.lock import Lock
from redis.exceptions import LockNotOwnedError, RedisError
from sqlalchemy.exc import SQLAlchemyError

from api.scanned_pages import ScanFailedError, read_pages
from api.state import State, queue_of, state_of
from api.waiting_jobs import end_waiting
from shared.documents.queries import list_held_jobs
from shared.documents.schemas import IngestionRequest
from shared.documents.statements import release_job
from shared.errors import ApiError
from shared.files.store import FileGoneError, FileStoreError
from shared.group_commit.units import CommitError, StaleError
from shared.jobs.entries import queue_entry
from shared.jobs.messages import message_of
from shared.jobs.schemas import FAILED, public_id
from shared.jobs.tables import JobRow
from shared.tasks import end_tasks, start_background

log = structlog.get_logger()
_LOOK_S: Final = 2.0
_LEASE_S: Final = 10.0
_MOST: Final = 8
"""Files that one process reads at the same time."""
_AWAY: Final = (SQLAlchemyError, CommitError, RedisError, FileStoreError, OSError, ApiError)
_REQUEST: Final = json.Decoder(IngestionRequest)


class Scans:
    """Works on held ingestions that nobody else works on; one per api process."""

    def __init__(self, state: State) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}
        self._task = start_background(self._follow(state))

    async def close(self) -> None:
        """Stop; what is left is taken over when the leases end."""
        await end_tasks(self._task)
        await end_tasks(*self._running.values())  # the other one began them, maybe at its very end

    async def _follow(self, state: State) -> None:
        while True:
            state.has_held_job.clear()
            try:
                for job_id, lease in await self._lease(state):
                    task = asyncio.get_running_loop().create_task(self._take(state, job_id, lease))
                    self._running[job_id] = task
                    task.add_done_callback(lambda _, job_id=job_id: self._end(state, job_id))  # type: ignore[misc]
            except (SQLAlchemyError, RedisError, OSError) as error:
                log.warning("scans_not_looked_at", error=repr(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await state.has_held_job.wait()

    def _end(self, state: State, job_id: str) -> None:
        self._running.pop(job_id, None)
        state.has_held_job.set()

    async def _lease(self, state: State) -> list[tuple[str, Lock]]:
        """Return what this process has to work on from now on, too."""
        room, leased = _MOST - len(self._running), list[tuple[str, Lock]]()
        if room <= 0:
            return leased
        async with state.database.read() as session:
            held = [one for one in await list_held_jobs(session) if one[0] not in self._running]
        for job_id, shard in held:
            if len(leased) == room or shard >= len(state.shards) or not state.shards[shard].inbox.is_connected:
                continue
            lease = Lock(state.shards[shard].redis, f"sluice:scan:{job_id}", timeout=_LEASE_S, blocking=False)
            with suppress(RedisError, OSError):  # of this shard; the others go on
                if await lease.acquire():
                    leased.append((job_id, lease))
        return leased

    async def _take(self, state: State, job_id: str, lease: Lock) -> None:
        """Work on one job as long as it is ours."""
        work = asyncio.get_running_loop().create_task(_work(state, job_id))
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=_LEASE_S / 3)
                if not work.done():
                    await lease.reacquire()
            work.result()
        except LockNotOwnedError:  # after a pause: somebody else goes on
            log.info("scan_taken_over", job_id=public_id(job_id))
        except _AWAY as error:
            log.warning("scan_waits", job_id=public_id(job_id), error=repr(error))
            await asyncio.sleep(_LOOK_S)
        except Exception:  # a bug must not be retried ten times a second
            log.exception("scan_failed", job_id=public_id(job_id))
            await asyncio.sleep(_LOOK_S)
        finally:
            await end_tasks(work)
            with suppress(RedisError, OSError):
                await lease.release()


async def _work(state: State, job_id: str) -> None:
    """Read the scanned pages of the job's file and let the job run; or end it because of them."""
    async with state.database.read() as session:
        row = await session.get(JobRow, job_id)
    if row is None or not row.held or row.finished_ms is not None:
        return
    state = state_of(state, row.shard)
    try:
        pages = await read_pages(state, row)
    except FileGoneError:
        pages = None  # the job finds that out, too, and says so
    except ScanFailedError as failure:
        with suppress(StaleError):  # it was cancelled meanwhile
            await end_waiting(state, row, failure.error, FAILED)
        return
    request = _REQUEST.decode(row.request or b"")
    request.pages = pages
    row.request = json.encode(request)
    results = await state.writer.execute_many((release_job(row.id, row.request),))
    if results[0].rows:
        queue_of(state, row.kind).put(queue_entry(message_of(row, row.request), row))
