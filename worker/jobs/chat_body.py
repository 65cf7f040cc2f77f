"""The body of a chat as its provider gets it: what its parameter set has, said as it wants it said."""

from typing import Any, Final

from msgspec import Raw, json

from shared.chat.parameter_sets import PARAMETER_SETS, ParameterSet
from shared.chat.plain_messages import to_plain
from shared.directory import Provider
from worker.jobs.upstream import MEMBERS, NULL, is_given, to_upstream

_MESSAGES: Final = json.Decoder(list[dict[str, Any]])


def to_chat_upstream(request: bytes, provider: Provider, *, is_stream: bool) -> bytes:
    """Return the body for a chat provider; a stream always asks for its usage."""
    body = to_upstream(request, provider.model_name, "chat", is_stream=is_stream)
    chosen = PARAMETER_SETS.get(provider.parameter_set)
    return body if chosen is None else json.encode(_fit(MEMBERS.decode(body), chosen))


def _fit(members: dict[str, Raw], chosen: ParameterSet) -> dict[str, Raw]:
    """Return what the set has of these members."""
    fitting = {name: value for name, value in members.items() if name in chosen.taken}
    fitting["messages"] = Raw(json.encode(to_plain(_MESSAGES.decode(members["messages"]), chosen)))
    schema = fitting.pop("guided_json", NULL)
    if bytes(schema) != b"null":
        fitting["response_format"] = Raw(json.encode(_to_response_format(schema)))
    if is_given(fitting, "stream_options"):
        options = MEMBERS.decode(fitting["stream_options"])
        options.pop("continuous_usage_stats", None)
        fitting["stream_options"] = Raw(json.encode(options))
    return fitting


def _to_response_format(schema: Raw) -> dict[str, Any]:
    """Return what asks for a JSON Schema, given as such or as its text."""
    found = json.decode(schema)
    written = Raw(found.encode()) if isinstance(found, str) else schema
    return {"type": "json_schema", "json_schema": {"name": "guided", "schema": written, "strict": True}}
