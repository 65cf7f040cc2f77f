"""The file of a job, for its attempts."""

from collections.abc import AsyncIterator

from shared.files.store import FileGoneError, FileStoreError, StoredFile
from worker.context import JobContext
from worker.providers.base import ProviderError, ProviderFile


async def open_file(ctx: JobContext) -> ProviderFile:
    """Return the file of the job, to be sent piece by piece; raises `ProviderError`."""
    try:
        stored = await ctx.runtime.files.open(ctx.message.job_id)
    except FileGoneError as error:
        raise ProviderError(
            "The file of this request is gone.", blame="request", reason="file_gone", status=410, code="file_gone"
        ) from error
    except FileStoreError as error:
        raise _unreadable(error) from error
    return ProviderFile(size_bytes=stored.size_bytes, chunks=_chunks_of(stored))


async def read_file(ctx: JobContext) -> bytes:
    """Return the file of the job as a whole; raises `ProviderError`."""
    return b"".join([chunk async for chunk in (await open_file(ctx)).chunks])


async def _chunks_of(stored: StoredFile) -> AsyncIterator[bytes]:
    try:
        async for chunk in stored.chunks:
            yield chunk
    except FileStoreError as error:
        raise _unreadable(error) from error


def _unreadable(error: FileStoreError) -> ProviderError:
    return ProviderError(f"The file cannot be read: {error}", blame="sluice", reason="file_store")
