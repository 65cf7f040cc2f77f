"""Inputs of batches that did not come as a file: inline requests, and the lines of another batch. They become one."""

import hashlib
from collections.abc import AsyncIterator

from api.call import Call
from shared.clock import now_ms
from shared.errors import StorageUnavailableError
from shared.files.schemas import BATCH_FILE_TTL_S, BATCH_PURPOSE
from shared.files.store import FileStoreError
from shared.files.tables import FileRow
from shared.ids import new_ulid


async def store_input(call: Call, filename: str, lines: AsyncIterator[bytes]) -> FileRow:
    """Store the lines and return the row of the file, which the caller inserts; until then it is an upload of the call.

    Raises `StorageUnavailableError`.
    """
    size, count, digest = 0, 0, hashlib.sha256()

    async def counted() -> AsyncIterator[bytes]:
        nonlocal size, count
        async for line in lines:
            text = line + b"\n"
            size, count = size + len(text), count + 1
            digest.update(text)
            yield text

    call.upload_id = new_ulid()
    try:
        await call.state.uploads.write(call.upload_id, counted())
    except FileStoreError as error:
        raise StorageUnavailableError from error
    now = now_ms()
    return FileRow(
        id=call.upload_id,
        user_id=call.caller.user_id,
        organization_id=call.caller.organization_id,
        content_policy=call.caller.content_policy,
        filename=filename,
        purpose=BATCH_PURPOSE,
        size_bytes=size,
        sha256=digest.hexdigest(),
        lines=count,
        status="uploaded",
        created_ms=now,
        expires_ms=now + BATCH_FILE_TTL_S * 1000,
    )
