"""Batches on their way in: read the input, make a job of each line, let the jobs into the queue.

    validating    `_read_in`: each line is checked as on its own route and becomes a job that is held back; one bad line
                  and the batch has failed, without anything having run
    in_progress   `api.batch_feed`: the held jobs are admitted, as fast as the limits of their owner allow

A batch is worked on by one api process, under a lease in the database; between the two steps, and while it waits for a
cleaner hour, it is nobody's.  If that process dies, another one goes on; the id of a job follows from the number of its
line, so a line that is read again is not accepted twice.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog
from msgspec import json
from msgspec.structs import replace
from redis.exceptions import RedisError
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from api.batch_feed import feed
from api.batch_lines import Line, LineChecker, read_lines
from api.batch_start import best_start
from api.http import Endpoint
from api.state import State, state_of
from api.submission import Origin, new_job, policy_now
from shared.batches.events import tell_end
from shared.batches.items import item_id, item_span
from shared.batches.queries import change_batch, has_free_batches, keep_lease, lease_batches
from shared.batches.schemas import (
    CANCELLED,
    CANCELLING,
    FAILED,
    LOW_CARBON,
    RUNNING,
    VALIDATING,
    BatchError,
    BatchErrors,
)
from shared.batches.statements import insert_item
from shared.batches.tables import BatchRow
from shared.clock import now_ms
from shared.errors import ApiError
from shared.files.queries import set_file_status
from shared.files.store import FileGoneError, FileStoreError
from shared.group_commit.units import CommitError, Statement, StoreUnavailableError, WriterBusyError
from shared.ids import new_ulid
from shared.jobs.messages import BAND_NUMBERS
from shared.jobs.schemas import BATCH
from shared.jobs.tables import JobRow
from shared.request_logs.redaction import strictest
from shared.tasks import end_tasks, start_background
from shared.webhooks.queue import enqueue_deliveries
from shared.webhooks.statements import Delivery

log = structlog.get_logger()
_LOOK_S: Final = 1.0
_LEASE_S: Final = 10.0
_MOST_READ: Final = 4
"""Batches that one process reads at the same time; the others wait for their turn."""
_MOST_FED: Final = 64
"""Batches that one process feeds at the same time: mostly it waits for room or for limits."""
_PAGE: Final = 100
_PAGE_BYTES: Final = 128 * 1024
"""Lines stored together, and about how much of them: others write in between."""
_MOST_REMOVED: Final = 500
_PAUSE_S: Final = 0.05
_BREATH: Final = 10
"""Lines between two chances of other requests."""
_AWAY: Final = (SQLAlchemyError, CommitError, FileStoreError, RedisError, OSError, ApiError)


class BatchIntake:
    """Works on batches that nobody else works on; one per api process."""

    def __init__(self, state: State, endpoints: Mapping[str, Endpoint]) -> None:
        """`endpoints` are those that make a job of a JSON body, by path."""
        self._owner = new_ulid()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._read: set[str] = set()
        """Those of them that are being read."""
        self._task = start_background(self._follow(state, endpoints))

    async def close(self) -> None:
        """Stop; what is left is taken over when the leases end."""
        await end_tasks(self._task)
        await end_tasks(*self._running.values())  # the other one began them, maybe at its very end

    async def _follow(self, state: State, endpoints: Mapping[str, Endpoint]) -> None:
        while True:
            state.has_new_batch.clear()
            try:
                rows = await self._lease(state)
            except (SQLAlchemyError, OSError) as error:
                log.warning("batches_not_looked_at", error=repr(error))
                rows = []
            for row in rows:
                if row.endpoint not in endpoints:
                    log.warning("batch_left_to_a_newer_version", batch_id=row.id, endpoint=row.endpoint)
                elif row.id not in self._running:  # a lease of ours may have ended unnoticed
                    self._begin(state, endpoints[row.endpoint], row)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await state.has_new_batch.wait()

    async def _lease(self, state: State) -> list[BatchRow]:
        """Return what this process has to work on from now on, too."""
        free = {True: _MOST_READ - len(self._read), False: _MOST_FED - len(self._running) + len(self._read)}
        rows: list[BatchRow] = []
        async with state.database.read() as session:
            if not await has_free_batches(session, now_ms()):
                return rows
        async with state.database.transaction() as session:
            for unread, limit in free.items():
                if limit > 0:
                    lease_ms = int(_LEASE_S * 1000)
                    rows += await lease_batches(session, self._owner, now_ms(), lease_ms, limit, unread=unread)
        return rows

    def _begin(self, state: State, endpoint: Endpoint, row: BatchRow) -> None:
        task = asyncio.get_running_loop().create_task(self._take(state, endpoint, row))
        self._running[row.id] = task
        if row.total is None:
            self._read.add(row.id)

        def end(_: "asyncio.Task[None]") -> None:
            self._running.pop(row.id, None)
            self._read.discard(row.id)
            state.has_new_batch.set()

        task.add_done_callback(end)

    async def _take(self, state: State, endpoint: Endpoint, row: BatchRow) -> None:
        """Work on one batch as long as it is ours."""
        work = asyncio.get_running_loop().create_task(_work(state, endpoint, row))
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=_LEASE_S / 3)
                async with state.database.transaction() as session:
                    until_ms = now_ms() + int(_LEASE_S * 1000)
                    if await keep_lease(session, row.id, self._owner, until_ms) is None:
                        break
            if work.done():
                work.result()
                await self._let_go(state, row, 0)
        except _AWAY as error:
            log.warning("batch_waits", batch_id=row.id, error=repr(error))
            await self._let_go(state, row, _LOOK_S)
        except Exception:  # a bug must not be retried ten times a second
            log.exception("batch_intake_failed", batch_id=row.id)
        finally:
            await end_tasks(work)

    async def _let_go(self, state: State, row: BatchRow, after_s: float) -> None:
        """Have the batch worked on again, if there is more to do, by whoever comes first."""
        with suppress(SQLAlchemyError, OSError):
            async with state.database.transaction() as session:
                await keep_lease(session, row.id, self._owner, now_ms() + int(after_s * 1000) - 1)


async def _work(state: State, endpoint: Endpoint, row: BatchRow) -> None:
    state = state_of(state, row.shard)
    if row.total is None:
        await _read_in(state, endpoint, row)
    else:
        await feed(state, endpoint, row)


async def _read_in(state: State, endpoint: Endpoint, row: BatchRow) -> None:
    """Make a job of each line, or end the batch because of what is in it."""
    if now_ms() >= row.expires_ms:  # whatever kept it from being read, it must not stay so for ever
        message = "The input could not be read before the completion window ended."
        await refuse(state, row, [BatchError(code="batch_expired", message=message, param=None, line=None)])
        return
    caller = await state.keys.find_owner(row.user_id, row.key_id)
    if caller is None:
        error = BatchError(code="invalid_api_key", message="The key of the batch has ended.", param=None, line=None)
        await refuse(state, row, [error])
        return
    origin = json.decode(row.origin or "{}", type=Origin)
    checker = LineChecker(state, caller, endpoint, origin.dialect)
    try:
        await _store_lines(state, row, checker, origin)
    except FileGoneError:
        message = "The input file is gone."
        await refuse(state, row, [BatchError(code="file_not_found", message=message, param=None, line=None)])
        return
    checker.finish()
    if checker.errors:
        await refuse(state, row, checker.errors)
        return
    now, policy = now_ms(), strictest(policy_now(caller, origin), checker.came_under)
    values = {
        "total": checker.count,
        "model": next(iter(checker.models)) if len(checker.models) == 1 else None,
        "origin": json.encode(replace(origin, content_policy=policy)).decode(),
        "start_ms": await best_start(state, row, checker) if row.start == LOW_CARBON else None,
    }
    async with state.database.transaction() as session:
        await change_batch(session, row.id, (VALIDATING, CANCELLING), **values)
        await change_batch(session, row.id, (VALIDATING,), status=RUNNING, in_progress_ms=now)
        await set_file_status(session, row.input_file_id or "", "processed", None)
    log.info("batch_accepted", batch_id=row.id, lines=checker.count, took_ms=now - row.created_ms)


async def _store_lines(state: State, row: BatchRow, checker: LineChecker, origin: Origin) -> None:
    chunks = (await state.uploads.open(row.input_file_id or "")).chunks
    page: list[Statement] = []
    page_bytes = 0
    writing: asyncio.Task[None] | None = None
    async for number, raw in read_lines(chunks, state.settings.max_body_bytes):
        line = await checker.check(number, raw)
        if checker.is_hopeless:
            break
        if number % _BREATH == 0:
            await asyncio.sleep(0)
        if line is None or checker.errors:
            continue
        page.append(_insert(row, origin, line, number))
        page_bytes += len(raw)
        if len(page) >= _PAGE or page_bytes >= _PAGE_BYTES:
            await _ended(writing)
            writing = asyncio.get_running_loop().create_task(_write(state, page))
            page, page_bytes = [], 0
    await _ended(writing)
    if page:
        await _write(state, page)


async def _ended(writing: "asyncio.Task[None] | None") -> None:
    if writing is not None:
        await writing


async def _write(state: State, page: Sequence[Statement]) -> None:
    """Store a page, however long the database is away; a loss of power is no matter: the batch is read again then."""
    while True:
        try:
            await state.writer.execute_many(page, durable=False)
        except (StoreUnavailableError, WriterBusyError):
            await asyncio.sleep(_PAUSE_S)
        else:
            return


def _insert(row: BatchRow, origin: Origin, line: Line, number: int) -> Statement:
    job = new_job(line.draft, origin, line.submission, item_id(row.id, number), None, BAND_NUMBERS[BATCH])
    job.batch_id, job.custom_id, job.held = row.id, line.custom_id, True
    job.expires_ms, job.notify = row.expires_ms, row.notify if row.item_events else None
    job.result_ttl_s = line.draft.state.settings.result_ttl_s  # `store: false` must not take it from the output file
    return insert_item(job)


async def refuse(state: State, row: BatchRow, errors: list[BatchError]) -> None:
    """End a batch whose input cannot be used, unless somebody else has it now; what was made of it is removed."""
    while await _remove_items(state, row):
        pass
    now, text = now_ms(), json.encode(BatchErrors(data=errors)).decode()
    async with state.database.transaction() as session:
        if not await _is_ours(session, row):
            return
        ended = {
            "total": 0, "is_fed": True, "errors": text, "finished_ms": now, "output_file_id": None,
            "error_file_id": None,
        }  # fmt: skip
        deliveries: list[Delivery] = []
        for before, after in ((VALIDATING, FAILED), (CANCELLING, CANCELLED)):
            if await change_batch(session, row.id, (before,), status=after, **{f"{after}_ms": now}, **ended):
                deliveries += await tell_end(session, row, after, now)
        message = errors[0].message if errors[0].line is None else f"Line {errors[0].line}: {errors[0].message}"
        await set_file_status(session, row.input_file_id or "", "error", message)
    enqueue_deliveries(state.deliveries, deliveries)
    log.info("batch_refused", batch_id=row.id, errors=len(errors), first=errors[0].code)


async def _remove_items(state: State, row: BatchRow) -> bool:
    """Remove some of the items, so that nobody who writes has to wait; returns whether there may be more."""
    low, high = item_span(row.id)
    async with state.database.transaction() as session:
        if not await _is_ours(session, row):
            return False
        items = (col(JobRow.id).between(low, high), col(JobRow.batch_id) == row.id)
        ids = (await session.exec(select(JobRow.id).where(*items).limit(_MOST_REMOVED))).all()
        await session.exec(delete(JobRow).where(col(JobRow.id).in_(ids)))
    return len(ids) == _MOST_REMOVED


async def _is_ours(session: AsyncSession, row: BatchRow) -> bool:
    """Return whether the batch is still being read by whom it was leased to: after a pause, another process may be."""
    current = await session.get(BatchRow, row.id, with_for_update=True)
    return current is not None and current.total is None and current.lease_owner == row.lease_owner
