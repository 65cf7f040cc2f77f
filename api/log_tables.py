"""The request log as tables of Arrow, for CSV and Parquet."""

import io
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import pyarrow as arrow  # type: ignore[import-untyped]
from msgspec import json
from pyarrow import compute, csv, parquet

from api.spreadsheets import FORMULA
from shared.request_logs.listing import RequestLog

Encode = Callable[[Sequence[RequestLog] | None], bytes]

_FIELDS: Final = (
    *(name for name in RequestLog.__struct_fields__ if name not in {
        "impacts", "metadata", "object", "request_headers", "request", "response",
        "key_name", "user_email", "organization_name",
    }),
    "kWh", "kgCO2eq", "metadata",
)  # fmt: skip
_PLAIN: Final = operator.attrgetter(*_FIELDS[:-3])
_FOREIGN: Final = (
    "request_id", "method", "endpoint", "model", "provider_model", "client_address", "user_agent", "error_code",
    "trace_id",
)  # fmt: skip
"""What callers and providers choose."""


def _flat(row: RequestLog) -> tuple[Any, ...]:
    """Return the values of `_FIELDS`: `impacts` are two of them, metadata is JSON."""
    impacts, metadata = row.impacts, row.metadata
    kwh, kg = (None, None) if impacts is None else (impacts.kWh, impacts.kgCO2eq)
    return *_PLAIN(row), kwh, kg, None if metadata is None else json.encode(metadata).decode()


def _to_table(rows: Sequence[RequestLog]) -> Any:
    columns = zip(*map(_flat, rows), strict=True) if rows else [()] * len(_FIELDS)
    return arrow.table(
        {name: arrow.array(values, _arrow_type(name)) for name, values in zip(_FIELDS, columns, strict=True)}
    )


def csv_encoder() -> Encode:
    """Return an encoder whose texts no spreadsheet takes for formulas."""
    return _encoder(csv.CSVWriter, _harmless)


def parquet_encoder() -> Encode:
    """Return an encoder that makes each page a row group."""
    return _encoder(parquet.ParquetWriter, lambda table: table)


def _encoder(new_writer: Callable[[Any, Any], Any], change: Callable[[Any], Any]) -> Encode:
    sink = _Pipe()
    writer = new_writer(sink, _to_table(()).schema)

    def encode(rows: Sequence[RequestLog] | None) -> bytes:
        if rows is None:
            writer.close()
        else:
            writer.write_table(change(_to_table(rows)))
        return sink.take()

    return encode


def _harmless(table: Any) -> Any:
    for name in _FOREIGN:
        texts = table[name]
        quoted = compute.binary_join_element_wise("'", texts, "")
        shown = compute.if_else(compute.match_substring_regex(texts, FORMULA), quoted, texts)
        table = table.set_column(_FIELDS.index(name), name, shown)
    return table


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


def _arrow_type(name: str) -> Any:
    if name in ("cost", "kWh", "kgCO2eq"):
        return arrow.float64()
    if name == "streamed":
        return arrow.bool_()
    return arrow.int64() if name in _INTEGERS else arrow.string()


_INTEGERS: Final = frozenset((
    "created_at", "attempt", "http_status", "provider_id", "key_id", "user_id", "organization_id", "queue_ms",
    "ttft_ms",    "latency_ms", "prompt_tokens", "completion_tokens", "retry_count",
))  # fmt: skip
