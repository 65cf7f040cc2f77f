"""Remove files that belong to no job: their request was refused, or the process died in between."""

from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlmodel import col, select

from shared.files.store import FileStoreError
from shared.jobs.tables import JobRow
from worker.context import Runtime

log = structlog.get_logger()
_GRACE: Final = timedelta(hours=1)
"""Longer than any upload takes to become a job."""


async def sweep_files(runtime: Runtime) -> None:
    """Remove files older than an hour whose job was never accepted, or whose request is removed already."""
    removed = 0
    try:
        async for job_ids in runtime.files.older_than(datetime.now(UTC) - _GRACE):
            async with runtime.database.read() as session:
                kept = select(JobRow.id).where(col(JobRow.id).in_(job_ids), col(JobRow.removed_ms).is_(None))
                known = set((await session.exec(kept)).all())
            orphans = [job_id for job_id in job_ids if job_id not in known]
            await runtime.files.delete(orphans)
            removed += len(orphans)
    except FileStoreError as error:
        log.warning("files_not_swept", error=repr(error))
    if removed:
        log.info("orphaned_files_removed", count=removed)
