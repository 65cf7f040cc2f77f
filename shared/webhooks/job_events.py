"""Events of jobs, made where their state changes."""

from typing import Any, Final

from msgspec import json

from shared.batches.schemas import BATCH_PREFIX
from shared.clock import now_ms, to_seconds
from shared.group_commit.units import Statement
from shared.ids import new_ulid
from shared.jobs.messages import JobMessage
from shared.jobs.schemas import IN_PROGRESS, QUEUED, public_id
from shared.webhooks.events import JOB_RETRY_SCHEDULED, JOB_STARTED, RESPONSE_OF
from shared.webhooks.statements import NewEvent, deliver_event

_RESPONSE_PREFIX: Final = "resp_"
_STATUS_OF: Final = {JOB_STARTED: IN_PROGRESS, JOB_RETRY_SCHEDULED: QUEUED}


def tell_end(message: JobMessage, event_id: str, status: str, finished_ms: int, public_url: str) -> list[Statement]:
    """Return the statements that tell how a job ended; none if nobody is told, which is the usual case.

    `event_id` is the bare id of the job's terminal event.  A background response has an event of its own besides.
    """
    if message.notify is None:
        return []
    expires_at = to_seconds(finished_ms + message.result_ttl_s * 1000)
    data = _job_data(message, status, public_url, expires_at)
    statements = deliver_event(_event(message, event_id, f"job.{status}", data, finished_ms), message.notify)
    if message.background:
        view = RESPONSE_OF[status]
        data = {
            "id": _RESPONSE_PREFIX + message.job_id, "status": view.status, "model": message.model,
            "metadata": _metadata(message),
        }  # fmt: skip
        statements += deliver_event(_event(message, new_ulid(), view.event, data, finished_ms), message.notify)
    return statements


def tell_change(message: JobMessage, event_type: str, public_url: str) -> list[Statement]:
    """Return the statements that tell that a job has started, or is going to be tried again."""
    if message.notify is None:
        return []
    data = _job_data(message, _STATUS_OF[event_type], public_url, None)
    return deliver_event(_event(message, new_ulid(), event_type, data, now_ms()), message.notify)


def _event(message: JobMessage, event_id: str, event_type: str, data: dict[str, Any], created_ms: int) -> NewEvent:
    return NewEvent(
        id=event_id, type=event_type, user_id=message.user_id, object_id=message.job_id,
        data=json.encode(data).decode(), created_ms=created_ms, kind=message.kind, traceparent=message.traceparent,
        tracestate=message.tracestate,
    )  # fmt: skip


def _job_data(message: JobMessage, status: str, public_url: str, result_expires_at: int | None) -> dict[str, Any]:
    job_id = public_id(message.job_id)
    return {
        "id": job_id, "status": status, "kind": message.kind, "model": message.model,
        "batch_id": None if message.batch_id is None else BATCH_PREFIX + message.batch_id,
        "custom_id": message.custom_id, "metadata": _metadata(message),
        "result_url": f"{public_url}/v1/jobs/{job_id}/result", "result_expires_at": result_expires_at,
    }  # fmt: skip


def _metadata(message: JobMessage) -> dict[str, str]:
    return json.decode(message.metadata, type=dict[str, str]) if message.metadata else {}
