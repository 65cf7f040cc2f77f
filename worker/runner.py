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
from shared.directory import Provider, Router
from shared.errors import ModelNotFoundError, ProviderUnavailableError, StoredError
from shared.group_commit.units import StaleError, StoreUnavailableError, WriterBusyError
from shared.ids import new_ulid
from shared.jobs.messages import JobMessage
from shared.jobs.schemas import CANCELLED, COMPLETED, FAILED, JobFrame, public_id
from shared.jobs.statements import start_attempt
from shared.replies.entries import Ending, ReplySupersededError
from shared.replies.frames import encode_frames
from shared.request_logs.statements import StartedAttempt, insert_attempt
from worker.context import JobContext, Produced, Runtime, TokenCount
from worker.failures import Failure, crash, job_cancelled, job_timeout, judge, too_deep
from worker.jobs import KINDS
from worker.metering import charge_micros, meter, to_usage
from worker.providers.base import ProviderError
from worker.routing import pick_provider
from worker.settle import AttemptEnd, JobEnd, commit, count_unseen, finish, retry_unit
from worker.takeover import end_without_attempt, lose_earlier_attempts, read_message, read_request, resume_or_end

log = structlog.get_logger()

CancelReason = Literal["abort", "lost", "drain"]
_RETRY_STORAGE_S: Final = 0.5
T = TypeVar("T")


class _Start(Struct, frozen=True):
    """What the database said to the start of an attempt."""

    attempt: int
    max_attempts: int
    started_ms: int


async def run_job(arq: dict[str, Any], message: JobMessage | None) -> None:
    """Run the job to its end; the one arq function of the inference lane.

    `message` is None if Redis lost it; the row has the same.  Raises `arq.Retry` if the job has to be run again later.
    """
    runtime: Runtime = arq["runtime"]
    message = message or await read_message(runtime, arq["job_id"])
    if message is None:
        return  # the row is gone: nothing to do
    structlog.contextvars.bind_contextvars(job_id=public_id(message.job_id), request_id=message.request_id)
    tried: set[int] = set()
    while True:
        delay_s = await _run_attempt(runtime, message, tried, arq["cancel_reason"])
        if delay_s is None:
            return
        if delay_s > 0:
            raise Retry(defer=delay_s)


async def _run_attempt(
    runtime: Runtime, message: JobMessage, tried: set[int], cancel_reason: Callable[[], CancelReason]
) -> float | None:
    """Run one attempt; returns None if the job needs no more, else the seconds to the next attempt."""
    router = await runtime.directory.find_router_by_id(message.router_id)
    provider = pick_provider(router, tried) if router is not None else None
    if router is None or provider is None:
        no_provider = ProviderUnavailableError("The model has no provider.")
        error = (ModelNotFoundError() if router is None else no_provider).stored()
        await end_without_attempt(runtime, message, FAILED, error)
        return None
    try:
        start = await _start(runtime, message, provider)
    except StaleError:
        return await resume_or_end(runtime, message)
    except (StoreUnavailableError, WriterBusyError):
        return _RETRY_STORAGE_S
    if start.attempt > 1:
        await lose_earlier_attempts(runtime, message, start.attempt)
    elif message.admission is not None and not message.admission.is_counted:
        await count_unseen(runtime, message, message.admission)
    ctx = await _open_context(runtime, message, router, provider, start)
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
        failure = judge(ctx, error, start.max_attempts, tried)
    except TimeoutError:
        failure = job_timeout(ctx.message)
    except RecursionError:
        failure = too_deep()
    except Exception:  # the one broad except of the process: a bug ends one job, not the worker
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
    unit = (start_attempt(message.job_id, now), insert_attempt(attempt))
    # a start that a loss of power forgets is repeated; not so if its number is part of ids that callers have seen
    can_repeat = not message.stream and message.on_worker_lost == "retry"
    results = await runtime.writer.execute_many(unit, durable=not can_repeat)
    return _Start(*results[0].rows[0])


async def _open_context(
    runtime: Runtime, message: JobMessage, router: Router, provider: Provider, start: _Start
) -> JobContext:
    reply = runtime.replies.open(message.job_id, attempt=start.attempt, inbox=message.inbox, is_stream=message.stream)
    if message.stream and start.attempt > 1:
        reply.entries += await runtime.replies.read_before(message.job_id, start.attempt)
    reply.start()
    request = message.request if message.request is not None else await read_request(runtime, message.job_id)
    return JobContext(
        runtime=runtime, message=message, request=request, router=router, provider=provider, attempt=start.attempt,
        begun_ms=now_ms(), reply=reply,
    )  # fmt: skip


