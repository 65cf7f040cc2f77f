"""What decoding bytes from outside raises."""

from typing import Final

from msgspec import DecodeError

UNREADABLE: Final = (DecodeError, UnicodeDecodeError, RecursionError)
"""msgspec lets two errors of Python through: texts that are no UTF-8, and documents that are nested too deeply.

A member that nobody asks for is skipped without being looked at, so a document may be read by one type and not by
another.
"""
