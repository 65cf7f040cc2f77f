"""Let the items of a batch into the queue, as fast as the limits and budgets of their owner allow.

What a limit or a full queue refuses now is tried again; what no budget covers fails, unless items that are still
running may leave some of it.  Only so many items are in the queue at once that a large batch does not fill Redis.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, json

from api.batch_lines import LineError, new_draft, prepare
from api.http import Endpoint
from api.keys import Caller
from api.limits import admit, is_unlimited
from api.state import State
from api.tracing import send_item
from api.waiting_jobs import end_waiting
from shared.admission.errors import CarbonBudgetExceededError, InsufficientBudgetError
from shared.admission.records import Admission
from shared.batches.items import item_span
from shared.batches.queries import change_batch, count_held_items, count_open_items, list_held_items
from shared.batches.schemas import RUNNING
from shared.batches.statements import admit_item
from shared.batches.tables import BatchRow
from shared.errors import ApiError, AuthenticationError, RateLimitError, StoredError
from shared.group_commit.units import StaleError
from shared.jobs.entries import queue_entry
from shared.jobs.messages import message_of
from shared.jobs.schemas import FAILED
from shared.jobs.tables import JobRow

MOST_QUEUED: Final = 4000
"""Items of one batch in the queue or running."""
_PAGE: Final = 200
_LOOK_S: Final = 0.3
_LONGEST_WAIT_S: Final = 5.0


class _Admitted(Struct, frozen=True):
    row: JobRow
    admission: Admission | None


class _Feed(Struct):
    """One batch that is being fed."""

    state: State
    endpoint: Endpoint
    batch: BatchRow
    held: int
    """Items that were not let in yet."""

    async def count_queued(self) -> int:
        """Return how many items are in the queue or run."""
        async with self.state.database.read() as session:
            return await count_open_items(session, self.batch.id) - self.held

    async def goes_on(self) -> bool:
        """Return whether items may still begin."""
        async with self.state.database.read() as session:
            batch = await session.get_one(BatchRow, self.batch.id)
        return batch.status == RUNNING and batch.expired_ms is None

    async def find_caller(self) -> Caller | None:
        """Return the owner as he is now."""
        return await self.state.keys.find_owner(self.batch.user_id, self.batch.key_id)


async def feed(state: State, endpoint: Endpoint, batch: BatchRow) -> None:
    """Put all held items into the queue, unless the batch is cancelled or over meanwhile."""
    after = item_span(batch.id)[0]
    async with state.database.read() as session:
        feeding = _Feed(state, endpoint, batch, await count_held_items(session, batch.id))
    while await feeding.goes_on():
        async with state.database.read() as session:
            rows = await list_held_items(session, batch.id, after, _PAGE)
        if not rows:
            break
        await _wait_for_room(feeding)
        if not await feeding.goes_on():
            return
        for row in await _feed_page(feeding, rows):
            await _feed_patiently(feeding, row)
        after = rows[-1].id
    async with state.database.transaction() as session:
        await change_batch(session, batch.id, (RUNNING,), is_fed=True)


async def _wait_for_room(feeding: _Feed) -> None:
    # items end in other processes, which ring no bell here
    while await feeding.count_queued() > MOST_QUEUED - _PAGE:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)


async def _feed_page(feeding: _Feed, rows: Sequence[JobRow]) -> list[JobRow]:
    """Admit what can be admitted now; returns the other rows."""
    answers = await _admit_all(feeding, rows)
    await _release(feeding.state, [one for one in answers if isinstance(one, _Admitted)])
    waiting = [row for row, answer in zip(rows, answers, strict=True) if isinstance(answer, ApiError)]
    feeding.held -= len(rows) - len(waiting)
    return waiting


async def _admit_all(feeding: _Feed, rows: Sequence[JobRow]) -> Sequence[_Admitted | ApiError | None]:
    caller = await feeding.find_caller()
    return await asyncio.gather(*(_admit(feeding, caller, row) for row in rows))


async def _feed_patiently(feeding: _Feed, row: JobRow) -> None:
    """Admit an item as soon as it can be; it fails if waiting is no use."""
    state = feeding.state
    while await feeding.goes_on():
        async with state.database.read() as session:
            current = await session.get(JobRow, row.id)
        if current is None or not current.held or current.finished_ms is not None:
            break
        (answer,) = await _admit_all(feeding, [current])
        if not isinstance(answer, ApiError):
            await _release(state, [answer] if answer else [])
            break
        is_about_budgets = isinstance(answer, InsufficientBudgetError | CarbonBudgetExceededError)
        if is_about_budgets and not await feeding.count_queued():
            await _fail(state, current, answer.stored())
            break
        after_s = 1.0 if is_about_budgets else _retry_after_s(answer)
        await asyncio.sleep(min(after_s, _LONGEST_WAIT_S))
    feeding.held -= 1


def _retry_after_s(error: ApiError) -> float:
    return float(error.extra_headers.get("retry-after", 1))


async def _admit(feeding: _Feed, caller: Caller | None, row: JobRow) -> _Admitted | ApiError | None:
    """Return the item with what it may use, or why it must wait; None if it has failed."""
    state, endpoint = feeding.state, feeding.endpoint
    if caller is None:
        await _fail(state, row, AuthenticationError("The key of the batch has ended.").stored())
        return None
    router = state.directory.peek_by_id(row.router_id)
    if router is not None and is_unlimited(caller, state.settings, router):
        return _Admitted(row, None)
    body = row.request or b"{}"
    try:
        request = json.decode(body, type=endpoint.body, strict=False)
        draft = new_draft(state, caller, body, row.dialect, is_stored=True)
        submission = await prepare(draft, endpoint, request)
    except LineError as error:  # what he may use has changed since the batch was checked
        await _fail(state, row, _stored(error))
        return None
    try:
        return _Admitted(row, await admit(draft, submission.router, submission.estimate, row.id))
    except (InsufficientBudgetError, RateLimitError) as error:
        return error


def _stored(error: LineError) -> StoredError:
    return StoredError(message=str(error), type="invalid_request_error", param=error.param, code=error.code, status=422)


async def _release(state: State, admitted: Sequence[_Admitted]) -> None:
    """Store that the items may run and put them into the queue; what was cancelled meanwhile gives back its holds."""
    if not admitted:
        return
    if state.tracer is not None:
        for one in admitted:
            send_item(state.tracer, one.row)
    unit = [admit_item(one.row, None if one.admission is None else one.admission.encode()) for one in admitted]
    results = await state.writer.execute_many(unit)
    entries = []
    for one, result in zip(admitted, results, strict=True):
        if result.rows:
            one.row.admission = None if one.admission is None else one.admission.encode()
            entries.append(queue_entry(message_of(one.row, one.row.request), one.row))
        elif one.admission is not None and not await _was_let_in(state, one.row.id):
            await state.admissions.give_back(one.row.id, one.admission)
    await state.queue.ensure(entries)


async def _was_let_in(state: State, item_id: str) -> bool:
    """Return whether another process let the item in, and holds for it what this one asked for."""
    async with state.database.read() as session:
        row = await session.get(JobRow, item_id)
    return row is not None and not row.held and row.finished_ms is None


async def _fail(state: State, row: JobRow, error: StoredError) -> None:
    """End an item that will never be admitted."""
    try:
        await end_waiting(state, row, error, FAILED)
    except StaleError:  # it was cancelled meanwhile
        return
