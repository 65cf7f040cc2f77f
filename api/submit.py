"""Turn a request into a durable job.

The row is committed first; only then is an id given out and the job put into the queue.  If that fails, or this process
dies in between, the reconciler finds the row.
"""

from typing import Final

import structlog
from aiohttp import web
from msgspec import Struct, json

from api.access import check_access
from api.call import Call
from api.idempotency import bind
from api.limits import REFUSALS, Estimate, admit, admit_unseen
from api.prefer import Prefer
from api.refusals import retry_count
from api.state import queue_of
from shared import fault_points
from shared.admission.records import Admission
from shared.clock import now_ms
from shared.directory import Router
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
from shared.group_commit.units import CommitError, StoreUnavailableError, Unit
from shared.idempotency.statements import NewIdempotencyKey, insert_idempotency_key
from shared.ids import new_ulid
from shared.jobs.messages import BAND_NUMBERS, message_of
from shared.jobs.schemas import BACKGROUND, INTERACTIVE, QUEUED, CreateJobRequest, public_id
from shared.jobs.statements import NewJob, insert_job
from shared.queue.jobs import NewJob as QueuedJob
from shared.queue.lanes import RUN_JOB, group_of
from shared.replies.inbox import Waiter
from shared.request_logs.redaction import clean, redact_headers
from shared.settings import Settings

log = structlog.get_logger()
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
MAX_ATTEMPTS: Final = 3
_TOKENS_PER_TURN: Final = 1000
_MAX_TURNS: Final = 1000.0
"""No job uses up more of its tenant's share at once, whatever it asks for."""
_TRACEPARENT_PARTS: Final = 4


class Submission(Struct, frozen=True, kw_only=True):
    """What an inference route knows of the job it wants; the rest is the same for all of them."""

    kind: str
    endpoint: str
    router: Router
    model: str
    """As called."""
    stream: bool = False
    store: bool | None = None
    metadata: dict[str, str] | None = None
    end_user: str | None = None
    estimate: Estimate
    """What it may use."""
    is_flex: bool = False
    """The caller waits, but is not in a hurry."""


class Submitted(Struct, frozen=True, kw_only=True):
    """An accepted job."""

    job: NewJob
    prefer: Prefer
    waiter: Waiter | None
    """Receives the reply; None if the caller does not wait."""


async def find_router(call: Call, model: str, types: frozenset[str]) -> Router:
    """Return the router the caller asks for; raises the errors of a model he may not use."""
    call.model = model
    router = call.state.directory.peek(model)
    if router is None or not router.providers:
        router = await call.state.directory.find_router(model)
    if router is None or not router.providers:
        raise ModelNotFoundError
    check_access(call.caller, router.id)
    if router.type not in types:
        raise WrongModelTypeError
    return router


async def submit(call: Call, submission: Submission, prefer: Prefer, key: NewIdempotencyKey | None) -> Submitted:
    """Store the job, bind the key to it, and put it into the queue.

    Raises:
        QueueUnavailableError: Redis is away; no job was made.
        OverloadedError: too many jobs wait; no job was made.
        StorageUnavailableError: the database takes no writes; if a job was made, it is cancelled.
        sqlite3.IntegrityError, asyncpg.UniqueViolationError: the key is bound already; no job was made.

    """
    state = call.state
    waits = prefer.waits and not (submission.stream and prefer.respond_async)  # the events of a stream are read later
    if state.load.is_full or (waits and state.inbox.waiting >= state.settings.max_waiting):
        raise OverloadedError
    job_id = call.file_id or new_ulid()
    admission = await _admit(call, submission, job_id, waits=waits)
    job = _new_job(call, submission, prefer, job_id, admission, waits=waits)
    _apply(job, call.options, state.settings, has_key=key is not None)
    waiter = state.inbox.wait_for(job.id) if waits else None
    try:
        fault_points.reach(state.settings, "before_accept")
        await state.writer.execute_many(_unit(job, key))
    except CommitError as error:
        state.inbox.forget(job.id)
        if isinstance(error, StoreUnavailableError):
            state.withdrawals.add(job.id, admission)
        elif admission is not None:
            await state.admissions.give_back(job.id, admission)
        log.warning("job_not_stored", error=repr(error), request_id=call.request_id)
        raise StorageUnavailableError from error
    except Exception:  # the statement was refused, since the key is bound: no job was made
        state.inbox.forget(job.id)
        if admission is not None:
            await state.admissions.give_back(job.id, admission)
        raise
    except BaseException:  # cancelled: a job may have been made, so what it holds stays until it is over
        state.inbox.forget(job.id)
        raise
    call.headers["x-job-id"] = public_id(job.id)
    call.headers["Vary"] = "Prefer"
    fault_points.reach(state.settings, "after_accept")
    queue_of(state, job.kind).put(_queued(call, job))
    if waits and job.band == BAND_NUMBERS[INTERACTIVE] and submission.router.capacity is not None:
        state.patience.add(job.id)
    return Submitted(job=job, prefer=prefer, waiter=waiter)


