"""The request log as a file: NDJSON, CSV or Parquet, sent while it is read."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from msgspec import json

from api.call import Call
from api.log_reads import reading_logs
from shared.request_logs.listing import LOG_PREFIX, RequestLog
from shared.request_logs.listing_queries import Wanted, list_request_logs
from shared.tasks import end_tasks

Encode = Callable[[Sequence[RequestLog] | None], bytes]
"""Returns the bytes of a page, and for None those of the end."""
_PAGE: Final = 2000


async def export(
    call: Call, wanted: Wanted, after: str | None, new_encoder: Callable[[], Encode]
) -> AsyncIterator[bytes]:
    """Yield all rows that match, page by page; the next page is read while this one is encoded and sent."""
    encode = await asyncio.to_thread(new_encoder)  # the first one of a table imports Arrow

    async def read(last: str | None) -> list[RequestLog]:
        async with reading_logs(call) as session:
            return await list_request_logs(session, wanted, last, _PAGE, call.state.settings.secret_members)

    loop = asyncio.get_running_loop()
    reading = loop.create_task(read(after))
    try:
        while rows := await reading:
            is_last = len(rows) < _PAGE
            if not is_last:
                reading = loop.create_task(read(rows[-1].id.removeprefix(LOG_PREFIX)))
                await asyncio.sleep(0)  # so that it begins
            yield encode(rows)
            if is_last:
                break
        yield encode(None)
    finally:
        await end_tasks(reading)


def _ndjson() -> Encode:
    encode_lines = json.Encoder().encode_lines
    return lambda rows: b"" if rows is None else encode_lines(rows)


def _csv() -> Encode:
    from api.log_tables import csv_encoder  # noqa: PLC0415  # Arrow takes time and memory, and few ask for tables

    return csv_encoder()


def _parquet() -> Encode:
    from api.log_tables import parquet_encoder  # noqa: PLC0415  # as above

    return parquet_encoder()


FORMATS: Final[dict[str, Callable[[], Encode]]] = {
    "application/x-ndjson": _ndjson,
    "text/csv": _csv,
    "application/vnd.apache.parquet": _parquet,
}
"""Media type → what makes an encoder of it."""
ENDINGS: Final = {
    "application/x-ndjson": "ndjson", "text/csv": "csv", "application/vnd.apache.parquet": "parquet",
}  # fmt: skip
"""Media type → ending of the name of a file."""
