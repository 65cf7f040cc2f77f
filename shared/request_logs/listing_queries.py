"""Reads of the request log by filters.  The session comes first; nothing here commits.

Ids sort by time, so a span of time is a range of the primary key, whatever else is asked for.
"""

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final

from msgspec import Struct, json
from sqlalchemy import and_
from sqlalchemy import select as sa_select
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.ids import JOB_PREFIXES, oldest_ulid, parse_id
from shared.jobs.queries import metadata_conditions
from shared.jobs.schemas import public_id
from shared.jobs.tables import JobResultRow, JobRow
from shared.names import find_names
from shared.organizations.tables import OrganizationRow
from shared.request_logs.listing import LOG_PREFIX, ListRequestLogsQuery, LogStatus, RequestLog
from shared.request_logs.redaction import FULL, policy_of, redact_metadata
from shared.request_logs.tables import RequestLogRow
from shared.usage.newest import IS_NEWEST
from shared.usage.schemas import MICRO, NANO_PER_UNIT, Impacts
from shared.usage.tables import UsageRecordRow

_COLUMNS: Final = (
    col(RequestLogRow.id), col(RequestLogRow.created_ms), col(RequestLogRow.request_id), col(RequestLogRow.job_id),
    col(RequestLogRow.batch_id), col(RequestLogRow.attempt), col(RequestLogRow.method), col(RequestLogRow.endpoint),
    col(RequestLogRow.status), col(RequestLogRow.http_status), col(RequestLogRow.model),
    col(RequestLogRow.provider_id), col(RequestLogRow.provider_model), col(RequestLogRow.key_id),
    col(RequestLogRow.user_id), col(RequestLogRow.organization_id), col(RequestLogRow.client_address),
    col(RequestLogRow.user_agent), col(RequestLogRow.streamed), col(RequestLogRow.queue_ms),
    col(RequestLogRow.ttft_ms), col(RequestLogRow.latency_ms), col(RequestLogRow.prompt_tokens),
    col(RequestLogRow.completion_tokens), col(RequestLogRow.cost_micros), col(RequestLogRow.error_code),
    col(RequestLogRow.retry_count), col(JobRow.vote), col(RequestLogRow.trace_id), col(RequestLogRow.metadata_),
    col(UsageRecordRow.energy_nwh), col(UsageRecordRow.operational_ng), col(UsageRecordRow.embodied_ng),
)  # fmt: skip
_EXACT: Final = (
    "request_id", "endpoint", "method", "http_status", "model", "provider_id", "provider_model", "key_id", "user_id",
    "organization_id", "error_code", "streamed",
)  # fmt: skip


class Wanted(Struct, frozen=True, kw_only=True):
    """Which rows are asked for: those of one user, or anybody's if `user_id` is None, that fulfil all filters."""

    user_id: int | None
    query: ListRequestLogsQuery
    named: dict[str, list[int]]
    """Column → ids of what the query names."""


async def list_request_logs(
    session: AsyncSession, wanted: Wanted, after: str | None, limit: int, secret_members: frozenset[str]
) -> list[RequestLog]:
    """Return at most `limit` rows behind the row `after`.

    Metadata of the secret members is not shown; whoever asks makes sure that the query does not filter by it.
    """
    query, row_id = wanted.query, col(RequestLogRow.id)
    conditions = _conditions(session, wanted)
    if after is not None:
        conditions.append(row_id < after if query.order == "desc" else row_id > after)
    rows = await _read(session, conditions, row_id.desc() if query.order == "desc" else row_id, limit)
    if secret_members:
        for row in rows:
            row.metadata = None if row.metadata is None else redact_metadata(row.metadata, secret_members)
    return rows


async def add_names(session: AsyncSession, logs: Sequence[RequestLog]) -> None:
    """Give rows the names of their keys, users and organizations."""
    keys = await find_names(session, "key", (log.key_id for log in logs))
    users = await find_names(session, "user", (log.user_id for log in logs))
    organizations = await find_names(session, "organization", (log.organization_id for log in logs))
    for log in logs:
        log.key_name = keys.get(log.key_id or 0)
        log.user_email = None if log.user_id is None else users.get(log.user_id)
        log.organization_name = organizations.get(log.organization_id or 0)


async def _read(session: AsyncSession, conditions: list[Any], order: Any, limit: int) -> list[RequestLog]:
    is_its_record = and_(
        col(UsageRecordRow.job_id) == RequestLogRow.job_id, col(UsageRecordRow.attempt) == RequestLogRow.attempt,
        IS_NEWEST,
    )  # fmt: skip
    statement: Any = (
        sa_select(*_COLUMNS)
        .select_from(RequestLogRow)
        .join(JobRow, and_(col(JobRow.id) == RequestLogRow.job_id, col(JobRow.vote).is_not(None)), isouter=True)
        .join(UsageRecordRow, is_its_record, isouter=True)
        .where(*conditions)
        .order_by(order)
        .limit(limit)
    )
    rows = await (await session.connection()).execute(statement)  # without the ORM: exports read millions
    return [_to_request_log(*row) for row in rows]


