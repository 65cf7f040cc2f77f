"""About how many tokens a request for a response has, at a cost that every request can bear."""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import json

from shared.responses.schemas import ResponseRequest

_CHARACTERS_PER_TOKEN: Final = 4
_PER_ITEM: Final = 4
_PER_PICTURE: Final = 256
"""Or file; its bytes say nothing."""


def estimate_prompt(request: ResponseRequest, items: Iterable[dict[str, Any]]) -> int:
    """Return about how many prompt tokens these items have, with the instructions and tools of the request."""
    tokens, characters = 0, len(request.instructions or "")
    for item in items:
        tokens += _PER_ITEM
        for name in ("content", "output", "arguments"):
            value = item.get(name)
            if isinstance(value, str):
                characters += len(value)
            for part in value if isinstance(value, list) else ():
                text = part.get("text") or part.get("refusal")
                characters += len(text or "")
                tokens += 0 if text is not None else _PER_PICTURE
    if request.tools:
        characters += len(json.encode(request.tools))
    return tokens + characters // _CHARACTERS_PER_TOKEN
