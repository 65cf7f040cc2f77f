"""A conversation as one text, for models that read no conversations."""

from collections.abc import Sequence

from shared.chat.schemas import ContentPart, Message


def to_text(messages: Sequence[Message]) -> str:
    """Return one line per message: its role and its text."""
    return "\n".join(f"{message.role}: {_content(message)}" for message in messages)


def has_other_parts(messages: Sequence[Message]) -> bool:
    """Return whether there is anything but text."""
    return any(
        isinstance(part, ContentPart) and part.text is None
        for message in messages
        if isinstance(message.content, list)
        for part in message.content
    )


def _content(message: Message) -> str:
    if isinstance(message.content, list):
        return "\n".join(part if isinstance(part, str) else part.text or "" for part in message.content)
    return message.content or ""
