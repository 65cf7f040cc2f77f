"""Turn a request into a durable job.

The row is committed first; only then is an id given out and the job put into the queue.  If that fails, or this process
dies in between, the reconciler finds the row.
"""

import sqlite3
from typing import Final

import asyncpg
import structlog
from msgspec import Struct, json

from api.call import Call
from api.idempotency import bind
from api.limits import REFUSALS, admit, admit_unseen
from api.notice import Notice
from api.prefer import Prefer
from api.state import State, queue_of
from api.submission import Submission, new_job, origin_of
from api.tracing import sending
from api.withdrawals import Withdrawn
from shared import fault_points
from shared.admission.records import Admission
from shared.errors import (
    ModelNotAllowedError,
    ModelNotFoundError,
    OverloadedError,
    ProviderUnavailableError,
    QueueUnavailableError,
    StorageUnavailableError,
    WaitExceededError,
    WrongModelTypeError,
)
from shared.group_commit.units import CommitError, StaleError, StoreUnavailableError, Unit
from shared.idempotency.statements import NewIdempotencyKey, insert_idempotency_key
from shared.ids import new_ulid
from shared.jobs.entries import queue_entry
from shared.jobs.messages import BAND_NUMBERS, message_of
from shared.jobs.schemas import BACKGROUND, INTERACTIVE, CreateJobRequest, public_id
from shared.jobs.statements import NewJob, insert_job, note_retry
from shared.jobs.tables import JobRow
from shared.replies.inbox import Waiter
from shared.request_logs.redaction import policy_of, strictest
from shared.settings import Settings
from shared.tracing.headers import headers_of
from shared.webhooks.statements import insert_endpoint

log = structlog.get_logger()
DUPLICATE: Final = (sqlite3.IntegrityError, asyncpg.UniqueViolationError)
"""What the writer raises if a key is bound already."""
INFERENCE_ERRORS: Final = (
    ModelNotFoundError,
    ModelNotAllowedError,
    WrongModelTypeError,
    ProviderUnavailableError,
    QueueUnavailableError,
    OverloadedError,
    WaitExceededError,
    *REFUSALS,
)
"""Of every route that makes a job and waits for it."""


class Submitted(Struct, frozen=True, kw_only=True):
    """An accepted job."""

    job: NewJob
    prefer: Prefer
    waiter: Waiter | None
    """Receives the reply; None if the caller does not wait."""


async def submit(
    call: Call, submission: Submission, prefer: Prefer, key: NewIdempotencyKey | None, retry_of: JobRow | None = None
) -> Submitted:
    """Store the job, bind the key to it, and put it into the queue; `retry_of` learns of it in the same transaction.

    Raises:
        QueueUnavailableError: Redis is away; no job was made.
        OverloadedError: too many jobs wait; no job was made.
        StorageUnavailableError: the database takes no writes; if a job was made, it is cancelled.
        sqlite3.IntegrityError, asyncpg.UniqueViolationError: the key is bound already; no job was made.
        StaleError: `retry_of` was retried already; no job was made.

    """
    tracer = call.state.tracer
    if tracer is None:
        return await _submit(call, submission, prefer, key, retry_of)
    name, attributes = sending(submission.kind)
    links = () if retry_of is None else (headers_of(retry_of.traceparent, retry_of.tracestate),)
    with tracer.span(name, "producer", attributes, links=links) as span:
        submitted = await _submit(call, submission, prefer, key, retry_of)
        span.set_attribute("messaging.message.id", public_id(submitted.job.id))
        return submitted


async def _submit(
    call: Call, submission: Submission, prefer: Prefer, key: NewIdempotencyKey | None, retry_of: JobRow | None
) -> Submitted:
    state = call.state
    waits = prefer.waits and not (submission.stream and prefer.respond_async)  # the events of a stream are read later
    if state.load.is_full or (waits and state.inbox.waiting >= state.settings.max_waiting):
        raise OverloadedError
    job_id = call.file_id or call.job_id or new_ulid()
    admission = await _admit(call, submission, job_id, waits=waits)
    job = _new_job(call, submission, prefer, job_id, admission, has_key=key is not None)
    job.notify = None if call.notice is None else call.notice.notify
    job.inbox = state.inbox.key if waits else None
    if retry_of is not None:
        job.retry_of, job.custom_id, job.notify = retry_of.id, retry_of.custom_id, retry_of.notify
        its_policy = policy_of(retry_of.content_policy, retry_of.organization_id, has_headers=True)
        job.content_policy = strictest(call.caller.content_policy, its_policy)
    waiter = state.inbox.wait_for(job.id) if waits else None
    try:
        fault_points.reach(state.settings, "before_accept")
        results = await state.writer.execute_many(_unit(job, key, call.notice))
    except StaleError:
        await _undo(call, job.id, admission)
        raise
    except CommitError as error:
        await _leave_to_withdrawal(call, job, key, admission, error)
        raise StorageUnavailableError from error
    except Exception:  # the unit was refused, mostly since the key is bound
        await _undo(call, job.id, admission)
        raise
    except BaseException:  # cancelled: a job may have been made, so what it holds stays until it is over
        state.inbox.forget(job.id)
        raise
    job.notify = results[0].rows[0][0]
    call.headers["x-job-id"] = public_id(job.id)
    call.headers["Vary"] = "Prefer"
    fault_points.reach(state.settings, "after_accept")
    _let_begin(state, job)
    if waits and not job.held and job.band == BAND_NUMBERS[INTERACTIVE] and submission.router.capacity is not None:
        state.patience.add(job.id)
    return Submitted(job=job, prefer=prefer, waiter=waiter)


