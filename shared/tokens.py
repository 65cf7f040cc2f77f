"""Count tokens where a provider reports none; such records say `estimated`.

Vocabularies are not shipped: what modern tokenizers do to text is approximated by its words, numbers and signs.  Text
that looks like a control token is text.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

_PIECES: Final = re.compile(r"[^\W\d_]+|\d{1,3}|[^\w\s]|_")
_LETTERS_PER_TOKEN: Final = 6
_WIDE_FROM: Final = "\u2e80"
"""Scripts without spaces between words: about one token per character."""
_SAMPLE: Final = 200_000
_PER_MESSAGE: Final = 4
_PER_PICTURE: Final = 256


def count_tokens(text: str) -> int:
    """Return about how many tokens a text has."""
    if len(text) > _SAMPLE:  # a long text would stall the event loop
        return count_tokens(text[:_SAMPLE]) * len(text) // _SAMPLE
    total = 0
    for piece in _PIECES.findall(text):
        if piece[0] >= _WIDE_FROM:
            total += len(piece)
        else:
            total += -(-len(piece) // _LETTERS_PER_TOKEN)
    return total


def count_input_tokens(inputs: Sequence[str | list[int]]) -> int:
    """Return about how many tokens these texts have, or how many there are in these lists."""
    counted = total = 0
    for number, one in enumerate(inputs, start=1):
        total += max(count_tokens(one), 1) if isinstance(one, str) else len(one)
        counted += len(one)
        if counted > _SAMPLE:
            return total * len(inputs) // number
    return total


def count_message_tokens(messages: list[dict[str, Any]]) -> int:
    """Return about how many tokens a conversation has, with text parts, pictures, and tool calls."""
    counted = total = 0
    for number, message in enumerate(messages, start=1):
        total += _PER_MESSAGE + _content_tokens(message)
        counted += _length(message)
        if counted > _SAMPLE:
            return total * len(messages) // number
    return total


def _length(message: dict[str, Any]) -> int:
    content = message.get("content")
    return len(content) if isinstance(content, str) else _PER_MESSAGE


def _content_tokens(message: dict[str, Any]) -> int:
    content = message.get("content")
    total = 0
    if isinstance(content, str):
        total += count_tokens(content)
    elif isinstance(content, list):
        total += sum(_part_tokens(part) for part in content if isinstance(part, dict))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            total += count_tokens(f"{function.get('name', '')} {function.get('arguments', '')}")
    return total


def _part_tokens(part: dict[str, Any]) -> int:
    text = part.get("text")
    return count_tokens(text) if isinstance(text, str) else _PER_PICTURE
