"""How long a receiver of webhooks wants to be left alone."""

import datetime as dt
from email.utils import format_datetime

import pytest

from shared.webhooks.schedule import parse_retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None), ("", None), ("soon", None), ("-5", 0.0), ("120", 120.0), ("1.5", 1.5),
        ("nan", None), ("1e999", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2026 07:28:00 +99999999999999", None),
    ],
)  # fmt: skip
def test_a_wish_is_read_or_ignored(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text) == seconds


def test_a_wish_may_be_a_date() -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)

    assert 3500 < (parse_retry_after(format_datetime(later)) or 0) <= 3600
