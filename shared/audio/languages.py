"""Languages of transcriptions: a caller names one in English or by its code, providers know codes.

`languages.json` holds the names with their codes.
"""

from functools import cache
from pathlib import Path

from msgspec import json


@cache
def _codes() -> dict[str, str]:
    names = json.decode((Path(__file__).parent / "languages.json").read_bytes(), type=dict[str, str])
    return {code: code for code in names.values()} | names


def language_code(language: str) -> str | None:
    """Return the code of a language; None if it is not known."""
    return _codes().get(language)
