"""Finish what ingestions and deletions have begun whose process died: nothing half remains."""

from typing import Any, Final

import structlog
from msgspec import json
from sqlmodel import col, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.clock import now_ms
from shared.collections.queries import DELETED
from shared.collections.tables import CollectionRow
from shared.documents.queries import FAILED, PROCESSING, REMOVED
from shared.documents.removal import remove_chunks, remove_collection, remove_document
from shared.documents.tables import DocumentRow
from shared.errors import StoredError
from shared.jobs.schemas import COMPLETED, TERMINAL
from shared.jobs.tables import JobRow
from shared.retrieval.sqlite import remove_files
from worker.context import Runtime
from worker.reconciler import Reconciler, alone

log = structlog.get_logger()
_GRACE_MS: Final = 60_000
"""A younger document may still wait for its job."""
_PAGE: Final = 200


async def tend_documents(ctx: dict[str, Any]) -> None:
    """Remove what ingestions and deletions have left behind whose process died: a cron job of the platform lane."""
    reconciler: Reconciler = ctx["reconciler"]
    async with alone(reconciler, "documents") as is_alone:
        if is_alone:
            await sweep_documents(reconciler.runtime)


async def sweep_documents(runtime: Runtime, grace_ms: int = _GRACE_MS) -> None:
    """Fail documents whose job is over or was never made; remove those that failed or were deleted.

    A failed file of a vector store stays listed, without items.
    """
    database, files = runtime.database, runtime.files
    async with database.transaction() as session:
        await _fail_orphans(session, now_ms() - grace_ms)
    async with database.read() as session:
        failed = await _list(session, DocumentRow.status == FAILED, DocumentRow.chunks > 0, DocumentRow.kind == "file")
        gone = await _list(
            session,
            or_(DocumentRow.status == REMOVED, (col(DocumentRow.status) == FAILED) & (col(DocumentRow.kind) != "file")),
        )
        collections = (
            await session.exec(select(CollectionRow.id).where(CollectionRow.surface == DELETED).limit(_PAGE))
        ).all()
    for document_id in failed:
        await remove_chunks(database, document_id)
        async with database.transaction() as session:
            await session.exec(update(DocumentRow).where(col(DocumentRow.id) == document_id).values(chunks=0, terms=0))
    for document_id in gone:
        await remove_document(database, files, document_id)
    for collection_id in collections:
        await remove_collection(database, files, collection_id or 0)
        remove_files(runtime.settings.vectors_path, collection_id or 0)
    if gone or collections:
        log.info("documents_swept", documents=len(gone), collections=len(collections))


async def _list(session: AsyncSession, *conditions: object) -> list[int]:
    statement = select(DocumentRow.id).where(*conditions).limit(_PAGE)  # type: ignore[arg-type]  # expressions
    return [one for one in (await session.exec(statement)).all() if one is not None]


async def _fail_orphans(session: AsyncSession, before_ms: int) -> None:
    """Mark documents as failed that no job fills any more."""
    statement = (
        select(DocumentRow, JobRow.error)
        .join(JobRow, col(JobRow.id) == DocumentRow.job_id, isouter=True)
        .where(
            DocumentRow.status == PROCESSING, DocumentRow.created_ms < before_ms,
            or_(col(JobRow.id).is_(None), col(JobRow.status).in_(TERMINAL - {COMPLETED})),
        )
        .limit(_PAGE)
    )  # fmt: skip
    for document, error in (await session.exec(statement)).all():
        document.status = FAILED
        document.error = json.decode(error, type=StoredError).message if error else "The job was lost."
