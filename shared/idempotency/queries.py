"""Every statement on `idempotency_keys` but the hot write.  The session comes first; nothing here commits."""

from sqlalchemy import delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.idempotency.tables import IdempotencyKeyRow


async def find_idempotency_key(session: AsyncSession, key_id: str) -> IdempotencyKeyRow | None:
    """Return what the key is bound to."""
    return await session.get(IdempotencyKeyRow, key_id)


async def delete_idempotency_key(session: AsyncSession, key_id: str, job_id: str) -> None:
    """Forget a key, unless it has been bound to another job meanwhile."""
    of_it = (col(IdempotencyKeyRow.id) == key_id, col(IdempotencyKeyRow.job_id) == job_id)
    await session.exec(delete(IdempotencyKeyRow).where(*of_it))


async def delete_expired_key(session: AsyncSession, key_id: str, now_ms: int) -> None:
    """Forget a key whose time is over, unless it has been bound anew meanwhile."""
    of_it = (col(IdempotencyKeyRow.id) == key_id, col(IdempotencyKeyRow.expires_ms) <= now_ms)
    await session.exec(delete(IdempotencyKeyRow).where(*of_it))


async def delete_idempotency_keys(session: AsyncSession, now_ms: int, limit: int) -> int:
    """Forget some of the keys whose time is over; returns how many."""
    due = select(IdempotencyKeyRow.id).where(IdempotencyKeyRow.expires_ms <= now_ms).limit(limit)
    ids = list((await session.exec(due)).all())
    await session.exec(delete(IdempotencyKeyRow).where(col(IdempotencyKeyRow.id).in_(ids)))
    return len(ids)
