"""What the items of a vector store are called.  Source: the Vultr contract, section 8."""

from typing import Final

_LENGTH: Final = 100
_LONGEST: Final = 255


def describe_text(description: str, text: str) -> str:
    """Return the description that was given, or else the beginning of the text, cut at a word."""
    if description:
        return description
    short = " ".join(text.split())
    if len(short) <= _LENGTH:
        return short
    head, space, _ = short[: _LENGTH + 1].rpartition(" ")
    return (head if space else short[:_LENGTH]) + "…"


def describe_chunk(file_name: str, index: int, total: int) -> str:
    """Return `policy.pdf [3/7]`."""
    place = f" [{index + 1}/{total}]"
    return file_name[: _LONGEST - len(place)] + place
