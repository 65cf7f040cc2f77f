"""What was searched for a chat before its job was made: kept in the job's request, shown in its answer.

The member is ours: providers do not get it.
"""

from typing import Any, Final

from msgspec import Raw, Struct, json

from shared.unreadable import UNREADABLE
from shared.usage.schemas import Usage

MEMBER: Final = "sluice_retrieval"
_NAME: Final = f'"{MEMBER}"'.encode()
_MEMBERS: Final = json.Decoder(dict[str, Raw])


class Retrieved(Struct, kw_only=True, omit_defaults=True):
    """Found passages, in the form of the surface that asked."""

    search_results: list[Any] = []
    """Of the search tool."""
    usage: Usage | None = None
    """Of the search, to be added to that of the answer."""
    retrieval: dict[str, Any] | None = None
    """Of `/v1/chat/completions/RAG`."""
    web: str | None = None
    """Of a search of the web."""


def retrieved_of(request: bytes) -> Retrieved | None:
    """Return what was searched for a chat; None if nothing was."""
    if _NAME not in request:
        return None
    try:
        return json.decode(_MEMBERS.decode(request)[MEMBER], type=Retrieved)
    except (*UNREADABLE, KeyError):  # a caller's own member of this name
        return None


def with_retrieved(members: dict[str, Any], retrieved: Retrieved) -> bytes:
    """Return a request that keeps what was searched."""
    return json.encode(members | {MEMBER: retrieved})