def _let_begin(state: State, job: NewJob) -> None:
    if job.held:
        state.has_held_job.set()
    else:
        queue_of(state, job.kind).put(queue_entry(message_of(job, job.request), job))


async def _leave_to_withdrawal(
    call: Call, job: NewJob, key: NewIdempotencyKey | None, admission: Admission | None, error: CommitError
) -> None:
    """The job may have been stored although nobody can say so; then it is cancelled as soon as that can be told."""
    log.warning("job_not_stored", error=repr(error), request_id=call.request_id)
    if isinstance(error, StoreUnavailableError):
        call.state.inbox.forget(job.id)
        key_id = None if key is None else key.id
        withdrawn = Withdrawn(job_id=job.id, admission=admission, key_id=key_id, retry_of=job.retry_of)
        await call.state.withdrawals.add(withdrawn)
    else:
        await _undo(call, job.id, admission)


async def _undo(call: Call, job_id: str, admission: Admission | None) -> None:
    """No job was made: forget who waits for it, and give back what it held."""
    call.state.inbox.forget(job_id)
    if admission is not None:
        await call.state.admissions.give_back(job_id, admission)


def _unit(job: NewJob, key: NewIdempotencyKey | None, notice: Notice | None) -> Unit:
    """Return the transaction that accepts a job; its first statement returns who is told about it."""
    if job.retry_of is not None:
        return (insert_job(job), note_retry(job.retry_of, job.id))
    job.idempotency_key = None if key is None else key.key
    unit: Unit = (insert_job(job),)
    if notice is not None and notice.endpoint is not None:
        notice.endpoint.object_id = job.id
        unit += (insert_endpoint(notice.endpoint),)
    if key is None:
        return unit
    lives_ms = job.expires_ms - job.created_ms + (job.timeout_s + job.result_ttl_s) * 1000
    return (*unit, insert_idempotency_key(bind(key, job.id, lives_ms)))


async def _admit(call: Call, submission: Submission, job_id: str, *, waits: bool) -> Admission | None:
    """Return what limits the job; raises the refusals of `api.limits.admit`."""
    state = call.state
    if state.inbox.is_connected:
        state.admissions.unseen = 0
        return await admit(call, submission.router, submission.estimate, job_id)
    is_open = state.settings.redis_lost == "open" and submission.router.is_free and not waits
    if not is_open or state.admissions.unseen >= state.settings.accept_backlog:
        raise QueueUnavailableError
    state.admissions.unseen += 1
    return admit_unseen(call, submission.router, submission.estimate)


def _new_job(
    call: Call, submission: Submission, prefer: Prefer, job_id: str, admission: Admission | None, *, has_key: bool
) -> NewJob:
    is_later = prefer.respond_async or submission.is_flex or submission.background
    band = BAND_NUMBERS[BACKGROUND if is_later else INTERACTIVE]
    job = new_job(call, origin_of(call), submission, job_id, admission, band)
    has_to_end = submission.store is True or submission.background
    runs_unread = prefer.respond_async or has_to_end or has_key  # the stream can be had later
    job.cancel_when_unread = submission.stream and not runs_unread
    job.stream = submission.stream or submission.background
    job.strict, job.held = prefer.is_strict, submission.is_held
    if call.options is not None:
        _apply(job, call.options, call.state.settings)
    return job


def _apply(job: NewJob, options: CreateJobRequest, settings: Settings) -> None:
    """Change a job as the request to /v1/jobs says."""
    if options.metadata is not None:
        job.metadata = json.encode(options.metadata).decode() if options.metadata else None
    if options.priority is not None:
        job.priority = min(options.priority, job.priority)
    start_ms = max((options.not_before or 0) * 1000, job.created_ms)
    job.not_before_ms = start_ms if start_ms > job.created_ms else None
    job.expires_ms = start_ms + (options.start_timeout or settings.start_timeout_s) * 1000
    job.timeout_s = options.timeout or job.timeout_s
    job.max_attempts = options.max_attempts or job.max_attempts
    job.result_ttl_s = options.result_ttl or job.result_ttl_s
    job.on_worker_lost = options.on_worker_lost or job.on_worker_lost
