"""Jobs that are not simply new: their message, their worker or their reply was lost, or they are over already."""

import structlog
from msgspec import json
from sqlmodel import select

from shared.carbon.method import METHOD
from shared.carbon.zones import FACTORS_VERSION
from shared.clock import now_ms
from shared.errors import StoredError
from shared.jobs.messages import JobMessage, message_of
from shared.jobs.schemas import CANCELLED, EXPIRED, FAILED, IN_PROGRESS, TERMINAL, WITH_RESULT
from shared.jobs.tables import JobResultRow, JobRow
from shared.metrics import TAKEOVERS
from shared.replies.entries import Ending, Kind
from shared.replies.frames import decode_frames, encode_frames
from shared.request_logs.statements import lose_attempts
from shared.usage.statements import insert_lost_records
from worker.context import Runtime, TokenCount
from worker.failures import job_cancelled, job_expired, job_interrupted
from worker.metering import meter, to_usage
from worker.settle import JobEnd, commit, finish, release_again

log = structlog.get_logger()
_RACE_PAUSE_S = 0.5


async def read_message(runtime: Runtime, job_id: str) -> JobMessage | None:
    """Return the message of a job that Redis lost; None if there is no such job."""
    row = await _find_row(runtime, job_id)
    return None if row is None else message_of(row)


async def read_request(runtime: Runtime, job_id: str) -> bytes:
    """Return the body of a job that is too large for its message."""
    async with runtime.database.read() as session:
        return (await session.exec(select(JobRow.request).where(JobRow.id == job_id))).first() or b"{}"


async def lose_earlier_attempts(runtime: Runtime, message: JobMessage, attempt: int) -> None:
    """Close the records of attempts whose worker was lost; nothing to do after an ordinary retry."""
    now = now_ms()
    unit = (
        insert_lost_records(message.job_id, attempt, now, METHOD, FACTORS_VERSION),
        lose_attempts(message.job_id, attempt, now),
    )
    results = await commit(runtime.writer, unit)
    if results is not None and results[-1].rowcount > 0:
        runtime.metrics.count(TAKEOVERS, by=results[-1].rowcount)


async def end_without_attempt(runtime: Runtime, message: JobMessage, status: str, error: StoredError) -> None:
    """End a job that no attempt can be made for; charged 0."""
    row = await _find_row(runtime, message.job_id)
    if row is None:
        return
    if row.status in TERMINAL:
        await _send_again(runtime, message, row)
        return
    if row.status == IN_PROGRESS:
        await lose_earlier_attempts(runtime, message, row.attempt + 1)
    usage = to_usage(meter(message, None, TokenCount(), None), 0, requests=row.attempt)
    frames = None
    if message.stream and row.attempt > 0:  # what was produced stays readable
        entries = await runtime.replies.read_before(message.job_id, row.attempt + 1)
        frames = encode_frames([entry for entry in entries if entry.kind is not Kind.END])
    end = JobEnd(status=status, usage=usage, charge_micros=0, error=error, frames=frames)
    await finish(runtime, message, row.attempt, end, None)
    row = await _find_row(runtime, message.job_id)
    if row is not None and row.status in TERMINAL:
        await _send_again(runtime, message, row)


async def resume_or_end(runtime: Runtime, message: JobMessage) -> float | None:
    """A start or an end was refused: find out why and act; returns the seconds to the next attempt, if any."""
    row = await _find_row(runtime, message.job_id)
    if row is None:
        return None
    if row.status in TERMINAL:
        await _send_again(runtime, message, row)
    elif row.cancel_requested_ms is not None:
        await end_without_attempt(runtime, message, CANCELLED, job_cancelled())
    elif row.started_ms is None and row.expires_ms <= now_ms():
        await end_without_attempt(runtime, message, EXPIRED, job_expired())
    elif row.attempt >= row.max_attempts or (row.status == IN_PROGRESS and row.on_worker_lost == "fail"):
        await end_without_attempt(runtime, message, FAILED, job_interrupted())
    else:
        return _RACE_PAUSE_S  # it changed between the two looks
    return None


async def _find_row(runtime: Runtime, job_id: str) -> JobRow | None:
    async with runtime.database.read() as session:
        return await session.get(JobRow, job_id)


async def _send_again(runtime: Runtime, message: JobMessage, row: JobRow) -> None:
    """Send the reply of a job that is over: the worker that ended it may have died before it could."""
    await release_again(runtime, message)
    async with runtime.database.read() as session:
        result = await session.get(JobResultRow, row.id)
    reply = runtime.replies.open(row.id, attempt=max(row.attempt, 1), inbox=message.inbox, is_stream=message.stream)
    if message.stream and result is not None and result.frames is not None:
        for entry in decode_frames(result.frames):
            if entry.attempt == reply.attempt:
                reply.repeat(entry)
    dropped = json.decode(row.dropped_params, type=list[str]) if row.dropped_params else []
    if row.status in WITH_RESULT and result is not None:
        ending = Ending(row.status, 200, result.content_type, result.body, dropped)
    else:
        error = json.decode(row.error, type=StoredError) if row.error else job_interrupted()
        ending = Ending(row.status, error.status, "application/json", json.encode(error), dropped)
    await reply.end(ending)
