"""Ids of vector stores, made of their names.  Source: the Vultr contract, section 8."""

import re
import unicodedata
from collections.abc import Container, Iterator
from itertools import count
from typing import Final

_LENGTH: Final = 48
_OTHERS: Final = re.compile(r"[^a-z0-9]+")


def slug_of(name: str) -> str:
    """Return `support-notes` for `Support notes!`."""
    plain = unicodedata.normalize("NFKD", name).lower()
    return _OTHERS.sub("-", plain).strip("-")[:_LENGTH].strip("-") or "collection"


def free_slug(name: str, taken: Container[str]) -> str:
    """Return the slug of a name, with a number if others have it."""
    return next(slug for slug in _candidates(slug_of(name)) if slug not in taken)


def _candidates(slug: str) -> Iterator[str]:
    yield slug
    for number in count(2):
        yield f"{slug}-{number}"
