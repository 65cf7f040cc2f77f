"""Read the `messages` of a chat, in whichever form they come, and link answers of tools to their calls.

Sources: NEC Generative AI API 1.0, "messages"; Vultr's guide to tool calls.
"""

from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, json

from shared.errors import InvalidFieldError, to_unprocessable
from shared.ids import new_id

Form = Literal["array", "json", "text"]
_MAX_DEPTH: Final = 64
_OPENERS: Final = {"[": list, "{": dict}
_PLACE: Final[list[str | int]] = ["body", "messages"]


def to_messages(value: Any) -> tuple[list[Any], Form]:
    """Return the messages that a value stands for, unchecked, and in which form they came.

    A text that is the JSON of messages, or of one, is those; any other text is one message of the user.  Raises
    `InvalidFieldError`.
    """
    if isinstance(value, list) and value:
        return value, "array"
    if isinstance(value, str):
        if not value.removeprefix("\ufeff").strip():
            raise InvalidFieldError([*_PLACE], "Messages must not be empty")
        found = _parse(value.removeprefix("\ufeff").strip())
        return ([{"role": "user", "content": value}], "text") if found is None else (found, "json")
    if isinstance(value, dict) and isinstance(value.get("role"), str):
        return [value], "array"
    raise InvalidFieldError([*_PLACE], "Expected messages, or a text")


def _parse(text: str) -> list[Any] | None:
    """Return the messages that a text is the JSON of; None if it is just a text."""
    kind = _OPENERS.get(text[0])
    if kind is None or _is_deep(text):
        return None
    try:
        found = json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    many = found if isinstance(found, list) else [found]
    is_conversation = many and all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in many)
    return many if is_conversation else None


def _is_deep(text: str) -> bool:
    """Return whether the JSON is nested more deeply than messages ever are."""
    depth, in_text, is_escaped = 0, False, False
    for character in text:
        if in_text:
            in_text = is_escaped or character != '"'
            is_escaped = character == "\\" and not is_escaped
        elif character == '"':
            in_text = True
        elif character in "[{":
            depth += 1
            if depth > _MAX_DEPTH:
                return True
        elif character in "]}":
            depth -= 1
    return False


def link_tool_calls(messages: list[dict[str, Any]]) -> bool:
    """Give calls their missing ids, and answers the id of the one open call; returns whether anything was added.

    Raises `InvalidFieldError` for an answer to a call that nobody made.
    """
    is_changed, known, unanswered = False, set[str](), list[str]()
    for index, message in enumerate(messages):
        for call in _calls(message, index):
            if not call.get("id"):
                call["id"], is_changed = new_id("call_"), True
            known.add(call["id"])
            unanswered.append(call["id"])
        if message.get("role") != "tool":
            continue
        answered = message.get("tool_call_id")
        if not isinstance(answered, str | None):
            raise InvalidFieldError([*_PLACE, index, "tool_call_id"], "Expected `str`", "type_error")
        if answered is None and len(unanswered) == 1:
            answered = message["tool_call_id"] = unanswered[0]
            is_changed = True
        if answered not in known:
            text = "No earlier message of the assistant has this call" if answered else "`tool_call_id` is needed"
            raise InvalidFieldError([*_PLACE, index, "tool_call_id"], text)
        if answered in unanswered:
            unanswered.remove(answered)
    return is_changed


def _calls(message: dict[str, Any], index: int) -> list[dict[str, Any]]:
    """Return the calls that a message makes; raises `InvalidFieldError` if they are none."""
    calls = message.get("tool_calls") if message.get("role") == "assistant" else None
    found = calls if isinstance(calls, list) else []
    if not all(isinstance(call, dict) and isinstance(call.get("id"), str | None) for call in found):
        raise InvalidFieldError([*_PLACE, index, "tool_calls"], "Expected objects, each with a text as its `id`")
    return found


def decode_messages(messages: Any, kind: Any) -> Any:
    """Return the messages as wire types; raises `UnprocessableEntityError`."""
    try:
        return msgspec.convert(messages, kind)
    except msgspec.ValidationError as error:
        raise to_unprocessable(error, _PLACE) from error


def with_messages(body: bytes, messages: Any) -> bytes:
    """Return a request with these messages in place of its own."""
    members = json.decode(body, type=dict[str, Raw])
    members["messages"] = Raw(json.encode(messages))
    return json.encode(members)
