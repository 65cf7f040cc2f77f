"""Every statement on `users`.  The session comes first; nothing here commits."""

from typing import Any

from sqlalchemy import delete, inspect
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.collections.queries import delete_collections_of
from shared.conversations.queries import delete_conversations
from shared.errors import NotFoundError
from shared.keys.tables import KeyRow
from shared.lists_sql import list_rows
from shared.providers.tables import ProviderRow
from shared.revision import raise_revision
from shared.routers.tables import RouterRow
from shared.saving import save_unique
from shared.users.emails import has_email
from shared.users.schemas import ListUsersQuery
from shared.users.tables import UserRow


async def get_user(session: AsyncSession, user_id: int) -> UserRow:
    """Return the user; raises `NotFoundError`."""
    row = await session.get(UserRow, user_id)
    if row is None:
        raise NotFoundError("User not found.")
    return row


async def lock_user(session: AsyncSession, user_id: int) -> UserRow:
    """Return the user and keep other transactions from changing it until the end of this one."""
    row = await session.get(UserRow, user_id, with_for_update=True)
    if row is None:
        raise NotFoundError("User not found.")
    return row


async def find_user(session: AsyncSession, email: str) -> UserRow | None:
    """Return the user with this email; of older ones that differ by case alone, the exact or the oldest one."""
    rows = (await session.exec(select(UserRow).where(has_email(email)).order_by(col(UserRow.id)))).all()
    return next((row for row in rows if row.email == email), rows[0] if rows else None)


async def list_users(session: AsyncSession, query: ListUsersQuery) -> tuple[list[UserRow], int]:
    """Return one page of users and the number of all that match; an email that nobody has raises `NotFoundError`."""
    if query.email is not None and await find_user(session, query.email) is None:
        raise NotFoundError("User not found.")
    columns = {
        "id": col(UserRow.id), "name": col(UserRow.name), "email": col(UserRow.email),
        "created": col(UserRow.created_ms), "updated": col(UserRow.updated_ms),
    }  # fmt: skip
    filters = {"role_id": query.role, "organization_id": query.organization}
    conditions: list[Any] = [getattr(UserRow, name) == value for name, value in filters.items() if value is not None]
    conditions += [] if query.email is None else [has_email(query.email)]
    return await list_rows(session, UserRow, query, columns, conditions)


async def save_user(session: AsyncSession, row: UserRow) -> None:
    """Insert or update; raises `ConflictError` if somebody else has the email."""
    is_changed = inspect(row).attrs.email.history.has_changes()  # else two that differed by case would be stuck
    of_another = has_email(row.email) if is_changed else col(UserRow.email) == row.email
    same = select(UserRow.id).where(of_another, UserRow.id != (row.id or 0))
    await save_unique(session, row, same, "User already exists.")


async def delete_user(session: AsyncSession, row: UserRow) -> None:
    """Delete a user with keys and collections; routers and providers he made become the master's, the ledger stays."""
    keys = select(KeyRow.id).where(col(KeyRow.user_id) == row.id)
    locked = await session.exec(keys.order_by(col(KeyRow.id)).with_for_update())  # in which order their use is noted
    await delete_conversations(session, [one for one in locked.all() if one is not None])
    await session.exec(delete(KeyRow).where(col(KeyRow.user_id) == row.id))
    for table in (RouterRow, ProviderRow):
        await session.exec(update(table).where(col(table.user_id) == row.id).values(user_id=0))
    await delete_collections_of(session, row.id or 0)
    await session.delete(row)
    await session.flush()
    await raise_revision(session)
