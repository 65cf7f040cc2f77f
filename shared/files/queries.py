"""Every statement on `files`.  The session comes first; nothing here commits."""

from collections.abc import Sequence

from sqlalchemy import update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.files.schemas import FILE_PREFIX, ListFilesQuery
from shared.files.tables import FileRow
from shared.ids import parse_id


async def find_file(session: AsyncSession, user_id: int | None, public_id: str) -> FileRow | None:
    """Return the file, or its tombstone; None if it is absent or another user's (`user_id` None: anybody's)."""
    ulid = parse_id(public_id, FILE_PREFIX)
    if ulid is None:
        return None
    row = await session.get(FileRow, ulid)
    return row if row is not None and user_id in (None, row.user_id) else None


async def list_files(
    session: AsyncSession, user_id: int, query: ListFilesQuery, after: str | None, now_ms: int
) -> tuple[list[FileRow], bool]:
    """Return at most `query.limit` files that can be read, and whether more follow; keyset pagination on the id."""
    statement = select(FileRow).where(FileRow.user_id == user_id, col(FileRow.removed_ms).is_(None))
    statement = statement.where(col(FileRow.expires_ms).is_(None) | (col(FileRow.expires_ms) > now_ms))
    if query.purpose is not None:
        statement = statement.where(FileRow.purpose == query.purpose)
    if after is not None:
        statement = statement.where(FileRow.id < after if query.order == "desc" else FileRow.id > after)
    order = col(FileRow.id).desc() if query.order == "desc" else col(FileRow.id)
    rows = list((await session.exec(statement.order_by(order).limit(query.limit + 1))).all())
    return rows[: query.limit], len(rows) > query.limit


async def list_expired_files(session: AsyncSession, now_ms: int, limit: int) -> Sequence[str]:
    """Return some of the files whose time is over."""
    due = select(FileRow.id).where(col(FileRow.expires_ms) <= now_ms, col(FileRow.removed_ms).is_(None))
    return (await session.exec(due.limit(limit))).all()


async def remove_files(session: AsyncSession, file_ids: Sequence[str], now_ms: int, reason: str) -> None:
    """Turn files into tombstones; after the commit, the caller removes their bytes."""
    values = {"removed_ms": now_ms, "removed_reason": reason}
    await session.exec(update(FileRow).where(col(FileRow.id).in_(file_ids)).values(values))


async def set_file_status(session: AsyncSession, file_id: str, status: str, details: str | None) -> None:
    """Say what was found out about a file."""
    values = {"status": status, "status_details": details}
    await session.exec(update(FileRow).where(col(FileRow.id) == file_id).values(values))
