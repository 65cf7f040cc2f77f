"""Messages for providers that know no forms but those of OpenAI's API.

Sources: Inflection Inference API 1.0.0, messages; OpenAI API reference, "Chat Completions".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.chat.parameter_sets import ParameterSet

_ROLES: Final = frozenset({"developer", "system", "user", "assistant", "tool", "function"})
_ONLY_OF_ENGINES: Final = ("audio_url", "video_url", "image_embeds")


def find_strange(messages: Sequence[Any], chosen: ParameterSet) -> str | None:
    """Return the place of the first role or part that cannot be said; None if everything can."""
    for index, message in enumerate(messages):
        role = message.get("role")
        if role not in _ROLES:
            return f"messages.{index}.role"
        if role == "function" and not chosen.knows_functions and _call_id(messages[:index], message) is None:
            return f"messages.{index}.role"
        for number, part in enumerate(_parts(message)):
            if isinstance(part, dict) and (part.get("type") or next(iter(part), "")) in _ONLY_OF_ENGINES:
                return f"messages.{index}.content.{number}"
    return None


def to_plain(messages: Sequence[Any], chosen: ParameterSet) -> list[dict[str, Any]]:
    """Return the messages without short forms, and without roles that are not known."""
    return [_plain(message, messages[:index], chosen) for index, message in enumerate(messages)]


def _plain(message: Mapping[str, Any], earlier: Sequence[Any], chosen: ParameterSet) -> dict[str, Any]:
    plain = dict(message)
    plain["role"] = chosen.roles.get(plain["role"], plain["role"])
    if plain["role"] == "function" and (call_id := _call_id(earlier, message)) is not None:
        del plain["name"]
        plain |= {"role": "tool", "tool_call_id": call_id}
    if isinstance(plain.get("content"), list):
        plain["content"] = [_plain_part(part) for part in plain["content"]]
    return plain


def _plain_part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, dict) and isinstance(part.get("image_url"), str):
        return {**part, "type": "image_url", "image_url": {"url": part["image_url"]}}
    return part


def _parts(message: Mapping[str, Any]) -> Sequence[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else ()


def _call_id(earlier: Sequence[Any], message: Mapping[str, Any]) -> str | None:
    """Return the id of the last call of the function that a message answers; None if nobody called it so."""
    for one in reversed(earlier):
        calls = one.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and function.get("name") == message.get("name"):
                return call.get("id") if isinstance(call.get("id"), str) else None
    return None
