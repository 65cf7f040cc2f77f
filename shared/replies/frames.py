"""The log of a streamed reply as the database keeps it: its entries without the END, compressed if that pays."""

import zlib

from msgspec import msgpack

from shared.replies.entries import Entry, decode_entries

_COMPRESS_FROM_BYTES = 2048
_PLAIN, _ZLIB = b"\x00", b"\x01"


def encode_frames(entries: list[Entry]) -> bytes:
    """Return the log."""
    data = msgpack.encode(entries)
    if len(data) < _COMPRESS_FROM_BYTES:
        return _PLAIN + data
    return _ZLIB + zlib.compress(data, 1)


def decode_frames(data: bytes) -> list[Entry]:
    """Return the entries of a log."""
    return decode_entries(zlib.decompress(data[1:]) if data[:1] == _ZLIB else data[1:])
