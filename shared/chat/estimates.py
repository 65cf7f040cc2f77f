"""About how many tokens a request has, at a cost that every request can bear; the provider's number replaces it."""

from typing import Final

from msgspec import json

from shared.chat.schemas import ChatCompletionRequest

_CHARACTERS_PER_TOKEN: Final = 4
_PER_MESSAGE: Final = 4
_PER_PICTURE: Final = 256
"""Or sound, or file; its bytes say nothing."""


def estimate_prompt(request: ChatCompletionRequest) -> int:
    """Return about how many prompt tokens a chat has."""
    tokens = characters = 0
    for message in request.messages:
        tokens += _PER_MESSAGE
        if isinstance(message.content, str):
            characters += len(message.content)
            continue
        for part in message.content or ():
            if part.text is None:
                tokens += _PER_PICTURE
            else:
                characters += len(part.text)
    if request.tools:
        characters += len(json.encode(request.tools))
    return tokens + characters // _CHARACTERS_PER_TOKEN
