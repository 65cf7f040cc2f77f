"""A caller's own files, and what his calls see of them."""

from collections.abc import Sequence
from typing import Any

from api.call import Call, Draft
from api.shown import check_shown, keep_policy
from shared.chat.file_parts import file_ids
from shared.clock import now_ms, to_iso, to_seconds
from shared.errors import BodyTooLargeError
from shared.files.errors import UploadGoneError, UploadNotFoundError
from shared.files.queries import find_file
from shared.files.schemas import FILE_PREFIX, File, FileTombstone
from shared.files.tables import FileRow


async def find_own_file(call: Call, file_id: str) -> FileRow:
    """Return the caller's file; raises `UploadNotFoundError`, or `UploadGoneError` if it is a tombstone."""
    async with call.state.database.read() as session:
        row = await find_file(session, None if call.caller.is_admin else call.caller.user_id, file_id)
    return _usable(row, file_id)


async def find_readable_file(call: Call, file_id: str) -> FileRow:
    """Return a file whose bytes the caller may see; raises also `PermissionDeniedError`."""
    row = await find_own_file(call, file_id)
    await check_shown(call, row, row.content_policy)
    return row


async def check_named_files(draft: Draft, messages: Sequence[Any]) -> int:
    """Return how many bytes the files have that a chat names, which must be its caller's, and not too large together.

    Raises `UploadNotFoundError`, `UploadGoneError`, `BodyTooLargeError`.
    """
    async with draft.state.database.read() as session:
        named = {one: await find_file(session, draft.caller.user_id, one) for one in file_ids(messages)}
    most, size_bytes = draft.state.settings.max_body_bytes, 0
    for file_id, row in named.items():
        usable = _usable(row, file_id)
        keep_policy(draft, usable)
        size_bytes += usable.size_bytes
    if size_bytes > most:
        raise BodyTooLargeError(f"The files of a chat have at most {most} bytes together.")
    return size_bytes


def _usable(row: FileRow | None, file_id: str) -> FileRow:
    if row is None:
        raise UploadNotFoundError(file_id)
    if row.removed_ms is not None or (row.expires_ms is not None and row.expires_ms <= now_ms()):
        raise _gone(row)
    return row


def to_file(row: FileRow) -> File:
    """Return the wire form of a file."""
    return File(
        id=FILE_PREFIX + row.id,
        bytes=row.size_bytes,
        created_at=row.created_ms // 1000,
        expires_at=to_seconds(row.expires_ms),
        filename=row.filename,
        purpose=row.purpose,
        status=row.status,  # type: ignore[arg-type]  # a column
        status_details=row.status_details,
    )


def _gone(row: FileRow) -> UploadGoneError:
    removed_ms = row.removed_ms or row.expires_ms or 0
    tombstone = FileTombstone(
        id=FILE_PREFIX + row.id, filename=row.filename, purpose=row.purpose, created_at=row.created_ms // 1000,
        removed_at=removed_ms // 1000, reason=row.removed_reason or "expired",
    )  # fmt: skip
    message = f"{FILE_PREFIX}{row.id} was removed on {to_iso(removed_ms)[:10]}."
    return UploadGoneError(message, tombstone=tombstone)