def _unit(job: NewJob, key: NewIdempotencyKey | None) -> Unit:
    if key is None:
        return (insert_job(job),)
    lives_ms = job.expires_ms - job.created_ms + (job.timeout_s + job.result_ttl_s) * 1000
    return (insert_job(job), insert_idempotency_key(bind(key, job.id, lives_ms)))


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


def _new_job(  # what is known of a job
    call: Call, submission: Submission, prefer: Prefer, job_id: str, admission: Admission | None, *, waits: bool
) -> NewJob:
    settings, caller, request, now = call.state.settings, call.caller, call.request, now_ms()
    traceparent = _header(request, "traceparent")
    runs_unread = prefer.respond_async or submission.store is True
    ttl_s = settings.unstored_result_ttl_s if submission.store is False else settings.result_ttl_s
    tokens = submission.estimate.prompt_tokens + submission.estimate.output_tokens
    return NewJob(
        id=job_id,
        kind=submission.kind,
        endpoint=submission.endpoint,
        status=QUEUED,
        band=BAND_NUMBERS[BACKGROUND if prefer.respond_async or submission.is_flex else INTERACTIVE],
        stream=submission.stream,
        store=submission.store,
        user_id=caller.user_id,
        organization_id=caller.organization_id,
        key_id=caller.key_id,
        router_id=submission.router.id,
        router_name=submission.router.name,
        model=submission.model,
        price_prompt=str(submission.router.price_prompt),
        price_completion=str(submission.router.price_completion),
        priority=min(caller.priority, settings.routing_max_priority),
        cost_estimate=min(max(tokens / _TOKENS_PER_TURN, 0.01), _MAX_TURNS),
        metadata=json.encode(submission.metadata).decode() if submission.metadata else None,
        end_user=submission.end_user,
        created_ms=now,
        not_before_ms=None,
        expires_ms=now + settings.start_timeout_s * 1000,
        timeout_s=settings.job_timeout_s,
        result_ttl_s=ttl_s,
        max_attempts=MAX_ATTEMPTS,
        on_worker_lost="retry",
        cancel_when_unread=submission.stream and not runs_unread,
        request_id=call.request_id,
        client_request_id=_header(request, "x-client-request-id"),
        trace_id=_trace_id(traceparent),
        traceparent=traceparent,
        client_address=request.remote,
        user_agent=_header(request, "User-Agent"),
        retry_count=retry_count(call),
        request_headers=redact_headers(request.headers.items()),
        inbox=call.state.inbox.key if waits else None,
        admission=None if admission is None else admission.encode(),
        request=call.body,
    )


def _apply(job: NewJob, options: CreateJobRequest | None, settings: Settings, *, has_key: bool) -> None:
    """Change a job as the request to /v1/jobs says; a stream that can be asked for again need not be read now."""
    job.cancel_when_unread = job.cancel_when_unread and not has_key
    if options is None:
        return
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


def _header(request: web.Request, name: str) -> str | None:
    value = request.headers.get(name)
    return None if value is None else clean(value)


def _queued(call: Call, job: NewJob) -> QueuedJob:
    return QueuedJob(
        job_id=job.id,
        function=RUN_JOB,
        args=(message_of(job, job.request),),
        tenant=call.caller.tenant,
        group=group_of(job.router_id),
        band=job.band,
        priority=job.priority,
        due_ms=job.not_before_ms or 0,
        cost=job.cost_estimate,
    )


def _trace_id(traceparent: str | None) -> str | None:
    """Return the trace id of a W3C traceparent."""
    parts = traceparent.split("-") if traceparent else []
    return parts[1] if len(parts) >= _TRACEPARENT_PARTS and len(parts[1]) == 32 else None
