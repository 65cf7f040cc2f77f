"""Statements on `chunks` but searches.  The session comes first; nothing here commits."""

from collections.abc import Sequence

from msgspec import json
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.chunks.schemas import Chunk
from shared.chunks.tables import ChunkRow
from shared.documents.tables import DocumentRow
from shared.errors import NotFoundError


async def get_chunk(session: AsyncSession, document_id: int, number: int) -> ChunkRow:
    """Return a chunk of a document; raises `NotFoundError`."""
    statement = select(ChunkRow).where(ChunkRow.document_id == document_id, ChunkRow.number == number)
    row = (await session.exec(statement)).first()
    if row is None:
        raise NotFoundError("Chunk not found.")
    return row


async def remove_chunk(session: AsyncSession, document: DocumentRow, number: int) -> None:
    """Delete a chunk of a document; raises `NotFoundError`."""
    chunk = await get_chunk(session, document.id or 0, number)
    counts = update(DocumentRow).where(col(DocumentRow.id) == document.id)
    await session.exec(counts.values(chunks=DocumentRow.chunks - 1, terms=DocumentRow.terms - chunk.terms))
    await session.delete(chunk)


async def list_chunks(session: AsyncSession, document_id: int, offset: int, limit: int) -> list[ChunkRow]:
    """Return one page of the chunks of a document, by number."""
    statement = select(ChunkRow).where(ChunkRow.document_id == document_id).order_by(col(ChunkRow.number))
    return list((await session.exec(statement.offset(offset).limit(limit))).all())


async def read_chunks(session: AsyncSession, chunk_ids: Sequence[int]) -> dict[int, ChunkRow]:
    """Return chunks by the ids of their rows."""
    rows = (await session.exec(select(ChunkRow).where(col(ChunkRow.id).in_(chunk_ids)))).all()
    return {row.id or 0: row for row in rows}


def to_chunk(row: ChunkRow) -> Chunk:
    """Return the wire form."""
    return Chunk(
        id=row.number,
        collection_id=row.collection_id,
        document_id=row.document_id,
        content=row.content,
        metadata=None if row.metadata_ is None else json.decode(row.metadata_),
        created=row.created_ms // 1000,
        page=row.page,
    )
