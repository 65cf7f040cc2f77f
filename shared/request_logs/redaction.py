"""What of a request may be stored."""

from collections.abc import Iterable
from typing import Final

from msgspec import json

_SECRET_NAMES: Final = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie"})
_SECRET_ENDS: Final = ("-key", "-token", "-secret")


def clean(text: str) -> str:
    """Return the value of a header as text that can be stored: bytes that are not UTF-8 become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def redact_headers(headers: Iterable[tuple[str, str]]) -> str:
    """Return the headers as a JSON object, with the values of secret ones replaced by `***`."""
    shown = {}
    for name, value in headers:
        lower = name.lower()
        shown[lower] = "***" if lower in _SECRET_NAMES or lower.endswith(_SECRET_ENDS) else clean(value)
    return json.encode(shown).decode()
