"""Statements on the rows of vector stores.  The session comes first; nothing here commits."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.chunks.tables import ChunkRow
from shared.collections.errors import StoreNotFoundError
from shared.collections.queries import VECTOR_STORE
from shared.collections.tables import CollectionRow
from shared.documents.queries import COMPLETED, REMOVED
from shared.documents.tables import DocumentRow, ItemRow
from shared.errors import NotFoundError
from shared.ids import parse_id
from shared.jobs.tables import JobRow
from shared.vector_stores.schemas import ListQuery

_MOST_LISTED = 10_000


class StoreOwner(Struct, frozen=True):
    """Whose vector stores are meant: those of a subscription, or of the user himself; neither sees the other's."""

    user_id: int
    key_id: int
    """Of the subscription; 0: the user himself."""


def _own(owner: StoreOwner) -> tuple[Any, ...]:
    return (
        CollectionRow.surface == VECTOR_STORE, CollectionRow.user_id == owner.user_id,
        CollectionRow.owner_key_id == owner.key_id,
    )  # fmt: skip


async def get_store(session: AsyncSession, owner: StoreOwner, slug: str) -> CollectionRow:
    """Return a vector store; raises `StoreNotFoundError`."""
    row = (await session.exec(select(CollectionRow).where(*_own(owner), CollectionRow.slug == slug))).first()
    if row is None:
        raise StoreNotFoundError(slug)
    return row


async def find_store(session: AsyncSession, owner: StoreOwner, name: str) -> CollectionRow:
    """Return the vector store with this id, or else the only one with this name; raises `StoreNotFoundError`."""
    rows = (await session.exec(select(CollectionRow).where(*_own(owner), CollectionRow.slug == name))).all()
    if not rows:
        rows = (await session.exec(select(CollectionRow).where(*_own(owner), CollectionRow.name == name))).all()
    if len(rows) != 1:
        raise StoreNotFoundError(name)
    return rows[0]


async def list_slugs(session: AsyncSession, owner: StoreOwner) -> set[str]:
    """Return the ids that are taken."""
    found = (await session.exec(select(CollectionRow.slug).where(*_own(owner)))).all()
    return {slug for slug in found if slug is not None}


async def list_stores(session: AsyncSession, owner: StoreOwner, query: ListQuery) -> tuple[list[CollectionRow], bool]:
    """Return vector stores, the oldest first, and whether more follow."""
    statement = select(CollectionRow).where(*_own(owner)).order_by(col(CollectionRow.id))
    if query.after is not None:
        last = await get_store(session, owner, query.after)
        statement = statement.where(col(CollectionRow.id) > last.id)
    return await _page(session, statement, query)


async def _page(session: AsyncSession, statement: Any, query: ListQuery) -> tuple[list[Any], bool]:
    limit = query.limit or _MOST_LISTED
    rows = list((await session.exec(statement.limit(limit + 1))).all())
    return rows[:limit], len(rows) > limit


async def count_contents(session: AsyncSession, collection_id: int) -> tuple[int, int]:
    """Return how many items and files a vector store has."""
    items = select(func.count()).select_from(ItemRow).join(DocumentRow, col(DocumentRow.id) == ItemRow.document_id)
    of_store = (DocumentRow.collection_id == collection_id, DocumentRow.status == COMPLETED)
    files = select(func.count()).select_from(DocumentRow)
    is_file = (
        DocumentRow.collection_id == collection_id, DocumentRow.kind == "file", DocumentRow.status != REMOVED,
    )  # fmt: skip
    return (await session.exec(items.where(*of_store))).one(), (await session.exec(files.where(*is_file))).one()


async def list_items(
    session: AsyncSession, collection_id: int, query: ListQuery
) -> tuple[list[tuple[ItemRow, DocumentRow]], bool]:
    """Return items with the documents they belong to, the oldest first, and whether more follow."""
    statement = (
        select(ItemRow, DocumentRow)
        .join(DocumentRow, col(DocumentRow.id) == ItemRow.document_id)
        .where(ItemRow.collection_id == collection_id, DocumentRow.status == COMPLETED)
        .order_by(col(ItemRow.id))
    )
    if query.after is not None:
        statement = statement.where(col(ItemRow.id) > (await get_item(session, collection_id, query.after))[0].id)
    return await _page(session, statement, query)


async def get_item(session: AsyncSession, collection_id: int, item_id: str) -> tuple[ItemRow, DocumentRow]:
    """Return an item with its document; raises `NotFoundError`."""
    ulid = parse_id(item_id, "item_")
    row = None if ulid is None else await session.get(ItemRow, ulid)
    if row is not None and row.collection_id == collection_id:
        document = await session.get(DocumentRow, row.document_id)
        if document is not None and document.status == COMPLETED:
            return row, document
    raise NotFoundError(f"No item `{item_id}`.", param="itemid")


async def remove_item(session: AsyncSession, item: ItemRow, document: DocumentRow) -> None:
    """Delete one item of a file, with its chunks."""
    chunks = (await session.exec(select(ChunkRow).where(ChunkRow.item_id == item.id))).all()
    for chunk in chunks:
        await session.delete(chunk)
    document.chunks -= len(chunks)
    document.terms -= sum(chunk.terms for chunk in chunks)
    document.tokens -= item.tokens
    await session.delete(item)


async def read_content(session: AsyncSession, item: ItemRow, document: DocumentRow) -> str:
    """Return the whole text of an item."""
    if document.content is not None:
        return document.content
    statement = select(ChunkRow.content).where(ChunkRow.item_id == item.id).order_by(col(ChunkRow.number))
    return (await session.exec(statement)).first() or ""


async def list_files(
    session: AsyncSession, collection_id: int, query: ListQuery
) -> tuple[list[tuple[DocumentRow, JobRow | None]], bool]:
    """Return files with their jobs, the oldest first, and whether more follow."""
    statement = _files(collection_id).order_by(col(DocumentRow.id))
    if query.after is not None:
        last, _ = await get_file(session, collection_id, query.after)
        statement = statement.where(col(DocumentRow.id) > last.id)
    return await _page(session, statement, query)


def _files(collection_id: int) -> Any:
    return (
        select(DocumentRow, JobRow)
        .join(JobRow, col(JobRow.id) == DocumentRow.job_id, isouter=True)
        .where(
            DocumentRow.collection_id == collection_id, DocumentRow.kind == "file", DocumentRow.status != REMOVED,
        )
    )  # fmt: skip


async def get_file(session: AsyncSession, collection_id: int, file_id: str) -> tuple[DocumentRow, JobRow | None]:
    """Return a file with its job; raises `NotFoundError`."""
    ulid = parse_id(file_id, "file-")
    found = (await session.exec(_files(collection_id).where(DocumentRow.job_id == ulid))).first() if ulid else None
    if found is None:
        raise NotFoundError(f"No file `{file_id}`.", param="fileid")
    return found[0], found[1]


async def read_hits(
    session: AsyncSession, chunk_ids: Sequence[int]
) -> dict[int, tuple[ChunkRow, ItemRow, DocumentRow]]:
    """Return chunks with their items and documents, by the ids of the chunks' rows."""
    statement = (
        select(ChunkRow, ItemRow, DocumentRow)
        .join(ItemRow, col(ItemRow.id) == ChunkRow.item_id)
        .join(DocumentRow, col(DocumentRow.id) == ChunkRow.document_id)
        .where(col(ChunkRow.id).in_(chunk_ids))
    )
    return {chunk.id or 0: (chunk, item, document) for chunk, item, document in (await session.exec(statement)).all()}
