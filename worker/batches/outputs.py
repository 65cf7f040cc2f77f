"""The files of a batch: one line per item, in the order of the input, each in exactly one of the two."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from msgspec import Struct, json

from shared.batches.items import item_span
from shared.batches.lines import result_line
from shared.batches.queries import list_results
from shared.batches.schemas import BATCH_PREFIX
from shared.batches.tables import BatchRow
from shared.clock import now_ms
from shared.files.schemas import OUTPUT_PURPOSE
from shared.files.tables import FileRow
from shared.ids import new_ulid
from shared.jobs.schemas import CANCELLED, COMPLETED, EXPIRED, FAILED, INCOMPLETE
from worker.context import Runtime

_PAGE: Final = 200
_SUCCEEDED: Final = (COMPLETED, INCOMPLETE)
_UNSUCCESSFUL: Final = (FAILED, CANCELLED, EXPIRED)


class _Origin(Struct):
    """What is read of `api.submission.Origin`."""

    content_policy: str | None = None


class Files(Struct, frozen=True, kw_only=True):
    """What was written; None if there is no such line."""

    output: FileRow | None
    error: FileRow | None


async def write_files(runtime: Runtime, batch: BatchRow) -> Files:
    """Write both files, anew if they are there; raises `FileStoreError`."""
    return Files(
        output=await _write(runtime, batch, batch.output_file_id, "output", _SUCCEEDED),
        error=await _write(runtime, batch, batch.error_file_id, "error", _UNSUCCESSFUL),
    )


async def _write(
    runtime: Runtime, batch: BatchRow, file_id: str | None, name: str, statuses: Sequence[str]
) -> FileRow | None:
    file_id = file_id or new_ulid()
    size, count, digest = 0, 0, hashlib.sha256()

    async def counted() -> AsyncIterator[bytes]:
        nonlocal size, count
        async for lines in _lines(runtime, batch, statuses):
            piece = b"".join(line + b"\n" for line in lines)
            size, count = size + len(piece), count + len(lines)
            digest.update(piece)
            yield piece

    await runtime.uploads.write(file_id, counted())
    if not count:
        await runtime.uploads.delete([file_id])
        return None
    now = now_ms()
    origin = json.decode(batch.origin or "{}", type=_Origin)
    return FileRow(
        id=file_id, user_id=batch.user_id, organization_id=batch.organization_id, content_policy=origin.content_policy,
        filename=f"{BATCH_PREFIX}{batch.id}_{name}.jsonl", purpose=OUTPUT_PURPOSE, size_bytes=size,
        sha256=digest.hexdigest(), lines=count, created_ms=now, expires_ms=now + batch.output_ttl_s * 1000,
    )  # fmt: skip


async def _lines(runtime: Runtime, batch: BatchRow, statuses: Sequence[str]) -> AsyncIterator[list[bytes]]:
    after, expired = item_span(batch.id)[0], batch.expired_ms is not None
    while True:
        async with runtime.database.read() as session:
            page = await list_results(session, batch.id, after, _PAGE, statuses)
        if not page:
            return
        yield [json.encode(result_line(row, body, batch_expired=expired)) for row, body in page]
        after = page[-1][0].id
