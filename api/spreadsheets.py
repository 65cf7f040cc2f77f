"""Texts in files that spreadsheets open."""

import re
from typing import Final

FORMULA: Final = r"\A[=+@\t\r-]"
"""What begins a formula, for Python's and for Arrow's regular expressions."""
_STARTS = re.compile(FORMULA)


def harmless(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if _STARTS.match(text) else text
