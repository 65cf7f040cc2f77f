"""Run one job: attempt after attempt until it ends, is to be tried later, or is taken away.

start   one compare-and-set: attempt + 1; refused if the job is over, cancelled, expired or out of attempts
run     the kind calls a provider
settle  one transaction with everything the attempt changed (`worker.settle`)
reply   only after that: what a caller has seen is stored
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeVar

import structlog
from arq import Retry
from msgspec import Struct, json

from shared import fault_points
from shared.clock import now_ms, to_seconds
from shared.database import is_outage
from shared.directory import Provider, Router
from shared.errors import ModelNotFoundError, ProviderUnavailableError, StoredError
from shared.group_commit.units import StaleError, StoreUnavailableError, WriterBusyError
from shared.ids import new_ulid
from shared.jobs.messages import JobMessage
from shared.jobs.schemas import CANCELLED, COMPLETED, FAILED, INCOMPLETE, JobFrame, public_id
from shared.jobs.statements import start_attempt
from shared.metrics import PROVIDER_IN_FLIGHT
from shared.replies.entries import Ending, ReplySupersededError
from shared.replies.frames import encode_frames
from shared.request_logs.statements import StartedAttempt, insert_attempt
from shared.webhooks.events import JOB_STARTED
from shared.webhooks.job_events import tell_change
from shared.webhooks.queue import enqueue_deliveries
from shared.webhooks.statements import deliveries_of
from worker.context import JobContext, Produced, Runtime, TokenCount
from worker.failures import (
    Failure,
    can_wait_s,
    crash,
    database_away,
    job_cancelled,
    job_timeout,
    judge,
    model_busy,
    provider_unavailable,
    too_deep,
)
from worker.jobs import KINDS
from worker.kept_answers import find_answer
from worker.metering import charge_micros, cost_micros, meter, to_usage
from worker.parameters import dropped_params, unfit_providers
from worker.providers.base import ProviderError
from worker.response_cache import avoided, keep_replies
from worker.routing.choice import Choice, NoChoice
from worker.routing.health import Sample
from worker.settle import AttemptEnd, JobEnd, count_unseen, finish, retry
from worker.takeover import end_without_attempt, lose_earlier_attempts, read_message, read_request, resume_or_end
from worker.tracing import attempt_span, note_end

log = structlog.get_logger()

CancelReason = Literal["abort", "lost", "drain"]
_RETRY_STORAGE_S: Final = 0.5
_LONGEST_LOOK_S: Final = 30.0
T = TypeVar("T")


class _Start(Struct, frozen=True):
    """What the database said to the start of an attempt."""

    log_id: str
    attempt: int
    max_attempts: int
    started_ms: int


class _TooLateError(Exception):
    """The job took longer than it may."""


async def run_job(arq: dict[str, Any], message: JobMessage | None) -> None:
    """Run the job to its end; the one arq function of the inference lane.

    `message` is None if Redis lost it; the row has the same.  Raises `arq.Retry` if the job has to be run again later.
    """
    runtime: Runtime = arq["runtime"]
    message = message or await read_message(runtime, arq["job_id"])
    if message is None:
        return  # the row is gone: nothing to do
    structlog.contextvars.bind_contextvars(job_id=public_id(message.job_id), request_id=message.request_id)
    unfit = await unfit_providers(runtime, message)
    if unfit and await _has_no_other(runtime, message, unfit):
        return
    tried = set(unfit)
    while True:
        delay_s = await _run_attempt(runtime, message, tried, arq["cancel_reason"])
        if delay_s is None:
            return
        if delay_s > 0:
            raise Retry(defer=delay_s)


async def _has_no_other(runtime: Runtime, message: JobMessage, unfit: dict[int, StoredError]) -> bool:
    """End the job if none of its providers can take it."""
    router = runtime.directory.peek_by_id(message.router_id)
    if router is None or runtime.routing.candidates(router, set(unfit)):
        return False
    await end_without_attempt(runtime, message, FAILED, next(iter(unfit.values())))
    return True


async def _run_attempt(
    runtime: Runtime, message: JobMessage, tried: set[int], cancel_reason: Callable[[], CancelReason]
) -> float | None:
    """Run one attempt; returns None if the job needs no more, else the seconds to the next attempt."""
    router = await runtime.directory.find_router_by_id(message.router_id)
    if router is None:
        await end_without_attempt(runtime, message, FAILED, ModelNotFoundError().stored())
        return None
    if (kept := await find_answer(runtime, message, router)) is not None:
        return await _run_at(runtime, message, router, Choice(router.providers[0], kept=kept), tried, cancel_reason)
    choice = await runtime.routing.choose(router, tried, is_stream=message.stream)
    if not isinstance(choice, Choice):
        return await _wait_for_provider(runtime, message, choice)
    provider = str(choice.provider.id)
    runtime.metrics.change(PROVIDER_IN_FLIGHT, provider, by=1)
    try:
        return await _run_at(runtime, message, router, choice, tried, cancel_reason)
    finally:
        runtime.metrics.change(PROVIDER_IN_FLIGHT, provider, by=-1)
        runtime.routing.leave(choice)


async def _wait_for_provider(runtime: Runtime, message: JobMessage, choice: NoChoice | None) -> float | None:
    """No provider can be used now: return the seconds until another look, or end the job of a caller who waits."""
    if choice is None:
        status, error = FAILED, ProviderUnavailableError("The model has no provider.").stored()
    elif choice.delay_s <= can_wait_s(message, runtime.settings):
        return min(choice.delay_s, _LONGEST_LOOK_S)
    else:
        status, error = (CANCELLED, model_busy()) if choice.reason == "busy" else (FAILED, provider_unavailable())
    await end_without_attempt(runtime, message, status, error)
    return None


async def _run_at(  # all there is about an attempt
    runtime: Runtime, message: JobMessage, router: Router, choice: Choice, tried: set[int],
    cancel_reason: Callable[[], CancelReason],
) -> float | None:  # fmt: skip
    """Run one attempt at this provider."""
    provider = choice.provider
    try:  # what has to be read is read before the attempt counts
        request = message.request if message.request is not None else await read_request(runtime, message.job_id)
        start = await _start(runtime, message, provider)
    except StaleError:
        return await resume_or_end(runtime, message)
    except (StoreUnavailableError, WriterBusyError):
        return _RETRY_STORAGE_S
    except Exception as error:
        if is_outage(error):
            return _RETRY_STORAGE_S
        raise
    if start.attempt > 1:
        await lose_earlier_attempts(runtime, message, start.attempt)
    elif message.admission is not None and not message.admission.is_counted:
        await count_unseen(runtime, message, message.admission)
    ctx = await _open_context(runtime, message, request, router, provider, start)
    ctx.kept = choice.kept
    if runtime.tracer is None:
        return await _run_and_settle(ctx, start, tried, cancel_reason)
    with attempt_span(runtime.tracer, ctx):
        return await _run_and_settle(ctx, start, tried, cancel_reason)


async def _run_and_settle(
    ctx: JobContext, start: _Start, tried: set[int], cancel_reason: Callable[[], CancelReason]
) -> float | None:
    try:
        produced = await _run_in_time(ctx, start)
    except asyncio.CancelledError:
        _uncancel()
        return await _to_end(_end_cancelled(ctx, cancel_reason()))
    except ReplySupersededError:
        return None  # a later attempt runs elsewhere
    except ProviderError as error:
        if error.blame not in ("request", "sluice"):
            await ctx.runtime.routing.failed(ctx.provider, error.retry_after_s)
        failure = judge(ctx, error, start.max_attempts, tried)
    except _TooLateError:
        failure = job_timeout(ctx.message)
    except RecursionError:
        failure = too_deep()
    except Exception as error:  # the one broad except of the process: a bug ends one job, not the worker
        if is_outage(error):
            log.warning("database_away", error=repr(error))
            failure = database_away(ctx)
        else:
            log.exception("job_crashed")
            failure = crash()
    else:
        return await _to_end(_end_completed(ctx, produced))
    return await _to_end(_end_failed(ctx, failure, tried))


async def _start(runtime: Runtime, message: JobMessage, provider: Provider) -> _Start:
    now = now_ms()
    attempt = StartedAttempt(
        log_id=new_ulid(),
        created_ms=now,
        worker=runtime.name,
        provider_id=provider.id,
        provider_type=provider.type,
        provider_model=provider.model_name,
        job_id=message.job_id,
    )
    told = tell_change(message, JOB_STARTED, runtime.settings.effective_public_url())
    unit = (start_attempt(message.job_id, now), insert_attempt(attempt), *told)
    # a start that a loss of power forgets is repeated; not so if its number is part of ids that callers have seen
    can_repeat = not message.stream and message.on_worker_lost == "retry"
    results = await runtime.writer.execute_many(unit, durable=not can_repeat)
    enqueue_deliveries(runtime.deliveries, deliveries_of(unit, results))
    runtime.pace.note(message.router_id)
    return _Start(attempt.log_id, *results[0].rows[0])


async def _open_context(
    runtime: Runtime, message: JobMessage, request: bytes, router: Router, provider: Provider, start: _Start
) -> JobContext:
    reply = runtime.replies.open(message.job_id, attempt=start.attempt, inbox=message.inbox, is_stream=message.stream)
    if message.stream and start.attempt > 1:
        reply.entries += await runtime.replies.read_before(message.job_id, start.attempt)
    dropped = dropped_params(runtime, message, provider, request)
    reply.start(dropped)
    return JobContext(
        runtime=runtime, message=message, request=request, router=router, provider=provider, attempt=start.attempt,
        log_id=start.log_id, begun_ms=now_ms(), reply=reply, dropped=dropped,
    )  # fmt: skip


async def _run_in_time(ctx: JobContext, start: _Start) -> Produced:
    left_s = start.started_ms / 1000 + ctx.message.timeout_s - now_ms() / 1000
    if left_s <= 0:
        raise _TooLateError
    try:
        async with asyncio.timeout(left_s) as timer:
            return await KINDS[ctx.message.kind](ctx)
    except TimeoutError as error:
        if timer.expired():
            raise _TooLateError from error
        raise


async def _end_completed(ctx: JobContext, produced: Produced) -> float | None:
    is_hit = bool(ctx.looks) and all(look.found is not None for look in ctx.looks)
    attempt = _attempt_end(
        ctx, "succeeded", produced.tokens, http_status=200, provider_request_id=produced.provider_request_id
    )
    if is_hit:
        attempt.meter = meter(ctx.message, None, produced.tokens, None)
    elif ctx.looks:
        made = attempt.meter
        await keep_replies(
            ctx.runtime.redis, ctx.looks, energy_nwh=made.energy_nwh,
            carbon_ng=made.operational_ng + made.embodied_ng, ttl_s=ctx.router.cache_ttl_s or 1,
        )  # fmt: skip
    is_free = is_hit and ctx.router.cache_charge == "free"
    charge = 0 if is_free else charge_micros(ctx.message, cost_micros(ctx.message, produced.tokens))
    usage = to_usage(attempt.meter, charge, requests=1)
    if is_hit:
        usage.cache = avoided(ctx.looks)
    body = produced.render(usage)
    last_chunk = None
    if produced.render_last_chunk is not None:
        last_chunk = ctx.reply.prepare(produced.render_last_chunk(usage))
    end = JobEnd(
        status=COMPLETED if produced.incomplete_reason is None else INCOMPLETE, usage=usage, charge_micros=charge,
        content_type=produced.content_type, body=body, frames=_frames(ctx),
        incomplete_reason=produced.incomplete_reason, dropped=ctx.dropped, statements=produced.statements,
    )  # fmt: skip
    if not is_hit:
        await ctx.runtime.routing.succeeded(ctx.provider, _sample(attempt))
    fault_points.reach(ctx.runtime.settings, "before_finish")
    if not await finish(ctx.runtime, ctx.message, ctx.attempt, end, attempt):
        return await resume_or_end(ctx.runtime, ctx.message)
    fault_points.reach(ctx.runtime.settings, "after_finish")
    if last_chunk is not None:
        ctx.reply.send(last_chunk)
    await ctx.reply.end(Ending(end.status, 200, end.content_type, body, ctx.dropped))
    return None


async def _end_cancelled(ctx: JobContext, reason: CancelReason) -> float | None:
    """The run was taken away: by its caller, by another worker, or because this one leaves."""
    if reason == "lost":
        return None
    tokens = TokenCount() if ctx.count_so_far is None else ctx.count_so_far()
    if reason == "drain":
        attempt = _attempt_end(ctx, "cancelled", tokens, retry_reason="worker_draining")
        await retry(ctx.runtime, ctx.message, attempt, now_ms(), does_count=False)
        return _GIVE_BACK_S
    error = job_cancelled()
    attempt = _attempt_end(ctx, "cancelled", tokens, error=error)
    charge = charge_micros(ctx.message, attempt.meter.cost_micros)
    end = JobEnd(
        status=CANCELLED, usage=to_usage(attempt.meter, charge, requests=1), charge_micros=charge, error=error,
        frames=_frames(ctx), dropped=ctx.dropped,
    )  # fmt: skip
    return await _store_failed_end(ctx, end, attempt)


async def _end_failed(ctx: JobContext, failure: Failure, tried: set[int]) -> float | None:
    tokens = TokenCount() if ctx.count_so_far is None else ctx.count_so_far()
    attempt = _attempt_end(
        ctx, "failed", tokens, http_status=failure.provider_status, error=failure.error, retry_reason=failure.reason
    )
    if failure.delay_s is not None:
        next_ms = now_ms() + int(failure.delay_s * 1000)
        if failure.does_count:
            tried.add(ctx.provider.id)
        ctx.reply.retry(_retry_frame(ctx, failure.error, next_ms))
        if await retry(ctx.runtime, ctx.message, attempt, next_ms, does_count=failure.does_count):
            return failure.delay_s
        return await resume_or_end(ctx.runtime, ctx.message)
    log.warning("job_failed", code=failure.error.code, reason=failure.reason, provider_id=ctx.provider.id)
    usage = to_usage(meter(ctx.message, None, tokens, None), 0, requests=1)
    end = JobEnd(
        status=FAILED, usage=usage, charge_micros=0, error=failure.error, frames=_frames(ctx), dropped=ctx.dropped
    )  # fmt: skip
    return await _store_failed_end(ctx, end, attempt)


async def _store_failed_end(ctx: JobContext, end: JobEnd, attempt: AttemptEnd) -> float | None:
    if not await finish(ctx.runtime, ctx.message, ctx.attempt, end, attempt):
        return await resume_or_end(ctx.runtime, ctx.message)
    if end.error is not None:
        body = json.encode(end.error)
        await ctx.reply.end(Ending(end.status, end.error.status, "application/json", body, ctx.dropped))
    return None


def _attempt_end(ctx: JobContext, status: str, tokens: TokenCount, **members: Any) -> AttemptEnd:
    latency_ms = now_ms() - ctx.begun_ms
    if ctx.runtime.tracer is not None:
        note_end(ctx.runtime.tracer, status, members.get("error"))
    return AttemptEnd(
        number=ctx.attempt,
        log_id=ctx.log_id,
        status=status,
        meter=meter(ctx.message, ctx.provider.profile, tokens, latency_ms),
        provider_id=ctx.provider.id,
        provider_model=ctx.provider.model_name,
        latency_ms=latency_ms,
        ttft_ms=None if ctx.first_token_ms is None else ctx.first_token_ms - ctx.begun_ms,
        **members,
    )


def _sample(attempt: AttemptEnd) -> Sample:
    latency_ms = attempt.latency_ms or 0
    tokens = attempt.meter.tokens.completion
    return Sample(attempt.ttft_ms, latency_ms, tokens / latency_ms * 1000 if tokens and latency_ms else None)


def _frames(ctx: JobContext) -> bytes | None:
    return encode_frames(ctx.reply.entries) if ctx.reply.entries or ctx.message.stream else None


def _retry_frame(ctx: JobContext, error: StoredError, next_ms: int) -> bytes:
    frame = JobFrame(
        type="job.retry_scheduled",
        job_id=public_id(ctx.message.job_id),
        created_at=now_ms() // 1000,
        attempt=ctx.attempt,
        error=error,
        next_attempt_at=to_seconds(next_ms),
    )
    return json.encode(frame)


def _uncancel() -> None:
    """Forget the cancellation that was just caught: what follows stores its outcome."""
    if (task := asyncio.current_task()) is not None:
        task.uncancel()


async def _to_end(ending: Awaitable[T]) -> T:
    """Await it to its end: an outcome is stored even if the run is cancelled meanwhile."""
    task = asyncio.ensure_future(ending)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                break
            _uncancel()
    return task.result()


_GIVE_BACK_S: Final = 0.001
"""Returned to the queue at once; the engine puts the job back where it stood."""
