"""Answer a request that was sent before with the answer of its job."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from msgspec import json

from api.answer import name_dropped
from api.call import Call
from api.frames import read_log
from api.http import EventStream, Reply
from api.idempotency import ASYNC, ASYNC_WAIT, REPLAYED, Earlier, IdempotencyInFlightError, refuse_withdrawn
from api.keyless import has_left, note_heard, note_unanswered
from api.own_jobs import read_result, wait_until_over
from api.prefer import Prefer
from api.render import dropped_of, error_of, gone, is_gone, polling_headers, to_job
from api.state import state_of
from api.stream_forms import StreamForm
from api.waiting_times import waiting_of
from shared.clock import now_ms
from shared.errors import ReplayedError, WaitExceededError
from shared.jobs.schemas import CANCELLED, TERMINAL, WITH_RESULT, public_id
from shared.jobs.tables import JobRow

_SOONEST_MS: Final = 1000
_LATEST_MS: Final = 5000
_GROWTH: Final = 5
"""A stock client asks three times in all: after 1 s, and once more as late as it may be told."""
_LOOK_S: Final = 5.0
"""How often who waits looks whether its caller is still there."""


async def replay(
    call: Call, earlier: Earlier, prefer: Prefer, form_of: Callable[[JobRow], StreamForm]
) -> Reply[Any] | EventStream[Any]:
    """Return what the first request got, or gets.

    Raises:
        IdempotencyInFlightError: it still waits for its answer.
        WaitExceededError: this one waited for it, but not long enough.
        ReplayedError: the job failed.
        GoneError: its result was removed.

    """
    row = earlier.row
    if row.status not in TERMINAL:
        call.state = state_of(call.state, row.shard)
    call.headers |= {"x-job-id": public_id(row.id), REPLAYED: "true", "Vary": "Prefer"}
    if dropped := dropped_of(row):
        name_dropped(call, dropped)
    if is_gone(row):
        raise gone(row)
    is_async = earlier.prefers == ASYNC
    if row.status not in TERMINAL and not is_async:
        row = await _wait(call, row, prefer)
    if earlier.is_keyless:
        await _note_keyless(call, row)
    if is_async or (row.status not in TERMINAL and earlier.prefers == ASYNC_WAIT):
        return _accepted(call, row, prefer)
    if row.status not in TERMINAL:
        location = f"/v1/jobs/{public_id(row.id)}"
        if prefer.wait_s is not None:
            call.headers["Location"] = location
            raise WaitExceededError(f"The job did not finish within {prefer.wait_s:.0f} s; it goes on.")
        del call.headers[REPLAYED]
        raise IdempotencyInFlightError(location, await _ask_again_ms(call, row))
    if row.stream:
        return await _replay_stream(call, row, form_of(row))
    body, content_type = await read_result(call, row)
    return Reply(body=body, content_type=content_type)


def _accepted(call: Call, row: JobRow, prefer: Prefer) -> Reply[Any]:
    call.headers |= polling_headers(row) | {"Location": f"/v1/jobs/{public_id(row.id)}"}
    if prefer.respond_async:
        call.headers["Preference-Applied"] = prefer.deferred
    return Reply(body=json.encode(to_job(row)), status=202)


async def _ask_again_ms(call: Call, row: JobRow) -> int:
    """Return in how many ms a job will be over that runs, as far as its place in the queue and its age tell."""
    now = now_ms()
    starts_at = (await waiting_of(call.state, row)).starts_at
    until_start_ms = 0 if starts_at is None else max(starts_at * 1000 - now, 0)
    return min(until_start_ms + max((now - row.created_ms) * _GROWTH, _SOONEST_MS), _LATEST_MS)


async def _note_keyless(call: Call, row: JobRow) -> None:
    """Note whether a repetition gets the answer: later ones are for newer jobs then."""
    if has_left(call):
        await note_unanswered(call, row.endpoint, row.id)
    elif row.status in TERMINAL:
        await note_heard(call, row.endpoint, row.id)


async def _wait(call: Call, row: JobRow, prefer: Prefer) -> JobRow:
    """Return the job when it is over, or as long as this request wants to wait.

    Raises `StorageUnavailableError` if the first request was told that there is no job.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (prefer.wait_s or 0.0)
    with call.state.readers.reading_again(row.id, counts=row.cancel_when_unread and prefer.wait_s is not None):
        while row.status not in TERMINAL and (left_s := deadline - loop.time()) > 0 and not has_left(call):
            row = await wait_until_over(call, row, min(left_s, _LOOK_S))
    if row.status == CANCELLED:
        await refuse_withdrawn(call, row)
    return row


async def _replay_stream(call: Call, row: JobRow, form: StreamForm) -> EventStream[Any]:
    """Return the stream from the log; raises `ReplayedError` if it ended before its first chunk."""
    first, entries = form.begin(), await read_log(call, row.id)
    chunks = [
        form.chunk(entry.position, entry.data) for entry in entries if form.continues or entry.attempt == row.attempt
    ]
    error = None if row.status in WITH_RESULT else error_of(row)
    if error is not None and not chunks and not first:
        raise ReplayedError(error, headers={"x-should-retry": "false"})
    return EventStream(_each([first, *chunks, await form.end(call, row.id, error)]))


async def _each(events: list[bytes]) -> AsyncIterator[bytes]:
    for event in filter(None, events):
        yield event
