"""Reads of the request log by filters.  The session comes first; nothing here commits.

Ids sort by time, so a span of time is a range of the primary key, whatever else is asked for.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct, json
from sqlalchemy import and_
from sqlalchemy import select as sa_select
from sqlalchemy.orm import aliased
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.ids import JOB_PREFIXES, oldest_ulid, parse_id
from shared.jobs.queries import metadata_conditions
from shared.jobs.schemas import public_id
from shared.jobs.tables import JobResultRow, JobRow
from shared.organizations.tables import OrganizationRow
from shared.request_logs.listing import LOG_PREFIX, ListRequestLogsQuery, RequestLog
from shared.request_logs.redaction import FULL
from shared.request_logs.tables import RequestLogRow
from shared.usage.schemas import MICRO, NANO_PER_UNIT, Impacts
from shared.usage.tables import UsageRecordRow

_NEWER: Final = aliased(UsageRecordRow)
_ROW = (
    "id", "created_ms", "request_id", "job_id", "batch_id", "attempt", "method", "endpoint", "status", "http_status",
    "model", "provider_id", "provider_model", "key_id", "user_id", "organization_id", "client_address", "user_agent",
    "streamed", "queue_ms", "ttft_ms", "latency_ms", "prompt_tokens", "completion_tokens", "cost_micros", "error_code",
    "retry_count", "trace_id", "metadata_",
)  # fmt: skip
_COLUMNS: Final = (
    *(getattr(RequestLogRow, name) for name in _ROW),
    col(JobRow.vote),
    col(UsageRecordRow.energy_nwh),
    (col(UsageRecordRow.operational_ng) + col(UsageRecordRow.embodied_ng)).label("carbon_ng"),
)
_EXACT: Final = (
    "request_id", "endpoint", "method", "http_status", "model", "provider_id", "key_id", "user_id", "organization_id",
    "error_code", "streamed",
)  # fmt: skip


async def list_request_logs(
    session: AsyncSession, user_id: int | None, query: ListRequestLogsQuery, after: str | None, limit: int
) -> list[RequestLog]:
    """Return at most `limit` rows behind the row `after`; of one user, or of everybody if `user_id` is None."""
    restated = sa_select(col(_NEWER.id)).where(
        col(_NEWER.job_id) == UsageRecordRow.job_id, col(_NEWER.attempt) == UsageRecordRow.attempt,
        col(_NEWER.supersedes) == UsageRecordRow.id,
    )  # fmt: skip
    is_its_record = and_(
        col(UsageRecordRow.job_id) == RequestLogRow.job_id, col(UsageRecordRow.attempt) == RequestLogRow.attempt,
        ~restated.exists(),
    )  # fmt: skip
    statement: Any = (
        sa_select(*_COLUMNS)
        .select_from(RequestLogRow)
        .join(JobRow, col(JobRow.id) == RequestLogRow.job_id, isouter=True)
        .join(UsageRecordRow, is_its_record, isouter=True)
        .where(*_conditions(session, user_id, query))
    )
    row_id = col(RequestLogRow.id)
    if after is not None:
        statement = statement.where(row_id < after if query.order == "desc" else row_id > after)
    ordered = statement.order_by(row_id.desc() if query.order == "desc" else row_id).limit(limit)
    return [to_request_log(row) for row in (await session.exec(ordered)).all()]


class StoredLog(Struct, frozen=True, kw_only=True):
    """One row with what is kept of its request and answer."""

    log: RequestLog
    content_policy: str
    """Of its organization, now."""
    is_stored: bool
    """Whether the caller did not ask that nothing be kept."""
    headers: str | None
    request: bytes | None
    response: bytes | None


async def find_request_log(session: AsyncSession, user_id: int | None, log_id: str) -> StoredLog | None:
    """Return one row; None if it is absent or another user's (`user_id` None: anybody's)."""
    log = await session.get(RequestLogRow, log_id)
    if log is None or user_id not in (None, log.user_id):
        return None
    just_it = ListRequestLogsQuery(job_id=None, request_id=log.request_id, order="asc")
    rows = await list_request_logs(session, None, just_it, None, 1000)
    shown = next(row for row in rows if row.id == LOG_PREFIX + log_id)
    job = None if log.job_id is None else await session.get(JobRow, log.job_id)
    result = None if job is None else await session.get(JobResultRow, job.id)
    organization = None if log.organization_id is None else await session.get(OrganizationRow, log.organization_id)
    answer = result.body if result is not None and log.status == "succeeded" else None
    return StoredLog(
        log=shown,
        content_policy=FULL if organization is None else organization.content_policy,
        is_stored=job is None or job.store is not False,
        headers=log.request_headers if job is None else job.request_headers,
        request=log.request_body if job is None else job.request,
        response=answer if answer is not None else log.error.encode() if log.error else None,
    )


def _conditions(session: AsyncSession, user_id: int | None, query: ListRequestLogsQuery) -> list[Any]:
    found: list[Any] = [
        col(getattr(RequestLogRow, name)) == value for name in _EXACT if (value := getattr(query, name)) is not None
    ]
    if user_id is not None:
        found.append(col(RequestLogRow.user_id) == user_id)
    if query.job_id is not None:
        found.append(col(RequestLogRow.job_id) == (parse_id(query.job_id, *JOB_PREFIXES) or ""))
    if query.batch_id is not None:
        found.append(col(RequestLogRow.batch_id) == query.batch_id.removeprefix("batch_"))
    if query.status:
        found.append(col(RequestLogRow.status).in_([_STORED.get(one, one) for one in query.status]))
    if query.vote is not None:
        found.append(col(JobRow.vote) == query.vote)
    if query.created_after is not None:
        found.append(col(RequestLogRow.id) >= oldest_ulid(query.created_after * 1000))
    if query.created_before is not None:
        found.append(col(RequestLogRow.id) < oldest_ulid(query.created_before * 1000))
    tokens = col(RequestLogRow.prompt_tokens) + col(RequestLogRow.completion_tokens)
    bounds = (
        (col(RequestLogRow.latency_ms), query.min_latency_ms, None),
        (col(RequestLogRow.latency_ms), None, query.max_latency_ms),
        (tokens, query.min_tokens, None),
        (col(RequestLogRow.cost_micros), None if query.min_cost is None else round(query.min_cost * MICRO), None),
    )
    for column, least, most in bounds:
        found += ([] if least is None else [column >= least]) + ([] if most is None else [column <= most])
    return found + metadata_conditions(session, query.metadata, col(RequestLogRow.metadata_))


_STORED: Final = {"completed": "succeeded"}
_SHOWN: Final = {"succeeded": "completed"}


def to_request_log(row: Sequence[Any]) -> RequestLog:
    """Return the wire form of a row of `_COLUMNS`."""
    stored = dict(zip((*_ROW, "vote", "energy_nwh", "carbon_ng"), row, strict=True))
    energy_nwh, carbon_ng = stored["energy_nwh"], stored["carbon_ng"]
    return RequestLog(
        id=LOG_PREFIX + stored["id"],
        created_at=stored["created_ms"] // 1000,
        request_id=stored["request_id"],
        job_id=public_id(stored["job_id"]) if stored["job_id"] else None,
        batch_id=f"batch_{stored['batch_id']}" if stored["batch_id"] else None,
        status=_SHOWN.get(stored["status"], stored["status"]),
        cost=stored["cost_micros"] / MICRO,
        impacts=None
        if energy_nwh is None
        else Impacts(kWh=energy_nwh / NANO_PER_UNIT, kgCO2eq=(carbon_ng or 0) / NANO_PER_UNIT),
        metadata=json.decode(stored["metadata_"]) if stored["metadata_"] else None,
        **{name: stored[name] for name in _UNCHANGED},
    )


_UNCHANGED: Final = (
    "attempt", "method", "endpoint", "http_status", "model", "provider_id", "provider_model", "key_id", "user_id",
    "organization_id", "client_address", "user_agent", "streamed", "queue_ms", "ttft_ms", "latency_ms", "prompt_tokens",
    "completion_tokens", "error_code", "retry_count", "vote", "trace_id",
)  # fmt: skip
