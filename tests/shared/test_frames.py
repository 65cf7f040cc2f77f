"""The log of a streamed reply."""

import pytest

from shared.replies.entries import Entry, Kind
from shared.replies.frames import decode_frames, encode_frames


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_the_log_of_a_reply_survives_the_way_into_the_database(count: int) -> None:
    entries = [
        Entry(1, 0, Kind.STARTED),
        *(Entry(1, n, Kind.CHUNK, b"data \x00\xff" + bytes([n % 256])) for n in range(1, count + 1)),
        Entry(2, 0, Kind.RETRY, b"{}"),
    ]

    assert decode_frames(encode_frames(entries)) == entries
