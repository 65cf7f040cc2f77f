"""Every statement on `jobs` but the hot writes.  The session comes first; nothing here commits."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, cast, delete, exists, func, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import defer
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.chat.schemas import ListChatCompletionsQuery
from shared.ids import JOB_PREFIXES, parse_id
from shared.jobs.schemas import BANDS, CHAT_COMPLETION, COMPLETED, IN_PROGRESS, QUEUED, ListJobsQuery
from shared.jobs.tables import JobResultRow, JobRow

LIGHT: Final = (defer(JobRow.request, raiseload=True), defer(JobRow.request_headers, raiseload=True))  # type: ignore[arg-type]
"""Options of a query that has no use for the request, which may be large."""


async def find_job(session: AsyncSession, user_id: int | None, public_id: str) -> JobRow | None:
    """Return the job with this id or alias, without its request.

    None if it is absent or another user's (`user_id` None: anybody's).
    """
    ulid = parse_id(public_id, *JOB_PREFIXES)
    if ulid is None:
        return None
    row = await session.get(JobRow, ulid, options=LIGHT)
    return row if row is not None and user_id in (None, row.user_id) else None


async def get_request(session: AsyncSession, job_id: str) -> bytes:
    """Return the body of the request; empty JSON if it was removed."""
    return (await session.exec(select(JobRow.request).where(JobRow.id == job_id))).first() or b"{}"


async def get_light(session: AsyncSession, job_id: str) -> JobRow:
    """Return the job without its request."""
    return await session.get_one(JobRow, job_id, options=LIGHT)


async def get_result(session: AsyncSession, job_id: str) -> JobResultRow | None:
    """Return what a finished job left behind."""
    return await session.get(JobResultRow, job_id)


async def list_jobs(
    session: AsyncSession, user_id: int | None, query: ListJobsQuery, after: str | None
) -> tuple[list[JobRow], bool]:
    """Return at most `query.limit` jobs and whether more follow; keyset pagination on the id."""
    statement = select(JobRow).where(col(JobRow.removed_ms).is_(None), col(JobRow.store).is_not(False)).options(*LIGHT)
    equal = {
        JobRow.user_id: user_id, JobRow.kind: query.kind, JobRow.model: query.model,
        JobRow.batch_id: query.bare_batch_id,
        JobRow.band: None if query.band is None else BANDS.index(query.band), JobRow.custom_id: query.custom_id,
        JobRow.end_user: query.user,
    }  # fmt: skip
    for column, value in equal.items():
        if value is not None:
            statement = statement.where(column == value)
    if query.status:
        statement = statement.where(col(JobRow.status).in_(query.status))
    if query.created_after is not None:
        statement = statement.where(JobRow.created_ms >= query.created_after * 1000)
    if query.created_before is not None:
        statement = statement.where(JobRow.created_ms < query.created_before * 1000)
    for condition in metadata_conditions(session, query.metadata):
        statement = statement.where(condition)
    return await page(session, statement, query.order, query.limit, after)


async def list_chat_completions(
    session: AsyncSession, user_id: int, query: ListChatCompletionsQuery, after: str | None
) -> tuple[list[tuple[JobRow, bytes]], bool]:
    """Return completed chat jobs that may be listed, each with the body of its answer, and whether more follow."""
    statement = (
        select(JobRow, JobResultRow.body)
        .join(JobResultRow, col(JobResultRow.job_id) == JobRow.id)
        .where(
            JobRow.user_id == user_id, JobRow.kind == CHAT_COMPLETION, JobRow.status == COMPLETED,
            col(JobRow.removed_ms).is_(None), col(JobRow.store).is_not(False),
        )
    )  # fmt: skip
    if query.model is not None:
        statement = statement.where(JobRow.model == query.model)
    for condition in metadata_conditions(session, query.metadata):
        statement = statement.where(condition)
    return await page(session, statement, query.order, query.limit, after)


async def page(
    session: AsyncSession, statement: Any, order: str, limit: int, after: str | None
) -> tuple[list[Any], bool]:
    """Return one page of a statement on jobs and whether more follow."""
    if after is not None:
        statement = statement.where(JobRow.id < after if order == "desc" else JobRow.id > after)
    ordered = statement.order_by(col(JobRow.id).desc() if order == "desc" else col(JobRow.id)).limit(limit + 1)
    rows = list((await session.exec(ordered)).all())
    return rows[:limit], len(rows) > limit


def metadata_conditions(
    session: AsyncSession, metadata: Mapping[str, str], column: Any = JobRow.metadata_
) -> list[ColumnElement[bool]]:
    """Return one condition per pair of metadata."""
    column = col(column)
    if session.get_bind().dialect.name == "postgresql":
        document = cast(column, JSONB)
        return [document[key].as_string() == value for key, value in metadata.items()]
    return [_has_pair(column, key, value) for key, value in metadata.items()]


def _has_pair(column: Any, key: str, value: str) -> ColumnElement[bool]:
    """Return the condition of SQLite; a path, as `json_extract` takes it, cannot name every key."""
    pair = func.json_each(column).table_valued("key", "value")
    return exists().where(pair.c.key == key, pair.c.value == value)


async def count_unfinished(session: AsyncSession, user_id: int | None) -> list[tuple[str, int, int, str, int, int]]:
    """Return (status, band, router id, router name, count, oldest creation in ms) of unfinished jobs, in groups."""
    groups = (JobRow.status, JobRow.band, JobRow.router_id, JobRow.router_name)
    statement = (
        select(*groups, func.count(), func.min(JobRow.created_ms))  # type: ignore[call-overload]
        .where(col(JobRow.finished_ms).is_(None), col(JobRow.status).in_((QUEUED, IN_PROGRESS)))
        .group_by(*groups)
    )
    if user_id is not None:
        statement = statement.where(JobRow.user_id == user_id)
    return [tuple(row) for row in (await session.exec(statement)).all()]


async def update_job(session: AsyncSession, job_id: str, **values: object) -> None:
    """Change columns of a job that its owner may change."""
    await session.exec(update(JobRow).where(col(JobRow.id) == job_id).values(version=JobRow.version + 1, **values))


async def remove_bodies(session: AsyncSession, job_ids: list[str], now_ms: int, reason: str) -> None:
    """Turn finished jobs into tombstones; after the commit, the caller removes their files."""
    await session.exec(delete(JobResultRow).where(col(JobResultRow.job_id).in_(job_ids)))
    values = {
        "removed_ms": now_ms, "removed_reason": reason, "request": None, "request_headers": None, "metadata_": None,
        "end_user": None, "version": JobRow.version + 1,
    }  # fmt: skip
    await session.exec(update(JobRow).where(col(JobRow.id).in_(job_ids)).values(values))
