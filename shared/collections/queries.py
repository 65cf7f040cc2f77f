"""Every statement on `collections`.  The session comes first, then the caller; nothing here commits."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, func
from sqlmodel import and_, col, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.collections.schemas import ListCollectionsQuery
from shared.collections.tables import CollectionRow
from shared.documents.tables import DocumentRow
from shared.errors import NotFoundError
from shared.lists_sql import list_rows
from shared.users.schemas import MASTER_EMAIL
from shared.users.tables import UserRow

COLLECTIONS: Final = "collections"
VECTOR_STORE: Final = "vector_store"
DELETED: Final = "deleted"


def is_visible(user_id: int) -> ColumnElement[bool]:
    """Return the condition of collections that a user may read: his own, and public ones."""
    own_or_public = or_(col(CollectionRow.user_id) == user_id, col(CollectionRow.visibility) == "public")
    return and_(col(CollectionRow.surface) == COLLECTIONS, own_or_public)


async def get_collection(session: AsyncSession, user_id: int, collection_id: int) -> CollectionRow:
    """Return a collection that the user may read; raises `NotFoundError`."""
    statement = select(CollectionRow).where(CollectionRow.id == collection_id, is_visible(user_id))
    return _found((await session.exec(statement)).first())


async def get_own_collection(session: AsyncSession, user_id: int, collection_id: int) -> CollectionRow:
    """Return a collection of the user himself; raises `NotFoundError`."""
    row = await session.get(CollectionRow, collection_id)
    return _found(row if row is not None and row.surface == COLLECTIONS and row.user_id == user_id else None)


def _found(row: CollectionRow | None) -> CollectionRow:
    if row is None:
        raise NotFoundError("Collection not found.")
    return row


async def list_visible(session: AsyncSession, user_id: int, collection_ids: Sequence[int]) -> list[CollectionRow]:
    """Return the named collections, or all that the user may read; `NotFoundError` names one that he may not."""
    statement = select(CollectionRow).where(is_visible(user_id)).order_by(col(CollectionRow.id))
    if collection_ids:
        statement = statement.where(col(CollectionRow.id).in_(collection_ids))
    rows = list((await session.exec(statement)).all())
    known = {row.id for row in rows}
    for one in collection_ids:
        if one not in known:
            raise NotFoundError(f"Collection {one} not found.")
    return rows


async def list_collections(
    session: AsyncSession, user_id: int, query: ListCollectionsQuery
) -> tuple[list[CollectionRow], int]:
    """Return one page of what the user may read, and the number of all that match."""
    conditions: list[Any] = [is_visible(user_id)]
    if query.name is not None:
        conditions.append(CollectionRow.name == query.name)
    if query.visibility is not None:
        conditions.append(CollectionRow.visibility == query.visibility)
    columns = {
        "id": col(CollectionRow.id), "name": col(CollectionRow.name), "created": col(CollectionRow.created_ms),
        "updated": col(CollectionRow.updated_ms),
    }  # fmt: skip
    return await list_rows(session, CollectionRow, query, columns, conditions)


async def count_documents(session: AsyncSession, collection_ids: Iterable[int]) -> dict[int, int]:
    """Return how many documents each collection has."""
    ids = list(collection_ids)
    statement = (
        select(DocumentRow.collection_id, func.count())
        .where(col(DocumentRow.collection_id).in_(ids), DocumentRow.status == "completed")
        .group_by(col(DocumentRow.collection_id))
    )
    return dict.fromkeys(ids, 0) | dict((await session.exec(statement)).all())


async def list_owners(session: AsyncSession, user_ids: Iterable[int]) -> dict[int, str]:
    """Return the emails of users; empty for those who are gone."""
    ids = set(user_ids)
    statement = select(UserRow.id, UserRow.email).where(col(UserRow.id).in_(ids))
    return (
        dict.fromkeys(ids, "") | {0: MASTER_EMAIL} | {one or 0: email for one, email in await session.exec(statement)}
    )


async def delete_collections_of(session: AsyncSession, user_id: int) -> None:
    """Hide all collections of a user who is being deleted; a sweep removes what is in them."""
    await session.exec(update(CollectionRow).where(col(CollectionRow.user_id) == user_id).values(surface=DELETED))


async def delete_collections_of_key(session: AsyncSession, key_id: int) -> None:
    """Hide all collections of a subscription that is being deleted; a sweep removes what is in them."""
    await session.exec(update(CollectionRow).where(col(CollectionRow.owner_key_id) == key_id).values(surface=DELETED))
