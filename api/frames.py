"""The frames of /v1/jobs/{job_id}/events: what a job has sent so far, and what it sends from now on.

Ids are cursors that grow: `0-1` queued; `n-0` attempt n started; `n-1`, .. its output; then what ended it.  While a
stream job runs, its frames come from Redis; once it is over, from the database; a job that does not stream has
lifecycle frames only, which follow from its row and its attempts.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from msgspec import Struct, json
from redis.exceptions import RedisError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from api.call import Call
from api.keyless import has_left
from api.render import error_of, to_job
from shared.clock import to_seconds
from shared.errors import StoredError
from shared.jobs.queries import get_light
from shared.jobs.schemas import TERMINAL, JobFrame, public_id
from shared.jobs.tables import JobResultRow, JobRow
from shared.replies.entries import START, Entry, Kind, Position, ReplyLostError, id_of
from shared.replies.frames import decode_frames
from shared.request_logs.tables import RequestLogRow

_QUEUED: Final = (0, 1)
_POLL_S: Final = 1.0


class Frame(Struct, frozen=True):
    """One frame; `event` is None for output."""

    position: Position
    event: str | None
    data: bytes


def to_sse(frame: Frame) -> bytes:
    """Return the frame as a server-sent event."""
    event = b"" if frame.event is None else b"event: " + frame.event.encode() + b"\n"
    return b"id: " + id_of(frame.position).encode() + b"\n" + event + b"data: " + frame.data + b"\n\n"


async def frames_so_far(call: Call, job_id: str) -> tuple[JobRow, list[Frame]]:
    """Return the job and its frames, as far as they can be told without Redis."""
    async with call.state.database.read() as session:
        row = await get_light(session, job_id)
        attempts = await _attempts(session, job_id)
        statement = select(JobResultRow.frames).where(JobResultRow.job_id == job_id)
        stored = (await session.exec(statement)).first() if row.stream else None
    frames = [_lifecycle(_QUEUED, "job.queued", row, row.created_ms)]
    if stored is not None:
        frames += _output(row, decode_frames(stored), attempts)
    elif not row.stream or row.status in TERMINAL:
        frames += _from_attempts(row, attempts)
    if row.status in TERMINAL:
        frames += _tail(row, _next_seq(frames, row.attempt))
    return row, frames


async def _attempts(session: AsyncSession, job_id: str) -> list[RequestLogRow]:
    statement = select(RequestLogRow).where(RequestLogRow.job_id == job_id).order_by(col(RequestLogRow.attempt))
    return list((await session.exec(statement)).all())


async def _read_attempts(call: Call, job_id: str) -> list[RequestLogRow]:
    async with call.state.database.read() as session:
        return await _attempts(session, job_id)


def _output(row: JobRow, entries: list[Entry], attempts: list[RequestLogRow]) -> list[Frame]:
    """Return the frames of a stream's log."""
    had_output = False
    frames = []
    for entry in entries:
        frames.append(_to_frame(row, entry, attempts, had_output=had_output))
        had_output = had_output or entry.kind is Kind.CHUNK
    return frames


async def read_log(call: Call, job_id: str) -> list[Entry]:
    """Return the output that the stored log has, of all attempts."""
    async with call.state.database.read() as session:
        stored = (await session.exec(select(JobResultRow.frames).where(JobResultRow.job_id == job_id))).first()
    return [entry for entry in (decode_frames(stored) if stored else ()) if entry.kind is Kind.CHUNK]


