"""Every statement on `documents` but those of a job's end.  The session comes first; nothing here commits."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import func
from sqlmodel import and_, col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.collections.queries import COLLECTIONS, is_visible
from shared.collections.tables import CollectionRow
from shared.documents.schemas import ListDocumentsQuery
from shared.documents.tables import DocumentRow
from shared.errors import NotFoundError
from shared.jobs.tables import JobRow
from shared.lists_sql import list_rows

PROCESSING: Final = "processing"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
REMOVED: Final = "deleted"
DOCUMENT: Final = "document"


async def get_document(session: AsyncSession, user_id: int, document_id: int) -> DocumentRow:
    """Return a document of a collection that the user may read; raises `NotFoundError`."""
    return await _find(session, document_id, is_visible(user_id))


async def get_own_document(session: AsyncSession, user_id: int, document_id: int) -> DocumentRow:
    """Return a document of the user's own collection; raises `NotFoundError`."""
    own = and_(col(CollectionRow.surface) == COLLECTIONS, col(CollectionRow.user_id) == user_id)
    return await _find(session, document_id, own)


async def _find(session: AsyncSession, document_id: int, condition: Any) -> DocumentRow:
    statement = (
        select(DocumentRow)
        .join(CollectionRow, col(CollectionRow.id) == DocumentRow.collection_id)
        .where(DocumentRow.id == document_id, DocumentRow.status == COMPLETED, condition)
    )
    row = (await session.exec(statement)).first()
    if row is None:
        raise NotFoundError("Document not found.")
    return row


async def list_documents(
    session: AsyncSession, user_id: int, query: ListDocumentsQuery
) -> tuple[list[DocumentRow], int]:
    """Return one page of the documents that the user may read, and the number of all that match."""
    visible = select(CollectionRow.id).where(is_visible(user_id))
    conditions: list[Any] = [col(DocumentRow.collection_id).in_(visible), DocumentRow.status == COMPLETED]
    if query.name is not None:
        conditions.append(DocumentRow.name == query.name)
    if query.collection_id is not None:
        conditions.append(DocumentRow.collection_id == query.collection_id)
    columns = {"id": col(DocumentRow.id), "name": col(DocumentRow.name), "created": col(DocumentRow.created_ms)}
    return await list_rows(session, DocumentRow, query, columns, conditions)


async def find_same(
    session: AsyncSession, collection_id: int, fingerprint: str, *, unfinished: bool = False
) -> DocumentRow | None:
    """Return the document that the same file has become before, or is to become if `unfinished` ones count."""
    statuses = (COMPLETED, PROCESSING) if unfinished else (COMPLETED,)
    statement = select(DocumentRow).where(
        DocumentRow.collection_id == collection_id, DocumentRow.fingerprint == fingerprint,
        col(DocumentRow.status).in_(statuses),
    )  # fmt: skip
    return (await session.exec(statement.order_by(col(DocumentRow.id)))).first()


async def begin_attempt(session: AsyncSession, document_id: int, attempt: int) -> bool:
    """Say that this attempt fills the document from now on; returns False if the document is gone, or full."""
    statement = (
        update(DocumentRow)
        .where(
            col(DocumentRow.id) == document_id, col(DocumentRow.status) == PROCESSING,
            col(DocumentRow.attempt) <= attempt,
        )
        .values(attempt=attempt, chunks=0, terms=0, tokens=0)
    )  # fmt: skip
    return bool((await session.exec(statement)).rowcount)


async def count_stored(session: AsyncSession, document_id: int, attempt: int, counts: DocumentRow) -> bool:
    """Add the counts of new chunks; returns False if the document is gone, or another attempt fills it."""
    statement = (
        update(DocumentRow)
        .where(col(DocumentRow.id) == document_id, col(DocumentRow.attempt) == attempt)
        .values(
            chunks=DocumentRow.chunks + counts.chunks, terms=DocumentRow.terms + counts.terms,
            tokens=DocumentRow.tokens + counts.tokens,
        )
    )  # fmt: skip
    return bool((await session.exec(statement)).rowcount)


async def take_numbers(session: AsyncSession, document_id: int, count: int) -> int | None:
    """Return the first of so many chunk numbers of a document that nobody else gets; None if it is gone."""
    statement = (
        update(DocumentRow)
        .where(col(DocumentRow.id) == document_id, col(DocumentRow.status).in_((PROCESSING, COMPLETED)))
        .values(next_chunk=DocumentRow.next_chunk + count)
        .returning(col(DocumentRow.next_chunk))
    )
    found = (await session.exec(statement)).scalar_one_or_none()
    return None if found is None else int(found) - count


async def list_held_jobs(session: AsyncSession) -> Sequence[tuple[str, int]]:
    """Return id and shard of the jobs, the oldest first, that are held back until scanned pages were read."""
    statement = (
        select(JobRow.id, JobRow.shard)
        .join(DocumentRow, col(DocumentRow.job_id) == JobRow.id)
        .where(DocumentRow.status == PROCESSING, col(JobRow.held), col(JobRow.finished_ms).is_(None))
        .order_by(JobRow.id)
    )
    return (await session.exec(statement)).all()


async def list_names(session: AsyncSession, document_ids: Sequence[int]) -> dict[int, str]:
    """Return the names of documents."""
    statement = select(DocumentRow.id, DocumentRow.name).where(col(DocumentRow.id).in_(document_ids))
    return {one or 0: name for one, name in (await session.exec(statement)).all()}


async def count_items(session: AsyncSession, collection_id: int) -> int:
    """Return how many documents a collection has that can be searched."""
    statement = select(func.count()).select_from(DocumentRow)
    conditions = (DocumentRow.collection_id == collection_id, DocumentRow.status == COMPLETED)
    return (await session.exec(statement.where(*conditions))).one()
