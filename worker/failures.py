"""What a failed attempt means: another provider now, the same again later, or the end of the job.

| failure                                        | next                                                              |
|------------------------------------------------|-------------------------------------------------------------------|
| about the request (400, 413, 415, 422, ..)     | the end, with the provider's status and message                   |
| after output was streamed                      | the end, `interrupted`: a caller cannot take text back            |
| anything else, another provider is left        | that provider, at once                                            |
| a judge gave no verdict, asked twice           | the end, 503 `judge_invalid_output`                               |
| our file store is out of order                 | the same again later, without harm to the provider                |
| our database does not answer                   | the same again later; it counts as no attempt                     |
| about key or model name (401, 403, 404)        | the end, 503: only the operator can help                          |
| a waiting caller                               | again after 0.25, 0.5, .. s, as long as he is to be kept waiting  |
| an asynchronous job                            | again after 1, 2, 4 .. 30 s                                       |

A provider's `Retry-After` is obeyed; `max_attempts` always holds.
"""

from math import inf
from typing import Final

import structlog
from msgspec import Struct

from shared.clock import now_ms
from shared.errors import StoredError
from shared.jobs.messages import BAND_NUMBERS, JobMessage
from shared.jobs.schemas import INGESTION, INTERACTIVE
from shared.replies.entries import Kind
from shared.settings import Settings
from worker.context import JobContext
from worker.providers.base import JUDGE_INVALID, ProviderError

log = structlog.get_logger()

_LONGEST_DELAY_S: Final = 30.0
_WAITING_DELAY_S: Final = 0.25
_AWAY_S: Final = 1.0
_BUSY: Final = frozenset({"http_429", "http_408", "timeout"})


class Failure(Struct, frozen=True, kw_only=True):
    """A failed attempt and what follows."""

    error: StoredError
    delay_s: float | None = None
    """Seconds to the next attempt; None if the job is over."""
    reason: str | None = None
    provider_status: int | None = None
    does_count: bool = True
    """Whether it uses up one of the job's attempts."""


def judge(ctx: JobContext, error: ProviderError, max_attempts: int, tried: set[int]) -> Failure:
    """Return what follows from a provider's failure."""
    failure, delay_s = _final(error), None
    if ctx.message.kind == INGESTION and error.blame not in ("request", "sluice"):
        failure = _server_error("vectorization_failed", f"Vectorization failed: {failure.message}")
    if _has_streamed(ctx):
        log.warning("stream_interrupted", provider_id=ctx.provider.id, message=error.message)
        failure = _server_error("interrupted", "The provider broke the answer off.")
    elif error.blame != "request" and error.reason != JUDGE_INVALID and ctx.attempt < max_attempts:
        delay_s = _delay_s(ctx, error, tried)
    if error.blame == "operator":
        log.error("provider_refuses_us", provider_id=ctx.provider.id, status=error.status, message=error.message)
    return Failure(error=failure, delay_s=delay_s, reason=error.reason, provider_status=error.status)


def database_away(ctx: JobContext) -> Failure:
    """Return what follows if the job could not read or write what it needs: the same again, as long as it may take."""
    delay_s = None if _has_streamed(ctx) or can_wait_s(ctx.message, ctx.runtime.settings) < _AWAY_S else _AWAY_S
    error = _server_error("storage_unavailable", "The database does not answer, please try again later.")
    return Failure(error=error, delay_s=delay_s, reason="storage_unavailable", does_count=False)


def _has_streamed(ctx: JobContext) -> bool:
    """Return whether a caller may have read some of the answer of this attempt."""
    return any(entry.kind is Kind.CHUNK for entry in ctx.reply.entries if entry.attempt == ctx.attempt)


def _delay_s(ctx: JobContext, error: ProviderError, tried: set[int]) -> float | None:
    if error.blame != "sluice" and ctx.runtime.routing.candidates(ctx.router, tried | {ctx.provider.id}):
        return 0.0
    if error.blame == "operator":
        return None
    left_s = can_wait_s(ctx.message, ctx.runtime.settings)
    first_s = 1.0 if left_s == inf else _WAITING_DELAY_S
    delay_s: float = max(min(first_s * 2 ** (ctx.attempt - 1), _LONGEST_DELAY_S), error.retry_after_s or 0.0)
    return None if delay_s > left_s else delay_s


def _final(error: ProviderError) -> StoredError:
    """Return what the caller is told if this is the end."""
    if error.blame == "request":
        return StoredError(
            message=error.message, type="invalid_request_error", param=error.param,
            code=error.code or "provider_rejected_request", status=error.status or 400,
        )  # fmt: skip
    if error.reason == JUDGE_INVALID:
        return _server_error(JUDGE_INVALID, error.message)
    if error.blame == "sluice":
        return _server_error("storage_unavailable", "The file of this request cannot be read, please try again later.")
    if error.reason in _BUSY:
        return model_busy()
    return provider_unavailable()


def model_busy() -> StoredError:
    """Return the error of a job that no provider had room for in time."""
    return _server_error("model_busy", "Model is too busy, please try again later.")


def provider_unavailable() -> StoredError:
    """Return the error of a job whose providers are all out of order."""
    return _server_error("provider_unavailable", "Model is temporarily unavailable, please try again later.")


def can_wait_s(message: JobMessage, settings: Settings) -> float:
    """Return how long the job's caller may still be kept waiting for a provider; without end in the background."""
    if message.inbox is None or message.band != BAND_NUMBERS[INTERACTIVE]:
        return inf
    return settings.routing_wait_s - (now_ms() - message.created_ms) / 1000


def _server_error(code: str, message: str, status: int = 503) -> StoredError:
    return StoredError(message=message, type="server_error", param=None, code=code, status=status)


def job_timeout(message: JobMessage) -> Failure:
    """Return the end of a job that took longer than it may."""
    return Failure(
        error=_server_error("timeout", f"The job did not finish within {message.timeout_s} s.", 504), reason="timeout"
    )


def crash() -> Failure:
    """Return the end of a job that met a bug of ours."""
    return Failure(error=_server_error("internal_error", "An unexpected error occurred", 500), reason="internal_error")


def too_deep() -> Failure:
    """Return the end of a job whose request is nested too deeply to be rewritten."""
    error = StoredError(
        message="The request is nested too deeply.", type="invalid_request_error", param=None, code="invalid_json",
        status=400,
    )  # fmt: skip
    return Failure(error=error, reason="http_400")


def job_cancelled() -> StoredError:
    """Return the error of a cancelled job."""
    return StoredError(
        message="The job was cancelled.", type="invalid_request_error", param=None, code="job_cancelled", status=409
    )


def job_expired() -> StoredError:
    """Return the error of a job that was not started in time."""
    return _server_error("job_expired", "The job was not started before its deadline.", 504)


def job_interrupted() -> StoredError:
    """Return the error of a job whose workers were lost."""
    return _server_error("interrupted", "The job was interrupted and has no attempt left.")
