"""What of a request may be stored."""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import json

from shared.unreadable import UNREADABLE

FULL: Final = "full"
METADATA: Final = "metadata"
NOTHING: Final = "none"
_BY_STRICTNESS: Final = (FULL, METADATA, NOTHING)

_SECRET_NAMES: Final = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie"})
_SALT: Final = b'"cache_salt"'
"""Keeps the caches of engines apart; who knows it could look into them."""
_SECRET_ENDS: Final = ("-key", "-token", "-secret")


def strictest(*policies: str) -> str:
    """Return the content policy that shows least."""
    return max(policies, key=_BY_STRICTNESS.index)


def policy_of(noted: str | None, organization_id: int | None, *, has_headers: bool) -> str:
    """Return the content policy under which a request came in.

    Nobody knows whether bodies might be shown of one that came in before it was noted; `none` left no headers.
    """
    if noted is not None:
        return noted
    if organization_id is None:
        return FULL
    return METADATA if has_headers else NOTHING


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


def redact_body(body: bytes, names: frozenset[str]) -> bytes:
    """Return a JSON body with the values of these members and of `cache_salt`, at whatever depth, replaced by `***`.

    What cannot be read, because it is no JSON or was cut, is left out as a whole if there are such names.
    """
    if _SALT in body:
        names = names | {"cache_salt"}
    if not names or not body:
        return body
    try:
        return json.encode(_redacted(json.decode(body), names))
    except UNREADABLE:
        return b"***"


def redact_metadata(metadata: dict[str, str], names: frozenset[str]) -> dict[str, str]:
    """Return metadata with the values of these keys replaced by `***`."""
    return {key: "***" if key in names else value for key, value in metadata.items()}


def _redacted(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {name: "***" if name in names else _redacted(member, names) for name, member in value.items()}
    return [_redacted(member, names) for member in value] if isinstance(value, list) else value