async def keep_alive(call: Call, row: JobRow, events: AsyncIterator[bytes | None]) -> AsyncIterator[bytes]:
    """Yield the events of a job for one reader, and comments while there are none (None); ends when he has gone."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    with call.state.readers.reading_again(row.id, counts=row.cancel_when_unread):
        async for event in events:
            if event is not None:
                since = loop.time()
                yield event
                continue
            if has_left(call):
                return
            if loop.time() - since >= call.state.settings.keep_alive_s:
                since = loop.time()
                yield b": keep-alive\n\n"


def _to_frame(row: JobRow, entry: Entry, attempts: list[RequestLogRow], *, had_output: bool) -> Frame:
    if entry.kind is Kind.CHUNK:
        return Frame(entry.position, None, entry.data)
    if entry.kind is Kind.RETRY:
        return Frame(entry.position, "job.retry_scheduled", entry.data)
    name = "job.restarted" if had_output else "job.started"
    begun_ms = {attempt.attempt: attempt.created_ms for attempt in attempts}
    return _lifecycle(entry.position, name, row, begun_ms.get(entry.attempt, row.started_ms or row.created_ms))


def _from_attempts(row: JobRow, attempts: list[RequestLogRow]) -> list[Frame]:
    """Return the frames of a job without a log; when a retry was planned for is told by the attempt, once it began."""
    frames = []
    begin_ms = [*(attempt.created_ms for attempt in attempts), row.next_attempt_ms]
    for attempt, next_ms in zip(attempts, begin_ms[1:], strict=True):
        number = attempt.attempt
        frames.append(_lifecycle((number, 0), "job.started", row, attempt.created_ms))
        ended_the_job = row.finished_ms is not None and attempt.completed_ms == row.finished_ms
        if attempt.status == "failed" and not ended_the_job:
            error = json.decode(attempt.error, type=StoredError) if attempt.error else None
            at_ms = attempt.completed_ms or attempt.created_ms
            frames.append(_lifecycle((number, 1), "job.retry_scheduled", row, at_ms, error, next_ms))
    return frames


def _next_seq(frames: list[Frame], attempt: int) -> int:
    last_attempt, seq = frames[-1].position
    return seq + 1 if last_attempt == attempt else 0


def _tail(row: JobRow, seq: int) -> list[Frame]:
    """Return the frames that end a job."""
    frames = []
    if row.cancel_requested_ms is not None:
        name = "job.cancel_requested"
        frames.append(_lifecycle((row.attempt, seq), name, row, row.cancel_requested_ms))
        seq += 1
    data = JobFrame(
        type=f"job.{row.status}", job_id=public_id(row.id), created_at=(row.finished_ms or row.created_ms) // 1000,
        attempt=row.attempt, error=error_of(row), job=to_job(row),
    )  # fmt: skip
    return [*frames, Frame((row.attempt, seq), f"job.{row.status}", json.encode(data))]


def _lifecycle(
    position: Position, name: str, row: JobRow, at_ms: int, error: StoredError | None = None,
    next_attempt_ms: int | None = None,
) -> Frame:  # fmt: skip
    data = JobFrame(
        type=name, job_id=public_id(row.id), created_at=at_ms // 1000, attempt=position[0], error=error,
        next_attempt_at=to_seconds(next_attempt_ms),
    )  # fmt: skip
    return Frame(position, name, json.encode(data))


async def follow_frames(call: Call, job_id: str, after: Position) -> AsyncIterator[Frame | None]:
    """Yield the frames behind `after` until the job is over; None when nothing has come for a second."""
    last = after
    while True:
        row, frames = await frames_so_far(call, job_id)
        for frame in frames:
            if frame.position > last:
                last = frame.position
                yield frame
        if row.status in TERMINAL:
            return
        if row.stream:
            async for live in _follow_stream(call, row, last):
                if live is not None:
                    last = live.position
                yield live
        else:
            await call.state.done.wait(job_id, _POLL_S)
            yield None


async def _follow_stream(call: Call, row: JobRow, after: Position) -> AsyncIterator[Frame | None]:
    """Yield live frames until the job is over, or is to be looked up in the database again."""
    had_output = after > _QUEUED and await _had_output(call, row, after)
    # a cursor below the first attempt is a lifecycle frame, of which Redis knows nothing
    start = after if after[0] > 0 else START
    try:
        async for entry in call.state.reader.follow(row.id, start):
            if entry is None:
                yield None
                async with call.state.database.read() as session:
                    status = (await session.exec(select(JobRow.status).where(JobRow.id == row.id))).first()
                if status in TERMINAL:
                    return
            elif entry.kind is Kind.END:
                return
            else:
                attempts = await _read_attempts(call, row.id) if entry.kind is Kind.STARTED else []
                yield _to_frame(row, entry, attempts, had_output=had_output)
                had_output = had_output or entry.kind is Kind.CHUNK
    except ReplyLostError:
        await call.state.done.wait(row.id, _POLL_S)
        yield None


async def _had_output(call: Call, row: JobRow, until: Position) -> bool:
    """Return whether there was output up to this position; it is taken for granted where Redis cannot tell."""
    try:
        entries = await call.state.reader.read(row.id)
    except (RedisError, OSError):
        return True
    return not entries or any(entry.kind is Kind.CHUNK and entry.position <= until for entry in entries)


async def is_unknown(call: Call, row: JobRow, position: Position) -> bool:
    """Return whether a position lies behind all that a job can have sent.

    What Redis has lost, or cannot be asked for, is not held against a reader.
    """
    current, frames = await frames_so_far(call, row.id)
    last = frames[-1].position
    if position <= last:
        return False
    if current.status in TERMINAL or not current.stream or position[0] > current.attempt:
        return True
    try:
        entries = await call.state.reader.read(row.id)
    except (RedisError, OSError):
        return False
    return bool(entries) and position > entries[-1].position


async def available_frames(call: Call, row: JobRow) -> list[Frame]:
    """Return all frames there are at this moment."""
    current, frames = await frames_so_far(call, row.id)
    if current.stream and current.status not in TERMINAL:
        entries = await call.state.reader.read(row.id)
        frames += _output(current, entries, await _read_attempts(call, row.id))
    return frames
