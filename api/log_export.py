"""The request log as a file: NDJSON, CSV or Parquet, sent while it is read."""

import asyncio
import csv
import io
import operator
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from msgspec import json
from msgspec.structs import replace

from api.call import Call
from api.spreadsheets import harmless
from shared.request_logs.listing import LOG_PREFIX, ListRequestLogsQuery, RequestLog
from shared.request_logs.listing_queries import list_request_logs
from shared.tasks import end_tasks

Encode = Callable[[Sequence[RequestLog] | None], bytes]
"""Returns the bytes of a page, and for None those of the end."""
_PAGE: Final = 2000


async def export(
    call: Call, user_id: int | None, query: ListRequestLogsQuery, after: str | None, new_encoder: Callable[[], Encode]
) -> AsyncIterator[bytes]:
    """Yield all rows that match, page by page; the next page is read while this one is encoded and sent."""
    encode = new_encoder()
    call.headers["Content-Disposition"] = "attachment; filename=request_logs"
    query = replace(query, limit=_PAGE)

    async def read(last: str | None) -> list[RequestLog]:
        async with call.state.database.read() as session:
            return await list_request_logs(session, user_id, query, last, _PAGE)

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


_FIELDS: Final = (
    *(name for name in RequestLog.__struct_fields__ if name not in {
        "impacts", "metadata", "object", "request_headers", "request", "response",
    }),
    "kWh", "kgCO2eq", "metadata",
)  # fmt: skip
_PLAIN: Final = operator.attrgetter(*_FIELDS[:-3])


def _flat(row: RequestLog) -> tuple[Any, ...]:
    """Return the values of `_FIELDS`: `impacts` are two of them, metadata is JSON."""
    impacts, metadata = row.impacts, row.metadata
    kwh, kg = (None, None) if impacts is None else (impacts.kWh, impacts.kgCO2eq)
    return *_PLAIN(row), kwh, kg, None if metadata is None else json.encode(metadata).decode()


def _csv() -> Encode:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_FIELDS)

    def encode(rows: Sequence[RequestLog] | None) -> bytes:
        writer.writerows(map(_harmless, rows or ()))
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return text.encode()

    return encode


def _harmless(row: RequestLog) -> list[Any]:
    """Return the values of a row with texts of callers and providers that no spreadsheet takes for a formula."""
    values = list(_flat(row))
    for place in _FOREIGN:
        text = values[place]
        if text:
            values[place] = harmless(text)
    return values


_FOREIGN: Final = tuple(map(_FIELDS.index, (
    "request_id", "method", "endpoint", "model", "provider_model", "client_address", "user_agent", "error_code",
    "trace_id",
)))  # fmt: skip


def _parquet() -> Encode:
    import pyarrow as arrow  # type: ignore[import-untyped]  # noqa: PLC0415  # slow to import, and needed here only
    from pyarrow import parquet  # noqa: PLC0415

    schema = arrow.schema([(name, _arrow_type(arrow, name)) for name in _FIELDS])
    sink = _Pipe()
    writer = parquet.ParquetWriter(sink, schema)

    def encode(rows: Sequence[RequestLog] | None) -> bytes:
        if rows is None:
            writer.close()
        else:
            columns = zip(*map(_flat, rows), strict=True)
            arrays = [arrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
        return sink.take()

    return encode


class _Pipe(io.RawIOBase):
    """A file that keeps only what has not been taken yet."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._taken = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Append."""
        self._written += data
        return len(data)

    def tell(self) -> int:
        """Return how much was written so far."""
        return self._taken + len(self._written)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        piece = bytes(self._written)
        self._taken += len(piece)
        self._written.clear()
        return piece


def _arrow_type(arrow: Any, name: str) -> Any:
    if name in ("cost", "kWh", "kgCO2eq"):
        return arrow.float64()
    if name == "streamed":
        return arrow.bool_()
    return arrow.int64() if name in _INTEGERS else arrow.string()


_INTEGERS: Final = frozenset((
    "created_at", "attempt", "http_status", "provider_id", "key_id", "user_id", "organization_id", "queue_ms",
    "ttft_ms",    "latency_ms", "prompt_tokens", "completion_tokens", "retry_count",
))  # fmt: skip

FORMATS: Final[dict[str, Callable[[], Encode]]] = {
    "application/x-ndjson": _ndjson,
    "text/csv": _csv,
    "application/vnd.apache.parquet": _parquet,
}
"""Media type → what makes an encoder of it."""