class StoredLog(Struct, frozen=True, kw_only=True):
    """One row with what is kept of its request and answer."""

    log: RequestLog
    is_stored: bool
    """Whether the caller did not ask that nothing be kept."""
    policy: str
    """What might be shown of it when it came in."""
    headers: str | None
    request: bytes | None
    response: bytes | None


async def find_request_log(session: AsyncSession, user_id: int | None, log_id: str) -> StoredLog | None:
    """Return one row; None if it is absent or another user's (`user_id` None: anybody's)."""
    log = await session.get(RequestLogRow, log_id)
    if log is None or user_id not in (None, log.user_id):
        return None
    (shown,) = await _read(session, [col(RequestLogRow.id) == log_id], col(RequestLogRow.id), 1)
    job = None if log.job_id is None else await session.get(JobRow, log.job_id)
    result = None if job is None else await session.get(JobResultRow, job.id)
    answer = result.body if result is not None and log.status == "succeeded" else None
    headers = log.request_headers if job is None else job.request_headers
    return StoredLog(
        log=shown,
        is_stored=job is None or job.store is not False,
        policy=policy_of(log.content_policy, log.organization_id, has_headers=headers is not None),
        headers=headers,
        request=log.request_body if job is None else job.request,
        response=answer if answer is not None else told_error(log, job),
    )


def told_error(log: RequestLogRow, job: JobRow | None) -> bytes | None:
    """Return the error that the caller got; of an attempt that another one followed, its own."""
    ended_the_job = job is not None and job.finished_ms == log.completed_ms
    error = job.error if ended_the_job and job is not None and job.error else log.error
    return error.encode() if error else None


async def get_content_policy(session: AsyncSession, organization_id: int | None) -> str:
    """Return what an organization shows of bodies and headers, now."""
    organization = None if organization_id is None else await session.get(OrganizationRow, organization_id)
    return FULL if organization is None else organization.content_policy


def _conditions(session: AsyncSession, wanted: Wanted) -> list[Any]:
    query = wanted.query
    found: list[Any] = [
        col(getattr(RequestLogRow, name)) == value for name in _EXACT if (value := getattr(query, name)) is not None
    ]
    found += [col(getattr(RequestLogRow, name)).in_(ids) for name, ids in wanted.named.items()]
    if wanted.user_id is not None:
        found.append(col(RequestLogRow.user_id) == wanted.user_id)
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
        (col(RequestLogRow.latency_ms), query.min_latency_ms, query.max_latency_ms),
        (tokens, query.min_tokens, query.max_tokens),
        (col(RequestLogRow.cost_micros), _micros(query.min_cost, ROUND_CEILING), _micros(query.max_cost, ROUND_FLOOR)),
    )
    for column, least, most in bounds:
        found += ([] if least is None else [column >= least]) + ([] if most is None else [column <= most])
    return found + metadata_conditions(session, query.metadata, col(RequestLogRow.metadata_))


def _micros(amount: float | None, rounding: str) -> int | None:
    """Return a bound in micro-units; parts of one are rounded into the range.  1.1 is meant as it is written."""
    return None if amount is None else int((Decimal(repr(amount)) * MICRO).to_integral_value(rounding))


_STORED: Final = {"completed": "succeeded"}
_SHOWN: Final[dict[str, LogStatus]] = {"succeeded": "completed"}


def _to_request_log(  # noqa: PLR0913, PLR0917  # one for each column: exports read millions of rows
    row_id: str, created_ms: int, request_id: str, job_id: str | None, batch_id: str | None, attempt: int, method: str,
    endpoint: str, status: Any, http_status: int | None, model: str | None, provider_id: int | None,
    provider_model: str | None, key_id: int | None, user_id: int | None, organization_id: int | None,
    client_address: str | None, user_agent: str | None, streamed: bool, queue_ms: int | None,
    ttft_ms: int | None, latency_ms: int | None, prompt_tokens: int, completion_tokens: int, cost_micros: int,
    error_code: str | None, retry_count: int, vote: str | None, trace_id: str | None, metadata: str | None,
    energy_nwh: int | None, operational_ng: int | None, embodied_ng: int | None,
) -> RequestLog:  # fmt: skip
    """Return the wire form of a row of `_COLUMNS`."""
    impacts = None
    if energy_nwh is not None:
        carbon_ng = (operational_ng or 0) + (embodied_ng or 0)
        impacts = Impacts(kWh=energy_nwh / NANO_PER_UNIT, kgCO2eq=carbon_ng / NANO_PER_UNIT)
    return RequestLog(
        id=LOG_PREFIX + row_id, created_at=created_ms // 1000, request_id=request_id,
        job_id=public_id(job_id) if job_id else None, batch_id=f"batch_{batch_id}" if batch_id else None,
        attempt=attempt, method=method, endpoint=endpoint, status=_SHOWN.get(status, status), http_status=http_status,
        model=model, provider_id=provider_id, provider_model=provider_model, key_id=key_id, user_id=user_id,
        organization_id=organization_id, client_address=client_address, user_agent=user_agent, streamed=streamed,
        queue_ms=queue_ms, ttft_ms=ttft_ms, latency_ms=latency_ms, prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens, cost=cost_micros / MICRO, impacts=impacts, error_code=error_code,
        retry_count=retry_count, vote=vote, trace_id=trace_id, metadata=json.decode(metadata) if metadata else None,
    )  # fmt: skip