async def _run_in_time(ctx: JobContext, start: _Start) -> Produced:
    left_s = start.started_ms / 1000 + ctx.message.timeout_s - now_ms() / 1000
    if left_s <= 0:
        raise TimeoutError
    async with asyncio.timeout(left_s):
        return await KINDS[ctx.message.kind](ctx)


async def _end_completed(ctx: JobContext, produced: Produced) -> float | None:
    attempt = _attempt_end(
        ctx, "succeeded", produced.tokens, http_status=200, provider_request_id=produced.provider_request_id
    )
    charge = charge_micros(ctx.message, attempt.meter)
    usage = to_usage(attempt.meter, charge, requests=1)
    body = produced.render(usage)
    last_chunk = None
    if produced.render_last_chunk is not None:
        last_chunk = ctx.reply.prepare(produced.render_last_chunk(usage))
    end = JobEnd(
        status=COMPLETED, usage=usage, charge_micros=charge, content_type=produced.content_type, body=body,
        frames=_frames(ctx),
    )  # fmt: skip
    fault_points.reach(ctx.runtime.settings, "before_finish")
    if not await finish(ctx.runtime, ctx.message, ctx.attempt, end, attempt):
        return await resume_or_end(ctx.runtime, ctx.message)
    fault_points.reach(ctx.runtime.settings, "after_finish")
    if last_chunk is not None:
        ctx.reply.send(last_chunk)
    await ctx.reply.end(Ending(COMPLETED, 200, end.content_type, body))
    return None


async def _end_cancelled(ctx: JobContext, reason: CancelReason) -> float | None:
    """The run was taken away: by its caller, by another worker, or because this one leaves."""
    if reason == "lost":
        return None
    tokens = TokenCount() if ctx.count_so_far is None or ctx.first_token_ms is None else ctx.count_so_far()
    if reason == "drain":
        attempt = _attempt_end(ctx, "cancelled", tokens, retry_reason="worker_draining")
        await commit(ctx.runtime.writer, retry_unit(ctx.message, attempt, now_ms(), does_count=False))
        return _GIVE_BACK_S
    error = job_cancelled()
    attempt = _attempt_end(ctx, "cancelled", tokens, error=error)
    charge = charge_micros(ctx.message, attempt.meter)
    end = JobEnd(
        status=CANCELLED, usage=to_usage(attempt.meter, charge, requests=1), charge_micros=charge, error=error,
        frames=_frames(ctx),
    )  # fmt: skip
    await _store_failed_end(ctx, end, attempt)
    return None


async def _end_failed(ctx: JobContext, failure: Failure, tried: set[int]) -> float | None:
    tokens = TokenCount() if ctx.count_so_far is None or ctx.first_token_ms is None else ctx.count_so_far()
    attempt = _attempt_end(
        ctx, "failed", tokens, http_status=failure.provider_status, error=failure.error, retry_reason=failure.reason
    )
    if failure.delay_s is not None:
        next_ms = now_ms() + int(failure.delay_s * 1000)
        tried.add(ctx.provider.id)
        ctx.reply.retry(_retry_frame(ctx, failure.error, next_ms))
        if await commit(ctx.runtime.writer, retry_unit(ctx.message, attempt, next_ms)) is not None:
            return failure.delay_s
        await resume_or_end(ctx.runtime, ctx.message)
        return None
    log.warning("job_failed", code=failure.error.code, reason=failure.reason, provider_id=ctx.provider.id)
    usage = to_usage(meter(ctx.message, None, tokens, None), 0, requests=1)
    end = JobEnd(status=FAILED, usage=usage, charge_micros=0, error=failure.error, frames=_frames(ctx))
    await _store_failed_end(ctx, end, attempt)
    return None


async def _store_failed_end(ctx: JobContext, end: JobEnd, attempt: AttemptEnd) -> None:
    if not await finish(ctx.runtime, ctx.message, ctx.attempt, end, attempt):
        await resume_or_end(ctx.runtime, ctx.message)
    elif end.error is not None:
        await ctx.reply.end(Ending(end.status, end.error.status, "application/json", json.encode(end.error)))


def _attempt_end(ctx: JobContext, status: str, tokens: TokenCount, **members: Any) -> AttemptEnd:
    latency_ms = now_ms() - ctx.begun_ms
    return AttemptEnd(
        number=ctx.attempt,
        status=status,
        meter=meter(ctx.message, ctx.provider.profile, tokens, latency_ms),
        provider_id=ctx.provider.id,
        provider_model=ctx.provider.model_name,
        latency_ms=latency_ms,
        ttft_ms=None if ctx.first_token_ms is None else ctx.first_token_ms - ctx.begun_ms,
        **members,
    )


def _frames(ctx: JobContext) -> bytes | None:
    return encode_frames(ctx.reply.entries) if ctx.message.stream else None


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
