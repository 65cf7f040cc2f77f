"""Last step: chunks into the database, a few at a time; they are hidden until the job of their document is over."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import exists
from sqlmodel import col, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.chunks.tables import ChunkRow
from shared.clock import now_ms
from shared.collections.errors import VectorSizeError
from shared.collections.tables import CollectionRow
from shared.documents.queries import begin_attempt, count_stored, take_numbers
from shared.documents.removal import remove_chunks
from shared.documents.tables import DocumentRow, ItemRow
from shared.errors import ApiError, NotFoundError
from shared.retrieval.index import NewEntry, insert_entries, prepare_vectors
from worker.context import JobContext
from worker.providers.base import ProviderError

BATCH: Final = 32
"""Chunks per call of the model, and per transaction: others want to use both, too."""


def refused(error: ApiError) -> ProviderError:
    """Return the end of a job that meets one of our own refusals."""
    return ProviderError(
        error.message, blame="request", reason=error.code, status=error.status, code=error.code, param=error.param
    )


async def open_document(ctx: JobContext, document_id: int) -> DocumentRow:
    """Return the document for this attempt alone, empty.

    Raises `ProviderError` that blames the request if the document was deleted meanwhile.
    """
    async with ctx.runtime.database.transaction() as session:
        is_there = await begin_attempt(session, document_id, ctx.attempt)
        row = await session.get(DocumentRow, document_id)
    if not is_there or row is None:
        raise refused(NotFoundError("Document not found."))
    await remove_chunks(ctx.runtime.database, document_id, ctx.attempt)
    return row


async def reserve_numbers(ctx: JobContext, document_id: int, count: int) -> int:
    """Return the first number of new chunks of a document; raises `ProviderError` if it is gone."""
    async with ctx.runtime.database.transaction() as session:
        first = await take_numbers(session, document_id, count)
    if first is None:
        raise refused(NotFoundError("Document not found."))
    return first


async def store_entries(
    ctx: JobContext, document: DocumentRow, entries: Sequence[NewEntry], items: Sequence[ItemRow], tokens: int
) -> None:
    """Store chunks of this attempt.

    Raises `ProviderError` that blames the request if the document is gone, or the vectors do not fit.
    """
    document_id, collection_id = document.id or 0, document.collection_id
    terms = sum(entry.bag.length for entry in entries)
    counts = DocumentRow(chunks=len(entries), terms=terms, tokens=tokens)  # type: ignore[call-arg]  # counts alone
    try:
        async with ctx.runtime.database.transaction() as session:
            if not await count_stored(session, document_id, ctx.attempt, counts):
                raise NotFoundError("Document not found.")
            await _fit_vectors(session, ctx.router.name, collection_id, entries)
            session.add_all(items)
            await session.flush()
            await insert_entries(session, collection_id, document_id, entries, now_ms())
    except ApiError as error:
        raise refused(error) from error


async def _fit_vectors(session: AsyncSession, model: str, collection_id: int, entries: Sequence[NewEntry]) -> None:
    """Make the first vectors decide on the size of a collection; raises `VectorSizeError` for others."""
    vector = entries[0].vector
    if vector is None:
        return
    size = len(vector)
    is_empty = ~exists().where(col(ChunkRow.collection_id) == collection_id)
    decides = (
        update(CollectionRow)
        .where(col(CollectionRow.id) == collection_id, or_(col(CollectionRow.dimensions).is_(None), is_empty))
        .values(dimensions=size, embedding_model=model)
    )
    if (await session.exec(decides)).rowcount:
        await prepare_vectors(session, size)
    statement = select(CollectionRow.dimensions).where(CollectionRow.id == collection_id)
    expected = (await session.exec(statement)).one_or_none()
    if expected is None:
        raise NotFoundError("Collection not found.")
    if expected != size:
        raise VectorSizeError(model, expected, size)
