"""Texts in files that spreadsheets open."""

from typing import Final

_FORMULA: Final = frozenset("=+-@\t\r")


def harmless(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in _FORMULA else text
