"""Remove documents and collections: hidden at once, then deleted page by page, so that nobody who writes has to wait.

What a process that dies leaves behind is hidden already; `worker.knowledge_sweep` removes the rest.
"""

from typing import Final

from sqlalchemy import delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.chunks.tables import ChunkRow
from shared.collections.queries import DELETED
from shared.collections.tables import CollectionRow
from shared.database import Database
from shared.documents.tables import DocumentRow, ItemRow
from shared.files.store import FileStore

_PAGE: Final = 100


def hide_collection(row: CollectionRow) -> None:
    """Make a collection unreachable, and its slug free."""
    row.surface = DELETED
    row.slug = None


async def remove_document(database: Database, files: FileStore, document_id: int) -> None:
    """Delete a document that is hidden, with chunks, items and file."""
    await remove_chunks(database, document_id)
    async with database.transaction() as session:
        row = await session.get(DocumentRow, document_id)
        if row is None:
            return
        job_id = row.job_id
        await session.delete(row)
    if job_id is not None:
        await files.delete([job_id])


async def remove_chunks(database: Database, document_id: int, attempt: int | None = None) -> None:
    """Delete all chunks and items of a document; with `attempt`, unless a later attempt fills it now."""
    while True:
        async with database.transaction() as session:
            row = None
            if attempt is not None:
                row = await session.get(DocumentRow, document_id, with_for_update=True)
                if row is None or row.attempt != attempt:
                    return
            page = select(ChunkRow.id).where(ChunkRow.document_id == document_id).limit(_PAGE)
            ids = list((await session.exec(page)).all())
            await session.exec(delete(ChunkRow).where(col(ChunkRow.id).in_(ids)))
            if len(ids) < _PAGE:
                if attempt is not None and row is not None:
                    row.chunks = row.terms = row.tokens = 0
                await session.exec(delete(ItemRow).where(col(ItemRow.document_id) == document_id))
                return


async def remove_collection(database: Database, files: FileStore, collection_id: int) -> None:
    """Delete a collection that is hidden, with everything in it."""
    while True:
        async with database.read() as session:
            found = await _documents(session, collection_id)
        if not found:
            break
        for document_id in found:
            await remove_document(database, files, document_id)
    async with database.transaction() as session:
        if (row := await session.get(CollectionRow, collection_id)) is not None:
            await session.delete(row)


async def _documents(session: AsyncSession, collection_id: int) -> list[int]:
    statement = select(DocumentRow.id).where(DocumentRow.collection_id == collection_id).limit(_PAGE)
    return [one for one in (await session.exec(statement)).all() if one is not None]
