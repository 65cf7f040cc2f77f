"""Jobs as their owners see them."""

from typing import Any

from msgspec import json

from api.versions import JobVersion
from api.waiting_times import NOT_WAITING, Waiting
from shared.batches.schemas import BATCH_PREFIX, ITEM_PREFIX
from shared.clock import now_ms, to_iso, to_seconds
from shared.errors import GoneError, StoredError
from shared.jobs.schemas import BANDS, TERMINAL, Job, JobProgress, JobTombstone, JobUrls, alias_of, public_id
from shared.jobs.statements import NewJob
from shared.jobs.tables import JobRow
from shared.request_logs.schemas import Attempt, AttemptUsage
from shared.request_logs.tables import RequestLogRow
from shared.usage.schemas import MICRO, NANO_PER_UNIT, FootprintRecord, Usage
from shared.usage.tables import UsageRecordRow

_MAX_POLL_S = 30


def to_job(row: JobRow | NewJob, progress: JobProgress | None = None, waiting: Waiting = NOT_WAITING) -> Job:
    """Return the wire form of a job."""
    job_id = public_id(row.id)
    return Job(
        id=job_id,
        kind=row.kind,
        endpoint=row.endpoint,
        status=row.status,  # type: ignore[arg-type]  # a column
        model=row.model,
        batch_id=None if row.batch_id is None else BATCH_PREFIX + row.batch_id,
        custom_id=row.custom_id,
        band=BANDS[row.band],
        priority=row.priority,
        metadata=metadata_of(row),
        user=row.end_user,
        created_at=row.created_ms // 1000,
        not_before=to_seconds(row.not_before_ms),
        started_at=to_seconds(row.started_ms),
        completed_at=to_seconds(row.finished_ms),
        expires_at=row.expires_ms // 1000,
        timeout=row.timeout_s,
        result_expires_at=to_seconds(row.result_expires_ms),
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        next_attempt_at=to_seconds(row.next_attempt_ms),
        retry_of=None if row.retry_of is None else public_id(row.retry_of),
        retried_by=None if row.retried_by is None else public_id(row.retried_by),
        queue_position=waiting.position,
        estimated_start_at=waiting.starts_at,
        progress=progress or JobProgress(output_tokens=0, events=0),
        usage=usage_of(row),
        dropped_params=dropped_of(row),
        error=error_of(row),
        incomplete_details=_incomplete_details(row),
        cancel_requested_at=to_seconds(row.cancel_requested_ms),
        idempotency_key=row.idempotency_key,
        request_id=row.request_id,
        client_request_id=row.client_request_id,
        trace_id=row.trace_id,
        aliases=_aliases(row),
        urls=JobUrls(
            self=f"/v1/jobs/{job_id}",
            result=f"/v1/jobs/{job_id}/result",
            events=f"/v1/jobs/{job_id}/events",
            attempts=f"/v1/jobs/{job_id}/attempts",
            cancel=f"/v1/jobs/{job_id}/cancel",
        ),
    )


def _incomplete_details(row: JobRow | NewJob) -> dict[str, str] | None:
    if isinstance(row, NewJob) or row.incomplete_reason is None:
        return None
    return {"reason": row.incomplete_reason}


def _aliases(row: JobRow | NewJob) -> list[str]:
    """Return the other ids of a job: that of its own route, that of its line in a batch."""
    alias = alias_of(row.kind, row.id)
    found = [] if alias == public_id(row.id) else [alias]
    return found if row.batch_id is None else [*found, ITEM_PREFIX + row.id]


def metadata_of(row: Any) -> dict[str, str]:
    """Return the metadata of a job, stored or new."""
    text = row.metadata if isinstance(row, NewJob) else row.metadata_
    return json.decode(text, type=dict[str, str]) if text else {}


def usage_of(row: JobRow | NewJob) -> Usage | None:
    """Return the usage of a finished job."""
    return json.decode(row.usage, type=Usage) if row.usage else None


def dropped_of(row: JobRow | NewJob) -> list[str]:
    """Return the parameters that the provider did not get."""
    return json.decode(row.dropped_params, type=list[str]) if row.dropped_params else []


def error_of(row: JobRow | NewJob) -> StoredError | None:
    """Return the error of a failed job."""
    return json.decode(row.error, type=StoredError) if row.error else None


def is_gone(row: JobRow | JobVersion) -> bool:
    """Return whether a job is a tombstone; once its result's time is over it is one, even before it is swept."""
    return row.removed_ms is not None or (row.result_expires_ms is not None and row.result_expires_ms <= now_ms())


def gone(row: JobRow) -> GoneError:
    """Return the 410 of a job that is a tombstone."""
    removed_ms = row.removed_ms or row.result_expires_ms or 0
    tombstone = JobTombstone(
        id=public_id(row.id), kind=row.kind, status=row.status,  # type: ignore[arg-type]
        model=row.model, created_at=row.created_ms // 1000, completed_at=to_seconds(row.finished_ms),
        removed_at=removed_ms // 1000, reason=row.removed_reason or "expired", usage=usage_of(row),
    )  # fmt: skip
    message = f"The result of {public_id(row.id)} was removed on {to_iso(removed_ms)[:10]}."
    return GoneError(message, tombstone=tombstone)


def polling_headers(row: JobRow | JobVersion) -> dict[str, str]:
    """Return how to poll the job, and how long its representation may be kept."""
    if row.status in TERMINAL:
        return {"Cache-Control": "private, max-age=60"}
    age_s = (now_ms() - row.created_ms) / 1000
    rest_s = min(max(age_s / 2, 0.2), _MAX_POLL_S)
    return {
        "Cache-Control": "private, no-cache",
        "retry-after": str(max(round(rest_s), 1)),
        "openai-poll-after-ms": str(int(rest_s * 1000)),
    }


def to_attempt(row: RequestLogRow, record: UsageRecordRow | None) -> Attempt:
    """Return the wire form of an attempt; `record` is missing while it runs."""
    return Attempt(
        id=f"att_{row.id}",
        number=row.attempt,
        status=row.status,  # type: ignore[arg-type]  # a column
        provider_id=row.provider_id,
        provider_type=row.provider_type,
        provider_model=row.provider_model,
        provider_request_id=row.provider_request_id,
        worker=row.worker,
        started_at=row.created_ms // 1000,
        first_token_at=None if row.ttft_ms is None else (row.created_ms + row.ttft_ms) // 1000,
        completed_at=to_seconds(row.completed_ms),
        latency_ms=row.latency_ms,
        ttft_ms=row.ttft_ms,
        http_status=row.http_status,
        error=json.decode(row.error, type=StoredError) if row.error else None,
        retry_reason=row.retry_reason,
        usage=AttemptUsage(
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            total_tokens=row.prompt_tokens + row.completion_tokens,
            estimated=row.is_estimated,
        ),
        cost=row.cost_micros / MICRO,
        footprint=None if record is None or record.zone is None else _footprint(record),
    )


def _footprint(record: UsageRecordRow) -> FootprintRecord:
    return FootprintRecord(
        operational_kgCO2eq=record.operational_ng / NANO_PER_UNIT,
        embodied_kgCO2eq=record.embodied_ng / NANO_PER_UNIT,
        water_l=record.water_nl / 10**9,
        zone=record.zone or "",
        zone_effective=record.zone_effective or "",
        intensity_kg_per_kwh=record.intensity_kg_per_kwh or 0.0,
        pue=record.pue or 0.0,
        source=record.source,
        method=record.method,
        factors=record.factors,
        status=record.footprint_status,
    )
