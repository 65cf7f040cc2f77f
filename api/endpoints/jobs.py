"""GET /v1/jobs, and /v1/jobs/{job_id} with its result, events, attempts and cancel.  Reads change nothing."""

from collections.abc import AsyncIterator
from typing import Any

from msgspec import Raw, json
from redis.exceptions import RedisError
from sqlalchemy import and_
from sqlmodel import col, select

from api.call import Call
from api.frames import available_frames, follow_frames, frames_so_far, is_unknown, keep_alive, to_sse
from api.http import EventStream, Reply, Routes
from api.own_jobs import cancel, find_own_job, find_readable_job, read_result, remove, wait_for_result, wait_until_over
from api.render import is_gone, polling_headers, to_attempt, to_job
from api.respond import ANY_ROUTE
from api.retry import JobNotRetryableError, retry
from api.versions import JobVersion
from api.waiting_times import waiting_of
from shared.errors import (
    GoneError,
    InvalidCursorError,
    JobNotFinishedError,
    NotFoundError,
    QueueUnavailableError,
)
from shared.ids import JOB_PREFIXES, parse_id
from shared.jobs.queries import list_jobs as query_jobs
from shared.jobs.schemas import (
    TERMINAL,
    EventItem,
    EventList,
    EventsQuery,
    Job,
    JobDeleted,
    JobPage,
    JobProgress,
    ListJobsQuery,
    WaitQuery,
    public_id,
)
from shared.jobs.tables import JobRow
from shared.lists import check_ranges, cursor_page
from shared.replies.entries import START, Kind, Position, id_of, position_of
from shared.request_logs.schemas import AttemptPage
from shared.request_logs.tables import RequestLogRow
from shared.usage.newest import IS_NEWEST
from shared.usage.tables import UsageRecordRow

routes = Routes("Jobs")


@routes.get("/v1/jobs", raises=(InvalidCursorError,))
async def list_jobs(call: Call, query: ListJobsQuery) -> JobPage:
    """List the caller's jobs, newest first.

    Results are not part of a list; requests sent with `store: false` are not listed.
    """
    check_ranges(query, ("created_after", "created_before"))
    after = None
    if query.after is not None and (after := parse_id(query.after, *JOB_PREFIXES)) is None:
        raise InvalidCursorError(f"`{query.after}` is not the id of a job.", param="after")
    async with call.state.database.read() as session:
        rows, has_more = await query_jobs(session, call.caller.user_id, query, after)
    jobs = [to_job(row) for row in rows]
    return cursor_page(jobs, has_more=has_more)


@routes.get("/v1/jobs/{job_id}", raises=(NotFoundError, GoneError))
async def get_job(call: Call, job_id: str, query: WaitQuery) -> Reply[Job]:
    """Get a job.

    `wait=n` returns as soon as it is over, at the latest after n seconds; with `If-None-Match` as soon as it changes.
    """
    if call.request.if_none_match and not query.wait and await _is_known(call, job_id):
        return Reply(body=b"", status=304)
    row = await find_own_job(call, job_id)
    if query.wait:
        row = await wait_until_over(call, row, query.wait, row.version if _has(call, row) else None)
    call.headers |= polling_headers(row) | {"ETag": _etag(row)}
    if _has(call, row):
        return Reply(body=b"", status=304)
    job = to_job(row, await _progress(call, row), await waiting_of(call.state, row))
    return Reply(body=json.encode(job))


async def _is_known(call: Call, job_id: str) -> bool:
    """Return whether the caller has the job as it is; if so, the answer needs nothing else."""
    ulid = parse_id(job_id, *JOB_PREFIXES)
    found = None if ulid is None else await call.state.versions.get(ulid)
    if found is None or is_gone(found) or not _has(call, found):
        return False
    if not call.caller.is_admin and found.user_id != call.caller.user_id:
        return False
    call.headers |= polling_headers(found) | {"ETag": _etag(found), "x-job-id": public_id(found.id)}
    return True


def _has(call: Call, row: JobRow | JobVersion) -> bool:
    """Return whether the caller names this version among those he has; weak and strong tags are the same here."""
    return any(tag.value in ("*", str(row.version)) for tag in call.request.if_none_match or ())


def _etag(row: JobRow | JobVersion) -> str:
    return f'W/"{row.version}"'


async def _progress(call: Call, row: JobRow) -> JobProgress | None:
    """Return how far a running stream is."""
    if not row.stream or row.status in TERMINAL or row.attempt == 0:
        return None
    try:
        entries = await call.state.reader.read(row.id)
    except (RedisError, OSError):
        return None
    chunks = sum(1 for entry in entries if entry.attempt == row.attempt and entry.kind is Kind.CHUNK)
    return JobProgress(output_tokens=chunks, events=len(entries))


