"""The file of a job, for its attempts."""

from shared.files.store import FileGoneError, FileStoreError
from worker.context import JobContext
from worker.providers.base import ProviderError


async def read_file(ctx: JobContext) -> bytes:
    """Return the file of the job; raises `ProviderError`."""
    try:
        return await ctx.runtime.files.read(ctx.message.job_id)
    except FileGoneError as error:
        raise ProviderError(
            "The file of this request is gone.", blame="request", reason="file_gone", status=410, code="file_gone"
        ) from error
    except FileStoreError as error:
        raise ProviderError(f"The file cannot be read: {error}", reason="file_store") from error
