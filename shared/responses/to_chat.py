"""Translate a stored request into a chat request, for providers without a responses route."""

from typing import Any, Final

from msgspec import Raw, json

from shared.responses.items import HISTORY
from shared.responses.schemas import Item, Part, ResponseRequest, StoredRequest, Tool

_KNOWN: Final = frozenset(ResponseRequest.__struct_fields__) | {HISTORY}
_SAME: Final = ("temperature", "top_p", "parallel_tool_calls", "presence_penalty", "frequency_penalty", "user")
_MEMBERS: Final = json.Decoder(dict[str, Raw])
_REQUEST: Final = json.Decoder(StoredRequest, strict=False)


class NotTranslatableError(ValueError):
    """A chat cannot say this; the message is for the caller."""


def decode_stored_request(request: bytes) -> StoredRequest:
    """Return the request of a job."""
    return _REQUEST.decode(request)


def to_chat(request: bytes) -> bytes:
    """Return the body of the chat request; raises `NotTranslatableError`.

    Members that are not of the Responses API are passed on.
    """
    asked = decode_stored_request(request)
    chat: dict[str, Any] = {name: value for name, value in _MEMBERS.decode(request).items() if name not in _KNOWN}
    chat |= {"model": asked.model, "messages": _to_messages(asked)}
    chat |= {name: value for name in _SAME if (value := getattr(asked, name)) is not None}
    chat |= _to_options(asked)
    if asked.tools:
        chat["tools"] = [_to_tool(tool) for tool in asked.tools]
        choice = asked.tool_choice
        if isinstance(choice, dict):
            choice = {"type": "function", "function": {"name": choice["name"]}}
        if choice is not None:
            chat["tool_choice"] = choice
    else:
        chat.pop("parallel_tool_calls", None)
    return json.encode(chat)


def _to_options(asked: StoredRequest) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if asked.max_output_tokens is not None:
        options["max_completion_tokens"] = asked.max_output_tokens
    if asked.top_logprobs or "message.output_text.logprobs" in (asked.include or ()):
        options |= {"logprobs": True, "top_logprobs": asked.top_logprobs or 0}
    if asked.reasoning is not None and asked.reasoning.effort is not None:
        options["reasoning_effort"] = asked.reasoning.effort
    if asked.service_tier is not None:
        options["service_tier"] = asked.service_tier
    if asked.text is not None and asked.text.verbosity is not None:
        options["verbosity"] = asked.text.verbosity
    wanted = None if asked.text is None else asked.text.format
    if wanted is not None and wanted.type == "json_object":
        options["response_format"] = {"type": "json_object"}
    elif wanted is not None and wanted.type == "json_schema":
        names = ("name", "schema", "description", "strict")
        schema = {name: value for name in names if (value := getattr(wanted, name)) is not None}
        options["response_format"] = {"type": "json_schema", "json_schema": schema}
    return options


def _to_tool(tool: Tool) -> dict[str, Any]:
    names = ("name", "description", "parameters", "strict")
    return {
        "type": "function",
        "function": {name: value for name in names if (value := getattr(tool, name)) is not None},
    }


def _to_messages(asked: StoredRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if asked.instructions is not None:
        messages.append({"role": "system", "content": asked.instructions})
    for item in (*asked.sluice_history, *asked.input):
        if item.type == "function_call":
            _add_call(messages, item)
        elif item.type == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": _to_content(item.output)})
        elif item.type == "message":
            messages.append(_to_message(item))
    return messages


def _add_call(messages: list[dict[str, Any]], item: Item) -> None:
    """Add a call to the turn of the assistant that it belongs to; a chat has all calls of a turn in one message."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    function = {"name": item.name, "arguments": item.arguments}
    messages[-1].setdefault("tool_calls", []).append({"id": item.call_id, "type": "function", "function": function})


def _to_message(item: Item) -> dict[str, Any]:
    if item.role == "assistant":
        parts = item.content if isinstance(item.content, list) else [Part(type="output_text", text=item.content)]
        return {"role": "assistant", "content": "".join(part.text or part.refusal or "" for part in parts)}
    role = "system" if item.role == "developer" else item.role
    return {"role": role, "content": _to_content(item.content)}


def _to_content(content: str | list[Part] | None) -> str | list[dict[str, Any]]:
    if content is None or isinstance(content, str):
        return content or ""
    if all(part.text is not None for part in content) and len(content) == 1:
        return content[0].text or ""
    return [_to_part(part) for part in content]


def _to_part(part: Part) -> dict[str, Any]:
    if part.type == "input_image":
        if part.image_url is None:
            raise NotTranslatableError("This model takes images by `image_url` only.")
        image = {"url": part.image_url} | ({} if part.detail is None else {"detail": part.detail})
        return {"type": "image_url", "image_url": image}
    if part.type == "input_file":
        names = ("file_id", "file_data", "filename")
        file = {name: value for name in names if (value := getattr(part, name)) is not None}
        if part.file_url is not None or not file:
            raise NotTranslatableError("This model takes files by `file_data` or `file_id` only.")
        return {"type": "file", "file": file}
    return {"type": "text", "text": part.text or part.refusal or ""}
