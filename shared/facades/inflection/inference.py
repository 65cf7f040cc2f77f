"""Inflection's older inference: a context of turns becomes a chat, an answer of a chat becomes its reply."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Raw

from shared.chat.schemas import AssistantMessage
from shared.facades.inflection.schemas import (
    InferenceCall,
    InferenceMetadata,
    InferenceReply,
    InferenceRequest,
    InferenceToolCall,
    InferenceTurn,
)
from shared.ids import new_id

_SAME_NAMES: Final = ("temperature", "top_p", "max_tokens", "response_format")
_PEOPLE: Final = {
    "user_timezone": "timezone", "user_firstname": "first name", "user_country": "country", "user_region": "region",
    "user_city": "city",
}  # fmt: skip
_RETRIEVED: Final = "Retrieved information:\n"
_Form = tuple[str, Callable[[str], str]]
_FORMS: Final[Mapping[str, _Form]] = {
    "Human": ("user", lambda text: text),
    "Question": ("user", lambda text: text),
    "AI": ("assistant", lambda text: text),
    "Answer": ("assistant", lambda text: text),
    "Instruction": ("system", lambda text: text),
    "System": ("system", lambda text: text),
    "Role": ("system", lambda text: f"Role: {text}"),
    "Metadata": ("system", lambda text: f"Metadata: {text}"),
    "Retrieval": ("system", lambda text: _RETRIEVED + text),
    "LinkedWebpages": ("system", lambda text: f"Linked web pages:\n{text}"),
    "AI (internally)": ("system", lambda text: f"Earlier note of the assistant, not shown to the user:\n{text}"),
    "Options": ("user", lambda text: f"Options:\n{text}"),
    "Tool": ("tool", lambda text: text),
}
"""Type of a turn → role and content of its message."""


def to_chat(body: InferenceRequest, found: str | None = None) -> dict[str, Any]:
    """Return the chat that a request stands for; `found` is what a search of the web brought, for the last question."""
    messages = [_to_message(turn) for turn in body.context]
    if found is not None:
        users = [index for index, message in enumerate(messages) if message["role"] == "user"]
        messages.insert(users[-1] if users else len(messages), {"role": "system", "content": _RETRIEVED + found})
    if (about := _describe(body.metadata)) is not None:
        messages.insert(0, {"role": "system", "content": about})
    chat: dict[str, Any] = {"messages": messages}
    chat |= {name: value for name in _SAME_NAMES if (value := getattr(body, name)) is not None}
    if body.model is not None:
        chat["model"] = body.model
    if body.stop_tokens:
        chat["stop"] = body.stop_tokens
    if body.tools:
        chat["tools"] = body.tools
    if body.schemas:
        chat["response_format"] = _to_response_format(body.schemas)
    return chat


def join_instructions(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the messages with all of the system as one before the others, for providers that take no more."""
    texts = [message["content"] for message in messages if message["role"] == "system"]
    others = [message for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": "\n\n".join(texts)}, *others] if texts else others


def _to_message(turn: InferenceTurn) -> dict[str, Any]:
    role, form = _FORMS[turn.type]
    message: dict[str, Any] = {"role": role, "content": form(turn.text)}
    if role == "assistant" and turn.tool_calls:
        message["tool_calls"] = turn.tool_calls
    if role == "tool":
        message["tool_call_id"] = turn.tool_call_id
    return message


def _describe(metadata: InferenceMetadata | None) -> str | None:
    """Return what is known of the user; None if nothing is."""
    known = [(label, getattr(metadata, name, None)) for name, label in _PEOPLE.items()]
    parts = [f"{label}={value}" for label, value in known if value is not None]
    return "User: " + "; ".join(parts) if parts else None


def _to_response_format(schemas: Sequence[str]) -> dict[str, Any]:
    parts = [Raw(text.encode()) for text in schemas]
    schema = parts[0] if len(parts) == 1 else {"anyOf": parts}
    return {"type": "json_schema", "json_schema": {"name": "schema", "schema": schema}}


def last_question(body: InferenceRequest) -> str | None:
    """Return the last text of the user; None if there is none."""
    texts = [turn.text for turn in body.context if _FORMS[turn.type][0] == "user" and turn.text.strip()]
    return texts[-1] if texts else None


def to_reply(message: AssistantMessage, created_s: float) -> InferenceReply:
    """Return the reply that an answer stands for."""
    return InferenceReply(
        created=created_s,
        text=message.content or "",
        tool_calls=to_tool_calls([_call(call.id, call.function) for call in message.tool_calls or ()]),
        reasoning_content=message.reasoning_content or message.reasoning,
    )


def _call(call_id: str | None, function: Any) -> dict[str, Any]:
    name, arguments = (None, None) if function is None else (function.name, function.arguments)
    return {"id": call_id, "function": {"name": name, "arguments": arguments}}


def to_tool_calls(calls: Sequence[Mapping[str, Any]]) -> list[InferenceToolCall] | None:
    """Return complete calls as clients read them, with ids for those that have none; None if there are none."""
    found = [
        InferenceToolCall(
            id=call.get("id") or new_id("call_"),
            type="function",
            function=InferenceCall(
                name=call["function"]["name"] or "", arguments=call["function"]["arguments"] or "{}"
            ),
        )
        for call in calls
    ]
    return found or None
