"""Remove files that belong to nothing: their request was refused, or the process died in between."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlmodel import col, select

from shared.files.store import FileStore, FileStoreError
from shared.files.tables import FileRow
from shared.jobs.tables import JobRow
from worker.context import Runtime

log = structlog.get_logger()
_GRACE: Final = timedelta(hours=1)
"""Longer than any upload takes to become a job or a file, and any batch to write its files."""


async def sweep_files(runtime: Runtime) -> None:
    """Remove files whose job was never accepted, or whose request is removed already."""

    async def known(ids: list[str]) -> set[str]:
        async with runtime.database.read() as session:
            kept = select(JobRow.id).where(col(JobRow.id).in_(ids), col(JobRow.removed_ms).is_(None))
            return set((await session.exec(kept)).all())

    await _sweep(runtime.files, known)


async def sweep_uploads(runtime: Runtime) -> None:
    """Remove files of /v1/files that have no row, or whose row is a tombstone."""

    async def known(ids: list[str]) -> set[str]:
        async with runtime.database.read() as session:
            kept = select(FileRow.id).where(col(FileRow.id).in_(ids), col(FileRow.removed_ms).is_(None))
            return set((await session.exec(kept)).all())

    await _sweep(runtime.uploads, known)


async def _sweep(store: FileStore, known: Callable[[list[str]], Awaitable[set[str]]]) -> None:
    """Remove files older than an hour that nobody knows."""
    removed = 0
    try:
        async for ids in store.older_than(datetime.now(UTC) - _GRACE):
            kept = await known(ids)
            orphans = [file_id for file_id in ids if file_id not in kept]
            await store.delete(orphans)
            removed += len(orphans)
    except FileStoreError as error:
        log.warning("files_not_swept", error=repr(error))
    if removed:
        log.info("orphaned_files_removed", count=removed)
