"""Every statement on `keys`.  The session comes first; nothing here commits."""

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.errors import NotFoundError
from shared.keys.schemas import LOGIN_KEY
from shared.keys.tables import KeyRow
from shared.lists import ListQuery
from shared.lists_sql import list_rows
from shared.revision import raise_revision


async def get_key(session: AsyncSession, key_id: int, user_id: int | None) -> KeyRow:
    """Return the key; raises `NotFoundError` if it is absent or not of this user (None: of anybody)."""
    row = await session.get(KeyRow, key_id)
    if row is None or user_id not in (None, row.user_id):
        raise NotFoundError("Token not found.")
    return row


async def list_keys(session: AsyncSession, query: ListQuery, user_id: int | None) -> tuple[list[KeyRow], int]:
    """Return one page of keys, expired ones included, and the number of all that match."""
    columns = {"id": col(KeyRow.id), "name": col(KeyRow.name), "created": col(KeyRow.created_ms)}
    conditions = [] if user_id is None else [KeyRow.user_id == user_id]
    return await list_rows(session, KeyRow, query, columns, conditions)


async def insert_key(session: AsyncSession, row: KeyRow) -> None:
    """Insert a key; raises `NotFoundError` if its user is deleted at the same moment."""
    session.add(row)
    try:
        await session.flush()
    except IntegrityError as error:
        raise NotFoundError("User not found.") from error


async def delete_key(session: AsyncSession, row: KeyRow) -> None:
    """Delete a key; it stops working everywhere within a second."""
    await session.delete(row)
    await raise_revision(session)


async def delete_login_keys(session: AsyncSession, user_id: int, *, keep: int | None = None) -> None:
    """Delete what logins gave out, but not the key `keep`."""
    is_old = (col(KeyRow.user_id) == user_id, col(KeyRow.kind) == LOGIN_KEY, col(KeyRow.id) != (keep or 0))
    if (await session.exec(delete(KeyRow).where(*is_old))).rowcount:
        await raise_revision(session)
