"""Reads of the request log.  The session comes first; nothing here commits."""

from typing import Any, Final

from sqlalchemy import func
from sqlalchemy import select as sa_select
from sqlmodel import col, or_
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.ids import oldest_ulid
from shared.jobs.queries import LIGHT
from shared.jobs.tables import JobResultRow, JobRow
from shared.organizations.tables import OrganizationRow
from shared.request_logs.tables import RequestLogRow

LoggedRow = tuple[RequestLogRow, JobRow | None, str | None, bytes | None, bytes | None, str | None]
"""Row, its job, headers, request and answer as far as they are shown, and the content policy of its organization."""
MAX_BODY_BYTES: Final = 64 * 1024
_HOUR_MS: Final = 3_600_000


async def list_logged_requests(
    session: AsyncSession, user_id: int | None, from_ms: int, until_ms: int, endpoint: str | None, limit: int
) -> list[LoggedRow]:
    """Return rows of [from, until), newest first; `endpoint` matches exactly or as a path prefix."""
    statement: Any = (
        sa_select(
            RequestLogRow,
            JobRow,
            col(JobRow.request_headers),
            func.substr(JobRow.request, 1, MAX_BODY_BYTES + 1),
            func.substr(JobResultRow.body, 1, MAX_BODY_BYTES + 1),
            col(OrganizationRow.content_policy),
        )
        .options(*LIGHT)
        .join(JobRow, col(JobRow.id) == RequestLogRow.job_id, isouter=True)
        .join(JobResultRow, col(JobResultRow.job_id) == RequestLogRow.job_id, isouter=True)
        .join(OrganizationRow, col(OrganizationRow.id) == RequestLogRow.organization_id, isouter=True)
        .where(col(RequestLogRow.created_ms) >= from_ms, col(RequestLogRow.created_ms) < until_ms)
        .where(col(RequestLogRow.id) >= oldest_ulid(from_ms), col(RequestLogRow.id) < oldest_ulid(until_ms + _HOUR_MS))
    )
    if user_id is not None:
        statement = statement.where(RequestLogRow.user_id == user_id)
    if endpoint is not None:
        path = "/v1/" + endpoint.lower().removeprefix("/").removeprefix("v1/").rstrip("/")
        lower = func.lower(RequestLogRow.endpoint)
        plain = path.removeprefix("/v1")
        found = [
            one for each in (path, plain) for one in (lower == each, lower.startswith(each + "/", autoescape=True))
        ]
        statement = statement.where(or_(*found))
    rows = (await session.exec(statement.order_by(col(RequestLogRow.id).desc()).limit(limit))).all()
    return [tuple(row) for row in rows]
