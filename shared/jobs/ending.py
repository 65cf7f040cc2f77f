"""How a job ends, whoever ends it: the api if it has not begun, else a worker."""

from collections.abc import Sequence

from msgspec import Struct, json

from shared.clock import now_ms
from shared.documents.statements import fail_document
from shared.errors import StoredError
from shared.group_commit.units import Unit
from shared.ids import new_ulid
from shared.jobs.messages import JobMessage
from shared.jobs.schemas import INGESTION
from shared.jobs.statements import FinishedJob, NewJobEvent, NewResult, finish_job, insert_event, insert_result
from shared.metrics import CHARGE, JOB_SECONDS, JOBS, Metrics
from shared.usage.schemas import MICRO, Usage
from shared.usage.statements import NewCharge, insert_charge
from shared.webhooks.job_events import tell_end


class JobEnd(Struct, kw_only=True):
    """How a job ended."""

    status: str
    usage: Usage
    charge_micros: int
    error: StoredError | None = None
    content_type: str = "application/json"
    body: bytes = b""
    frames: bytes | None = None
    incomplete_reason: str | None = None
    dropped: Sequence[str] = ()
    """Parameters that the provider did not get."""
    statements: Unit = ()
    """What else is written with it."""


def end_unit(
    message: JobMessage, attempt: int, end: JobEnd, finished_ms: int, public_url: str, *, only_queued: bool = False
) -> Unit:
    """Return the transaction that ends a job after so many attempts; with `only_queued`, refused if it has begun.

    State, result, what its kind changes beside itself, charge, terminal event and webhooks.  Nothing in it is shared.
    """
    event_id = new_ulid()
    finished = FinishedJob(
        id=message.job_id,
        attempt=attempt,
        status=end.status,
        finished_ms=finished_ms,
        result_expires_ms=finished_ms + message.result_ttl_s * 1000,
        error=None if end.error is None else json.encode(end.error).decode(),
        usage=json.encode(end.usage).decode(),
        incomplete_reason=end.incomplete_reason,
        dropped_params=json.encode(end.dropped).decode() if end.dropped else None,
    )
    event = NewJobEvent(job_id=message.job_id, id=f"evt_{event_id}", type=f"job.{end.status}", created_ms=finished_ms)
    return (
        finish_job(finished, only_queued=only_queued),
        *_result_statements(message, end),
        *_kind_statements(message, end),
        insert_charge(_charge(message, end, finished_ms)),
        insert_event(event),
        *tell_end(message, event_id, end.status, finished_ms, public_url),
    )


def _result_statements(message: JobMessage, end: JobEnd) -> Unit:
    if not end.body and end.frames is None:
        return ()
    result = NewResult(job_id=message.job_id, content_type=end.content_type, body=end.body, frames=end.frames)
    return (insert_result(result),)


def _kind_statements(message: JobMessage, end: JobEnd) -> Unit:
    """Return what a job of this kind changes beside itself."""
    if message.kind == INGESTION and end.error is not None:
        return (fail_document(message.job_id, end.error.message),)
    return end.statements


def _charge(message: JobMessage, end: JobEnd, created_ms: int) -> NewCharge:
    return NewCharge(
        job_id=message.job_id,
        status=end.status,
        created_ms=created_ms,
        user_id=message.user_id,
        organization_id=message.organization_id,
        key_id=message.key_id,
        router_id=message.router_id,
        router_name=message.router_name,
        kind=message.kind,
        prompt_tokens=end.usage.prompt_tokens,
        completion_tokens=end.usage.completion_tokens,
        amount_micros=end.charge_micros,
    )


def note_job(metrics: Metrics, message: JobMessage, status: str, charge_micros: int) -> None:
    """Count one job that has ended."""
    metrics.count(JOBS, message.kind, message.router_name, status)
    metrics.observe(JOB_SECONDS, message.kind, message.router_name, value=(now_ms() - message.created_ms) / 1000)
    if charge_micros:
        metrics.count(CHARGE, message.router_name, by=charge_micros / MICRO)


def job_cancelled() -> StoredError:
    """Return the error of a cancelled job."""
    return StoredError(
        message="The job was cancelled.", type="invalid_request_error", param=None, code="job_cancelled", status=409
    )


def model_busy() -> StoredError:
    """Return the error of a job that no provider had room for in time."""
    return StoredError(
        message="Model is too busy, please try again later.", type="server_error", param=None, code="model_busy",
        status=503,
    )  # fmt: skip
