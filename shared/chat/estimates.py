"""About how many tokens a request has, at a cost that every request can bear; the provider's number replaces it."""

from collections.abc import Sequence
from typing import Final

from msgspec import json

from shared.chat.schemas import ChatCompletionRequest, Message

_CHARACTERS_PER_TOKEN: Final = 4
_PER_MESSAGE: Final = 4
_PER_PICTURE: Final = 256
"""Or sound, or file; its bytes say nothing."""


def estimate_prompt(request: ChatCompletionRequest, messages: Sequence[Message]) -> int:
    """Return about how many prompt tokens a chat has."""
    tokens = characters = 0
    for message in messages:
        tokens += _PER_MESSAGE
        if isinstance(message.content, str):
            characters += len(message.content)
            continue
        for part in message.content or ():
            if isinstance(part, str):
                characters += len(part)
            elif part.text is None:
                tokens += _PER_PICTURE
            else:
                characters += len(part.text)
    if request.tools:
        characters += len(json.encode(request.tools))
    return tokens + characters // _CHARACTERS_PER_TOKEN
