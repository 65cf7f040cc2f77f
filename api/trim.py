"""Texts whose surrounding white space does not count."""

from shared.errors import InvalidFieldError


def trimmed(text: str, *loc: str) -> str:
    """Return the text without surrounding white space; raises `InvalidFieldError` if nothing is left."""
    short = text.strip()
    if not short:
        raise InvalidFieldError(["body", *loc], "Expected `str` of length >= 1")
    if "\x00" in short:
        raise InvalidFieldError(["body", *loc], "NUL characters are not allowed")
    return short
