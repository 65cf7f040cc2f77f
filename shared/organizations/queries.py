"""Every statement on `organizations`.  The session comes first; nothing here commits."""

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.batches.tables import BatchRow
from shared.errors import InUseError, NotFoundError
from shared.jobs.tables import JobRow
from shared.lists import ListQuery
from shared.lists_sql import list_rows
from shared.organizations.tables import OrganizationRow
from shared.revision import raise_revision
from shared.saving import save_unique
from shared.users.tables import UserRow


async def get_organization(session: AsyncSession, organization_id: int) -> OrganizationRow:
    """Return the organization; raises `NotFoundError`."""
    row = await session.get(OrganizationRow, organization_id)
    if row is None:
        raise NotFoundError("Organization not found.")
    return row


async def lock_organization(session: AsyncSession, organization_id: int) -> OrganizationRow:
    """Return the organization and keep other transactions from changing it until the end of this one."""
    row = await session.get(OrganizationRow, organization_id, with_for_update=True)
    if row is None:
        raise NotFoundError("Organization not found.")
    return row


async def list_organizations(session: AsyncSession, query: ListQuery) -> tuple[list[OrganizationRow], int]:
    """Return one page of organizations and the number of all."""
    columns = {
        "id": col(OrganizationRow.id), "name": col(OrganizationRow.name),
        "created": col(OrganizationRow.created_ms), "updated": col(OrganizationRow.updated_ms),
    }  # fmt: skip
    return await list_rows(session, OrganizationRow, query, columns, [])


async def count_members(session: AsyncSession, organization_ids: list[int]) -> dict[int, int]:
    """Return how many users these organizations have."""
    column = col(UserRow.organization_id)
    statement = select(column, func.count()).where(column.in_(organization_ids)).group_by(column)
    found = {number: count for number, count in (await session.exec(statement)).all() if number is not None}
    return dict.fromkeys(organization_ids, 0) | found


async def list_members(session: AsyncSession, organization_id: int) -> list[int]:
    """Return the ids of the users of an organization."""
    members = select(UserRow.id).where(UserRow.organization_id == organization_id)
    return [one for one in (await session.exec(members)).all() if one is not None]


async def count_shards(session: AsyncSession) -> dict[int, int]:
    """Return how many organizations each shard has that has any."""
    column = col(OrganizationRow.shard)
    return dict((await session.exec(select(column, func.count()).group_by(column))).all())


async def has_unfinished(
    session: AsyncSession, *, organization_id: int | None = None, user_id: int | None = None
) -> bool:
    """Return whether the organization, or the user, has a job or a batch that is not over."""
    for table in (JobRow, BatchRow):
        owner = table.user_id == user_id if organization_id is None else table.organization_id == organization_id
        unfinished = select(table.id).where(owner, col(table.finished_ms).is_(None)).limit(1)
        if (await session.exec(unfinished)).first() is not None:
            return True
    return False


async def save_organization(session: AsyncSession, row: OrganizationRow, taken: str) -> None:
    """Insert or update; raises `ConflictError` with the text `taken` if another one has the name."""
    same = select(OrganizationRow.id).where(OrganizationRow.name == row.name, OrganizationRow.id != (row.id or 0))
    await save_unique(session, row, same, taken)


async def delete_organization(session: AsyncSession, row: OrganizationRow) -> None:
    """Delete an organization; raises `InUseError` if it has users."""
    message = "Delete organization with users is not allowed."
    if (await count_members(session, [row.id or 0]))[row.id or 0]:
        raise InUseError(message)
    await session.delete(row)
    try:
        await session.flush()
    except IntegrityError as error:  # a user joined at the same moment
        raise InUseError(message) from error
    await raise_revision(session)