@routes.get("/v1/jobs/{job_id}/result", raises=(NotFoundError, GoneError, JobNotFinishedError))
async def get_job_result(call: Call, job_id: str, query: WaitQuery) -> Reply[Any]:
    """Get exactly the answer of the job's own route; the stored error with its status if it failed."""
    row = await wait_for_result(call, await find_readable_job(call, job_id), query.wait)
    if row.status in TERMINAL:
        call.headers |= polling_headers(row)
    body, content_type = await read_result(call, row)
    return Reply(body=body, content_type=content_type)


@routes.get(
    "/v1/jobs/{job_id}/events",
    raises=(NotFoundError, GoneError, InvalidCursorError, QueueUnavailableError),
)
async def list_job_events(call: Call, job_id: str, query: EventsQuery) -> EventList | EventStream[Any] | Reply[Any]:
    """Follow a job: its lifecycle and, if it streams, its output; resumable from any frame.

    `Last-Event-ID` or `starting_after` gives exactly the frames behind that one, while the job runs and afterwards.
    `Accept: application/json` gives the frames there are as a list.
    """
    row = await find_readable_job(call, job_id)
    after = await _cursor(call, row, call.request.headers.get("Last-Event-ID") or query.starting_after)
    if "application/json" in call.request.headers.get("Accept", ""):
        return await _event_list(call, row, after, query.limit)
    if row.status in TERMINAL:
        _, frames = await frames_so_far(call, row.id)
        if after == frames[-1].position:
            return Reply(body=b"", status=204)
    return EventStream(keep_alive(call, row, _job_events(call, row, after)))


async def _cursor(call: Call, row: JobRow, text: str | None) -> Position:
    if text is None:
        return START
    try:
        after = position_of(text)
    except ValueError:
        raise InvalidCursorError(f"`{text[:100]}` is not an event id.", param="starting_after") from None
    if after > START and await is_unknown(call, row, after):
        raise InvalidCursorError(f"The job has sent no event `{text}`.", param="starting_after")
    return after


async def _event_list(call: Call, row: JobRow, after: Position, limit: int) -> EventList:
    try:
        frames = [frame for frame in await available_frames(call, row) if frame.position > after]
    except (RedisError, OSError) as error:
        raise QueueUnavailableError from error
    items = [EventItem(id=id_of(frame.position), event=frame.event, data=Raw(frame.data)) for frame in frames[:limit]]
    return EventList(data=items, has_more=len(frames) > limit)


async def _job_events(call: Call, row: JobRow, after: Position) -> AsyncIterator[bytes | None]:
    yield b"retry: 2000\n\n"
    async for frame in follow_frames(call, row.id, after):
        yield None if frame is None else to_sse(frame)


@routes.get("/v1/jobs/{job_id}/attempts", raises=(NotFoundError, GoneError))
async def list_job_attempts(call: Call, job_id: str) -> AttemptPage:
    """List the attempts of a job, oldest first, with provider, latency, usage, cost and footprint."""
    row = await find_own_job(call, job_id)
    async with call.state.database.read() as session:
        joined = select(RequestLogRow, UsageRecordRow).join(
            UsageRecordRow,
            and_(
                col(UsageRecordRow.job_id) == RequestLogRow.job_id,
                col(UsageRecordRow.attempt) == RequestLogRow.attempt,
                IS_NEWEST,
            ),
            isouter=True,
        )
        statement = joined.where(RequestLogRow.job_id == row.id).order_by(col(RequestLogRow.attempt))
        found = (await session.exec(statement)).all()
    attempts = [to_attempt(log, record) for log, record in found]
    return cursor_page(attempts, has_more=False)


@routes.post("/v1/jobs/{job_id}/cancel", raises=(NotFoundError, GoneError))
async def cancel_job(call: Call, job_id: str) -> Job:
    """Cancel a job; repeated, or too late, it changes nothing."""
    row = await find_own_job(call, job_id)
    return to_job(await cancel(call, row))


@routes.post("/v1/jobs/{job_id}/retry", status=202, raises=(*ANY_ROUTE, JobNotRetryableError))
async def retry_job(call: Call, job_id: str) -> Reply[Job]:
    """Send a failed, cancelled or expired job again, as a new job; repeated, it answers 200 with the first retry."""
    return await retry(call, await find_readable_job(call, job_id))


@routes.delete("/v1/jobs/{job_id}", raises=(NotFoundError, GoneError, JobNotFinishedError))
async def delete_job(call: Call, job_id: str) -> JobDeleted:
    """Remove request, result and events of a job, which is cancelled first; a tombstone stays."""
    row = await find_own_job(call, job_id)
    await remove(call, row)
    return JobDeleted(id=public_id(row.id), deleted=True)
