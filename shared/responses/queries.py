"""Queries on the jobs of responses.  The session comes first; nothing here commits."""

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.ids import shifted_ulid
from shared.jobs.schemas import RESPONSE
from shared.jobs.tables import JobResultRow, JobRow
from shared.responses.items import SPAN, SUFFIX


async def get_request_and_answer(session: AsyncSession, job_id: str) -> tuple[bytes, bytes | None]:
    """Return the stored request of a job and its answer, if there is one."""
    statement = (
        select(JobRow.request, JobResultRow.body)
        .join(JobResultRow, col(JobResultRow.job_id) == JobRow.id, isouter=True)
        .where(JobRow.id == job_id)
    )
    request, answer = (await session.exec(statement)).one()
    return request or b"{}", answer or None


async def find_job_of_item(session: AsyncSession, user_id: int, ulid: str) -> str | None:
    """Return the id of the user's stored response that an item with this ULID belongs to."""
    statement = (
        select(JobRow.id)
        .where(
            JobRow.user_id == user_id, JobRow.id < ulid, JobRow.id > shifted_ulid(ulid, -SPAN),
            func.substr(JobRow.id, len(ulid) - SUFFIX + 1) == ulid[-SUFFIX:], JobRow.kind == RESPONSE,
            col(JobRow.removed_ms).is_(None), col(JobRow.store).is_not(False),
        )
        .order_by(col(JobRow.id).desc())
        .limit(1)
    )  # fmt: skip
    return (await session.exec(statement)).first()
