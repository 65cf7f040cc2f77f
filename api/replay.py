"""Answer a request that was sent before with the answer of its job."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from msgspec import json
from sqlmodel import select

from api.answer import DROPPED, error_event, to_event
from api.call import Call
from api.http import EventStream, Reply
from api.idempotency import ASYNC, ASYNC_WAIT, REPLAYED, Earlier, IdempotencyInFlightError
from api.own_jobs import read_result, wait_until_over
from api.prefer import Prefer
from api.render import dropped_of, error_of, gone, polling_headers, to_job
from shared.errors import ReplayedError, WaitExceededError
from shared.jobs.schemas import TERMINAL, WITH_RESULT, public_id
from shared.jobs.tables import JobResultRow, JobRow
from shared.replies.entries import Kind
from shared.replies.frames import decode_frames

_SOONEST_MS: Final = 200
_LATEST_MS: Final = 5000


async def replay(call: Call, earlier: Earlier, prefer: Prefer) -> Reply[Any] | EventStream[Any]:
    """Return what the first request got, or gets.

    Raises:
        IdempotencyInFlightError: it still waits for its answer.
        WaitExceededError: this one waited for it, but not long enough.
        ReplayedError: the job failed.
        GoneError: its result was removed.

    """
    row = earlier.row
    call.headers |= {"x-job-id": public_id(row.id), REPLAYED: "true", "Vary": "Prefer"}
    if dropped := dropped_of(row):
        call.headers[DROPPED] = ", ".join(dropped)
    if row.removed_ms is not None:
        raise gone(row)
    is_async = earlier.prefers == ASYNC
    if row.status not in TERMINAL and not is_async:
        row = await _wait(call, row, prefer)
    if is_async or (row.status not in TERMINAL and earlier.prefers == ASYNC_WAIT):
        call.headers |= polling_headers(row) | {"Location": f"/v1/jobs/{public_id(row.id)}"}
        return Reply(body=json.encode(to_job(row)), status=202)
    if row.status not in TERMINAL:
        location = f"/v1/jobs/{public_id(row.id)}"
        if prefer.wait_s is not None:
            call.headers["Location"] = location
            raise WaitExceededError(f"The job did not finish within {prefer.wait_s:.0f} s; it goes on.")
        poll_ms = int(polling_headers(row)["openai-poll-after-ms"])
        raise IdempotencyInFlightError(location, min(max(poll_ms, _SOONEST_MS), _LATEST_MS))
    if row.stream:
        return await _replay_stream(call, row)
    body, content_type = await read_result(call, row)
    return Reply(body=body, content_type=content_type)


async def _wait(call: Call, row: JobRow, prefer: Prefer) -> JobRow:
    """Return the job when it is over, or as long as this request wants to wait."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (prefer.wait_s or 0.0)
    while row.status not in TERMINAL and (left_s := deadline - loop.time()) > 0:
        row = await wait_until_over(call, row, left_s)
    return row


async def _replay_stream(call: Call, row: JobRow) -> EventStream[Any]:
    """Return the stream from the log; raises `ReplayedError` if it ended before its first chunk."""
    async with call.state.database.read() as session:
        frames = (await session.exec(select(JobResultRow.frames).where(JobResultRow.job_id == row.id))).first()
    entries = [entry for entry in (decode_frames(frames) if frames else ()) if entry.kind is Kind.CHUNK]
    chunks = [to_event(entry) for entry in entries if entry.attempt == row.attempt]
    stored = error_of(row)
    if stored is None or row.status in WITH_RESULT:
        return EventStream(_each([*chunks, b"data: [DONE]\n\n"]))
    error = ReplayedError(stored, headers={"x-should-retry": "false"})
    if not chunks:
        raise error
    return EventStream(_each([*chunks, error_event(error)]))


async def _each(events: list[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        yield event
