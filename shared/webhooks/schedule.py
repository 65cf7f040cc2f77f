"""When a failed delivery is tried again, and when an endpoint is left alone."""

import datetime as dt
import math
import random
from email.utils import parsedate_to_datetime
from typing import Final

from msgspec import Struct

DELAYS_S: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""After the first try, the second, .."""
MOST_TRIES: Final = len(DELAYS_S) + 1
_JITTER: Final = 0.1
_LONGEST_S: Final = 86_400
_STREAK: Final = 5
_WINDOW: Final = 20
_FIRST_PAUSE_S: Final = 60
_LONGEST_PAUSE_S: Final = 900
_HOPELESS_MS: Final = 5 * 86_400_000


def next_delay_s(tries: int, retry_after_s: float | None = None) -> float | None:
    """Return the seconds until the next try after so many; None if that was the last one.

    `retry_after_s` is what the receiver asks for, at least; a day is the most it gets.
    """
    if tries >= MOST_TRIES:
        return None
    delay_s = DELAYS_S[tries - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  # spreads load
    return max(delay_s, min(retry_after_s or 0.0, _LONGEST_S))


def parse_retry_after(text: str | None) -> float | None:
    """Return the seconds of a `Retry-After`, a number or a date; None if it is neither."""
    if text is None:
        return None
    try:
        seconds = float(text)
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
    return max((moment - dt.datetime.now(dt.UTC)).total_seconds(), 0.0)


class Failing(Struct, frozen=True):
    """What is known of an endpoint after a failed try; columns of `webhook_endpoints`."""

    streak: int
    recent: int
    recent_count: int
    failing_since_ms: int
    pause_s: int
    open_until_ms: int | None


def next_pause_s(found: Failing, now_ms: int) -> int | None:
    """Return how long the breaker pauses now; None if it stays as it is."""
    if found.pause_s:
        has_probed = found.open_until_ms is None or found.open_until_ms <= now_ms
        return min(found.pause_s * 2, _LONGEST_PAUSE_S) if has_probed else None
    is_half = found.recent_count >= _WINDOW and found.recent.bit_count() * 2 >= _WINDOW
    return _FIRST_PAUSE_S if found.streak >= _STREAK or is_half else None


def is_hopeless(found: Failing, now_ms: int) -> bool:
    """Return whether there was nothing but failures for five days."""
    return now_ms - found.failing_since_ms >= _HOPELESS_MS
