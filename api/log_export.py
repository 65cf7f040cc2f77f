"""The request log as a file: NDJSON, CSV or Parquet, sent while it is read."""

import csv
import io
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import json
from msgspec.structs import replace

from api.call import Call
from shared.request_logs.listing import LOG_PREFIX, ListRequestLogsQuery, RequestLog
from shared.request_logs.listing_queries import list_request_logs

Encode = Callable[[Sequence[RequestLog] | None], bytes]
"""Returns the bytes of a page, and for None those of the end."""
_PAGE: Final = 2000


async def export(
    call: Call, user_id: int | None, query: ListRequestLogsQuery, after: str | None, new_encoder: Callable[[], Encode]
) -> AsyncIterator[bytes]:
    """Yield all rows that match, page by page."""
    encode = new_encoder()
    call.headers["Content-Disposition"] = "attachment; filename=request_logs"
    query = replace(query, limit=_PAGE)
    while True:
        async with call.state.database.read() as session:
            rows = await list_request_logs(session, user_id, query, after, _PAGE)
        if rows:
            yield encode(rows)
            after = rows[-1].id.removeprefix(LOG_PREFIX)
        if len(rows) < _PAGE:
            yield encode(None)
            return


def _ndjson() -> Encode:
    return lambda rows: b"" if rows is None else b"".join(json.encode(row) + b"\n" for row in rows)


def _flat(row: RequestLog) -> dict[str, Any]:
    """Return the row without members of members: `impacts` as two columns, metadata as JSON."""
    members: dict[str, Any] = msgspec.to_builtins(row)
    impacts = members.pop("impacts") or {"kWh": None, "kgCO2eq": None}
    metadata = members.pop("metadata")
    members.pop("object")
    return members | impacts | {"metadata": None if metadata is None else json.encode(metadata).decode()}


_FIELDS: Final = (
    *(name for name in RequestLog.__struct_fields__ if name not in {
        "impacts", "metadata", "object", "request_headers", "request", "response",
    }),
    "kWh", "kgCO2eq", "metadata",
)  # fmt: skip


def _csv() -> Encode:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()

    def encode(rows: Sequence[RequestLog] | None) -> bytes:
        writer.writerows({name: _harmless(value) for name, value in _flat(row).items()} for row in rows or ())
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return text.encode()

    return encode


def _harmless(value: Any) -> Any:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


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
            writer.write_table(arrow.Table.from_pylist([_flat(row) for row in rows], schema=schema))
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
