"""A caller's own jobs: find, await, read, cancel, remove one."""

import asyncio
from typing import Final

import structlog
from redis.exceptions import RedisError

from api.call import Call
from api.render import error_of, gone, is_gone, polling_headers
from api.shown import check_shown
from api.state import queue_of, state_of
from api.waiting_jobs import end_waiting
from shared.clock import now_ms
from shared.errors import (
    JobNotFinishedError,
    NotFoundError,
    ReplayedError,
    StorageUnavailableError,
)
from shared.group_commit.units import CommitError, StaleError
from shared.jobs.ending import job_cancelled
from shared.jobs.queries import find_job, get_light, get_result, remove_bodies
from shared.jobs.schemas import QUEUED, TERMINAL, WITH_RESULT, public_id
from shared.jobs.statements import request_cancel
from shared.jobs.tables import JobRow

log = structlog.get_logger()
MAX_WAIT_S: Final = 60.0
_LOOK_S: Final = 2.0
_RUNNING_ENDS_S: Final = 10.0


async def find_own_job(call: Call, job_id: str, missing: NotFoundError | None = None) -> JobRow:
    """Return the caller's job; raises `NotFoundError`, or `GoneError` if it is a tombstone."""
    async with call.state.database.read() as session:
        row = await find_job(session, None if call.caller.is_admin else call.caller.user_id, job_id)
    if row is None:
        raise missing or NotFoundError(f"No job `{job_id}`.", param="job_id")
    if row.status not in TERMINAL:
        call.state = state_of(call.state, row.shard)
    call.headers["x-job-id"] = public_id(row.id)
    if is_gone(row):
        raise gone(row)
    return row


async def find_readable_job(call: Call, job_id: str, missing: NotFoundError | None = None) -> JobRow:
    """Return a job whose content the caller may see: an administrator that of others by their content policy only.

    Raises `NotFoundError`, `GoneError` and `PermissionDeniedError`.
    """
    row = await find_own_job(call, job_id, missing)
    await check_shown(call, row, row.content_policy)
    return row


async def wait_until_over(call: Call, row: JobRow, wait_s: float, version: int | None = None) -> JobRow:
    """Return the job when it is over, has another version than `version`, or `wait_s` have passed."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(wait_s, MAX_WAIT_S)
    while row.status not in TERMINAL and version in (None, row.version) and (left_s := deadline - loop.time()) > 0:
        await call.state.done.wait(row.id, min(left_s, _LOOK_S))
        row = await _read(call, row.id)
    return row


async def wait_for_result(call: Call, row: JobRow, wait_s: float) -> JobRow:
    """Return the job when it is over, or `wait_s` have passed; who waits for the result of a stream is a reader."""
    is_read = row.cancel_when_unread and row.status not in TERMINAL and wait_s > 0
    with call.state.readers.reading_again(row.id, counts=is_read):
        return await wait_until_over(call, row, wait_s)


async def _read(call: Call, job_id: str) -> JobRow:
    async with call.state.database.read() as session:
        return await get_light(session, job_id)


async def read_result(call: Call, row: JobRow) -> tuple[bytes, str]:
    """Return body and content type of the answer; raises `JobNotFinishedError`, `ReplayedError`, or `GoneError`."""
    if row.status not in TERMINAL:
        headers = polling_headers(row)
        headers["retry-after-ms"] = headers.pop("openai-poll-after-ms")
        headers["Location"] = f"/v1/jobs/{public_id(row.id)}"
        raise JobNotFinishedError(f"The job is {row.status}.", headers=headers)
    if row.status not in WITH_RESULT:
        error = error_of(row)
        if error is None:
            raise TypeError(f"{row.id} is {row.status} without an error")
        raise ReplayedError(error, headers={"x-should-retry": "false"})
    async with call.state.database.read() as session:
        result = await get_result(session, row.id)
    if result is None:
        raise gone(row)
    return result.body, result.content_type


async def cancel(call: Call, row: JobRow) -> JobRow:
    """Cancel a job and return it: at once if it waits; if it runs, its worker is told and ends it."""
    if row.status in TERMINAL:
        return row
    try:
        if row.status == QUEUED:
            await end_waiting(call.state, row, job_cancelled())
        else:
            await call.state.writer.execute_many((request_cancel(row.id, now_ms()),))
    except StaleError:  # it started or ended meanwhile
        return await cancel(call, await _read(call, row.id))
    except CommitError as error:
        raise StorageUnavailableError from error
    try:
        queue = queue_of(call.state, row.kind)
        await (queue.abort(row.id) if row.status == QUEUED else queue.signal(row.id))
    except (RedisError, OSError) as error:
        log.warning("cancel_told_later", error=repr(error), job_id=public_id(row.id))  # by the reconciler
    return await _read(call, row.id)


async def remove(call: Call, row: JobRow) -> None:
    """Cancel the job if it is not over, then remove request, result and events; a tombstone stays."""
    row = await cancel(call, row)
    row = await wait_until_over(call, row, _RUNNING_ENDS_S)
    if row.status not in TERMINAL:
        raise JobNotFinishedError("The job is being cancelled; try again.", headers={"retry-after": "1"})
    async with call.state.database.transaction() as session:
        await remove_bodies(session, [row.id], now_ms(), "deleted")
    await call.state.files.delete_with_jobs([(row.id, row.kind)])
