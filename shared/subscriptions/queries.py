"""Statements on subscriptions, which are rows of `keys`.  The session comes first; nothing here commits."""

from typing import Any

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.collections.queries import delete_collections_of_key
from shared.conversations.queries import delete_conversations
from shared.errors import NotFoundError
from shared.keys.queries import delete_key
from shared.keys.schemas import SUBSCRIPTION_KEY
from shared.keys.tables import KeyRow


class SubscriptionNotFoundError(NotFoundError):
    """The caller has no subscription with this id."""

    code = "subscription_not_found"

    def __init__(self, subscription_id: str) -> None:
        super().__init__(f"No subscription `{subscription_id[:100]}`.", param="id")


async def get_subscription(session: AsyncSession, subscription_id: str, user_id: int | None) -> KeyRow:
    """Return the subscription of this user (None: of anybody); raises `SubscriptionNotFoundError`."""
    row = (await session.exec(select(KeyRow).where(KeyRow.subscription_id == subscription_id))).first()
    if row is None or user_id not in (None, row.user_id):
        raise SubscriptionNotFoundError(subscription_id)
    return row


async def list_subscriptions(
    session: AsyncSession, user_id: int | None, label: str | None, *, after: int = 0, before: int | None = None,
    limit: int,
) -> tuple[list[KeyRow], int, bool, bool]:  # fmt: skip
    """Return those behind key `after`, or the last ones before key `before`, and the number of all that match.

    The booleans tell whether there are older ones, and newer ones.
    """
    conditions: list[Any] = [KeyRow.kind == SUBSCRIPTION_KEY]
    if user_id is not None:
        conditions.append(KeyRow.user_id == user_id)
    if label is not None:
        conditions.append(KeyRow.name == label)
    total = (await session.exec(select(func.count()).select_from(KeyRow).where(*conditions))).one()
    statement = select(KeyRow).where(*conditions)
    if before is None:
        ordered = statement.where(col(KeyRow.id) > after).order_by(col(KeyRow.id))
    else:
        ordered = statement.where(col(KeyRow.id) < before).order_by(col(KeyRow.id).desc())
    rows = list((await session.exec(ordered.limit(limit + 1))).all())
    has_more, rows = len(rows) > limit, rows[:limit]
    if before is None:
        return rows, total, after > 0, has_more
    return rows[::-1], total, has_more, True


async def delete_key_and_belongings(session: AsyncSession, row: KeyRow) -> None:
    """Delete a key; of a subscription, also its vector stores and conversations.  Its usage stays."""
    await delete_conversations(session, [row.id or 0])
    await delete_collections_of_key(session, row.id or 0)
    await delete_key(session, row)
