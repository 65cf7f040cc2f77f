"""Time.  Columns and messages hold Unix milliseconds (`_ms`), the wire Unix seconds."""

import datetime as dt
import time


def now_ms() -> int:
    """Return Unix milliseconds."""
    return time.time_ns() // 1_000_000


def to_seconds(instant_ms: int | None) -> int | None:
    """Return Unix seconds; None stays None."""
    return None if instant_ms is None else instant_ms // 1000


def to_datetime(instant_ms: int) -> dt.datetime:
    """Return the instant as an aware UTC datetime."""
    return dt.datetime.fromtimestamp(instant_ms / 1000, dt.UTC)


def to_iso(instant_ms: int) -> str:
    """Return `2026-01-01T12:00:00Z`."""
    return to_datetime(instant_ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def month_start_ms(instant_ms: int, *, months_back: int = 0) -> int:
    """Return the first instant of the UTC month, `months_back` months earlier."""
    moment = to_datetime(instant_ms)
    index = moment.year * 12 + moment.month - 1 - months_back
    start = dt.datetime(index // 12, index % 12 + 1, 1, tzinfo=dt.UTC)
    return int(start.timestamp() * 1000)
