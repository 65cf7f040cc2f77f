"""Files that a chat names by their ids, read from the store of uploads."""

from typing import Any

from msgspec import Raw, json

from shared.chat.file_parts import IN_BODY, FileContent, file_ids, put_files
from shared.clock import now_ms
from shared.files.queries import find_file
from shared.files.store import FileGoneError, FileStoreError
from worker.context import JobContext
from worker.jobs.upstream import MEMBERS
from worker.providers.base import ProviderError


async def with_files(ctx: JobContext, request: bytes) -> bytes:
    """Return a chat that has the caller's files themselves; raises `ProviderError`."""
    if IN_BODY not in request:
        return request
    members = MEMBERS.decode(request)
    messages = json.decode(members["messages"], type=list[Any])
    ids = set(file_ids(messages))
    if not ids:
        return request
    put_files(messages, {file_id: await _read(ctx, file_id) for file_id in sorted(ids)})
    return json.encode(members | {"messages": Raw(json.encode(messages))})


async def _read(ctx: JobContext, file_id: str) -> FileContent:
    async with ctx.runtime.database.read() as session:
        row = await find_file(session, ctx.message.user_id, file_id)
    if row is None or row.removed_ms is not None or (row.expires_ms is not None and row.expires_ms <= now_ms()):
        raise _gone(file_id)
    try:
        return FileContent(row.filename, await ctx.runtime.uploads.read(row.id))
    except FileGoneError as error:
        raise _gone(file_id) from error
    except FileStoreError as error:
        raise ProviderError(f"The file cannot be read: {error}", blame="sluice", reason="file_store") from error


def _gone(file_id: str) -> ProviderError:
    message = f"The file `{file_id[:100]}` is gone."
    return ProviderError(
        message, blame="request", reason="file_gone", status=410, code="file_gone", param="messages"
    )  # fmt: skip
