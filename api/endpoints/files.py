"""/v1/files: upload, list, get, read, delete."""

import re
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

from api.call import Call
from api.http import ByteStream, Routes
from api.once import keep_answer
from api.own_files import find_own_file, find_readable_file, to_file
from shared.batches.queries import find_batch_reading
from shared.batches.schemas import BATCH_PREFIX
from shared.clock import now_ms
from shared.errors import ApiError, InvalidCursorError, StorageUnavailableError
from shared.files.errors import FileInUseError, UploadGoneError, UploadNotFoundError
from shared.files.queries import list_files as query_files
from shared.files.queries import remove_files
from shared.files.schemas import (
    BATCH_PURPOSE,
    FILE_PREFIX,
    BatchFileTooLargeError,
    CreateFileForm,
    EmptyFileError,
    File,
    FileDeleted,
    FilePage,
    ListFilesQuery,
)
from shared.files.store import FileGoneError, FileStoreError
from shared.files.tables import FileRow
from shared.ids import parse_id
from shared.lists import cursor_page

routes = Routes("Files")
OCTETS: Final = "application/octet-stream"
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class RangeNotSatisfiableError(ApiError):
    """The range begins behind the end of the file."""

    status, type, code = 416, "invalid_request_error", "range_not_satisfiable"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The file has {size_bytes} bytes.", headers={"Content-Range": f"bytes */{size_bytes}"})


@routes.post("/v1/files", raises=(EmptyFileError, BatchFileTooLargeError))
async def create_file(call: Call, form: CreateFileForm) -> File:
    """Upload a file of at most 512 MB; one with the purpose `batch` has at most 200 MB and is kept for 30 days."""
    form.check()
    now, file = now_ms(), form.file
    row = FileRow(
        id=call.upload_id or "",
        user_id=call.caller.user_id,
        organization_id=call.caller.organization_id,
        content_policy=call.caller.content_policy,
        filename=file.name,
        purpose=form.purpose,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        lines=file.lines + 1,
        status="uploaded" if form.purpose == BATCH_PURPOSE else "processed",
        created_ms=now,
        expires_ms=None if form.ttl_s is None else now + form.ttl_s * 1000,
    )
    async with call.state.database.transaction() as session:
        session.add(row)
        uploaded = await keep_answer(session, call, to_file(row))
        call.upload_id = None  # from here on nobody can tell whether it is stored but the database
    return uploaded


@routes.get("/v1/files", raises=(InvalidCursorError,))
async def list_files(call: Call, query: ListFilesQuery) -> FilePage:
    """List the caller's files, newest first."""
    after = None
    if query.after is not None and (after := parse_id(query.after, FILE_PREFIX)) is None:
        raise InvalidCursorError(f"`{query.after}` is not the id of a file.", param="after")
    async with call.state.database.read() as session:
        rows, has_more = await query_files(session, call.caller.user_id, query, after, now_ms())
    data = [to_file(row) for row in rows]
    return cursor_page(data, has_more=has_more)


@routes.get("/v1/files/{file_id}", raises=(UploadNotFoundError, UploadGoneError))
async def get_file(call: Call, file_id: str) -> File:
    """Get what is known of a file."""
    return to_file(await find_own_file(call, file_id))


@routes.get(
    "/v1/files/{file_id}/content",
    raises=(UploadNotFoundError, UploadGoneError, RangeNotSatisfiableError, StorageUnavailableError),
    media_type=OCTETS,
)
async def get_file_content(call: Call, file_id: str) -> ByteStream:
    """Read a file; `Range: bytes=a-b` gives a part of it."""
    row = await find_readable_file(call, file_id)
    name = quote(row.filename, safe="")
    call.headers |= {
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}", "ETag": f'"{row.id}"', "Accept-Ranges": "bytes"
    }  # fmt: skip
    start, end = _span(call.request.headers.get("Range"), row.size_bytes)
    is_part = (start, end) != (0, row.size_bytes)
    if is_part:
        call.headers["Content-Range"] = f"bytes {start}-{end - 1}/{row.size_bytes}"
    call.headers["Content-Length"] = str(end - start)
    return ByteStream(pieces=_pieces(call, row, start, end), content_type=OCTETS, status=206 if is_part else 200)


def _span(header: str | None, size: int) -> tuple[int, int]:
    """Return the first byte that is asked for and the one behind the last; what is not one range is ignored."""
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return 0, size
    if not match[1]:
        start, end = max(size - int(match[2]), 0), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
    if start >= size:
        raise RangeNotSatisfiableError(size)
    return (start, end) if start < end else (0, size)


async def _pieces(call: Call, row: FileRow, start: int, end: int) -> AsyncIterator[bytes]:
    try:
        async for piece in (await call.state.uploads.open(row.id, start, end)).chunks:
            yield piece
    except (FileGoneError, FileStoreError) as error:
        raise StorageUnavailableError from error


@routes.delete("/v1/files/{file_id}", raises=(UploadNotFoundError, UploadGoneError, FileInUseError))
async def delete_file(call: Call, file_id: str) -> FileDeleted:
    """Delete a file; a batch whose lines were read does not need its input any more."""
    row = await find_own_file(call, file_id)
    async with call.state.database.transaction() as session:
        batch_id = await find_batch_reading(session, row.id)
        if batch_id is not None:
            raise FileInUseError(BATCH_PREFIX + batch_id)
        await remove_files(session, [row.id], now_ms(), "deleted")
    await call.state.uploads.delete([row.id])
    return FileDeleted(id=FILE_PREFIX + row.id, deleted=True)
