"""What the body of a chat must keep to beyond the types of its members, in general and in its dialect."""

import re
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from shared.chat.engine import check_engine, has_engine_parameters
from shared.chat.schemas import ChatCompletionRequest, ContentPart, Message
from shared.dialects import Rules
from shared.errors import BadRequestError, InvalidFieldError, UnprocessableEntityError, to_unprocessable
from shared.search.schemas import SEARCH_TOOL

_ROLES: Final = frozenset({"system", "user", "assistant", "tool", "developer", "function"})
_NEEDS_CONTENT: Final = frozenset({"system", "developer", "user", "tool"})
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_USER: Final = 256
_CHOICES: Final = frozenset({"none", "auto", "required"})


class _Named(Struct):
    name: str


class _ToolCall(Struct):
    id: str
    type: str
    function: _Named | None = None
    custom: _Named | None = None


class UnsupportedParameterError(BadRequestError):
    """A parameter of the request is not supported here."""

    code = "unsupported_parameter"

    def __init__(self, name: str) -> None:
        super().__init__(f"`{name}` is not supported.", param=name)


class ToolsNotSupportedError(BadRequestError):
    """The model cannot call tools."""

    code = "tools_not_supported"

    def __init__(self) -> None:
        super().__init__("The model does not support tools.", param="tools")


def check_chat(body: ChatCompletionRequest, messages: list[Message], rules: Rules) -> None:
    """Raise `UnsupportedParameterError` or `UnprocessableEntityError` for what a dialect does not take."""
    if rules.refuses_functions and (body.functions is not None or body.function_call is not None):
        raise UnsupportedParameterError("functions" if body.function_call is None else "function_call")
    if isinstance(body.stop, list) and len(body.stop) > rules.max_stops:
        raise _invalid("stop", f"Expected `array` of length <= {rules.max_stops}")
    if body.top_logprobs and not body.logprobs:
        raise _invalid("top_logprobs", "`top_logprobs` needs `logprobs: true`")
    if rules.max_top_k is not None and body.top_k is not None and not 0 <= body.top_k <= rules.max_top_k:
        raise _invalid("top_k", f"Expected a number from 0 to {rules.max_top_k:.0f}")
    if rules.max_seed is not None and body.seed is not None and not 0 <= body.seed <= rules.max_seed:
        raise _invalid("seed", f"Expected `int` from 0 to {rules.max_seed}")
    if has_engine_parameters(body):
        check_engine(body)
    for index, message in enumerate(messages):
        _check_message(message, index, rules)
    if rules.is_exact:
        _check_exactly(body)


def _check_message(message: Message, index: int, rules: Rules) -> None:
    """Check one message; what only exact dialects ask for is left to the provider in the others."""
    place: list[str | int] = ["body", "messages", index]
    if message.role not in _ROLES and not rules.is_exact:
        raise UnprocessableEntityError([*place, "role"], f"Invalid enum value '{message.role[:64]}'")
    if isinstance(message.content, list):
        for number, part in enumerate(message.content):
            _check_part(part, [*place, "content", number], rules)
    if not rules.is_exact:
        return
    if message.content is None and message.role in _NEEDS_CONTENT:
        raise UnprocessableEntityError([*place, "content"], "Field required", "missing")
    for name, role in (("name", "function"), ("tool_call_id", "tool")):
        value = getattr(message, name)
        if value is None and message.role == role:
            raise UnprocessableEntityError([*place, name], "Field required", "missing")
        if value is not None and not isinstance(value, str):
            raise UnprocessableEntityError([*place, name], "Expected `str`", "type_error")
    _check_calls(message, place)


def _check_calls(message: Message, place: list[str | int]) -> None:
    if message.tool_calls is not None:
        try:
            msgspec.convert(message.tool_calls, list[_ToolCall])
        except msgspec.ValidationError as error:
            raise to_unprocessable(error, [*place, "tool_calls"]) from error


def _check_part(part: ContentPart | str, place: list[str | int], rules: Rules) -> None:
    if isinstance(part, str):
        if not rules.is_exact:
            raise UnprocessableEntityError(place, "Expected `object`, got `str`", "type_error")
        return
    has_short_form = any(one is not UNSET for one in (part.image_url, part.audio_url, part.video_url))
    if part.type is None and not (rules.is_exact and has_short_form):
        raise UnprocessableEntityError([*place, "type"], "Object missing required field `type`", "missing")
    if part.type == "text" and part.text is None and rules.is_exact:
        raise UnprocessableEntityError([*place, "text"], "Field required", "missing")


def _check_exactly(body: ChatCompletionRequest) -> None:
    """Check what other dialects leave to the provider."""
    if body.stream_options and not body.stream:
        raise _invalid("stream_options", "`stream_options` needs `stream: true`")
    if body.user is not None and len(body.user) > _LONGEST_USER:
        raise _invalid("user", f"Expected `str` of length <= {_LONGEST_USER}")
    names = set[str]()
    for index, tool in enumerate(body.tools or ()):
        if tool.get("type") == SEARCH_TOOL:
            continue
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name) or name in names:
            message = "Expected a name of 1 to 64 letters, digits, `_` and `-` that no other tool has"
            raise InvalidFieldError(["body", "tools", index, "function", "name"], message)
        names.add(name)
    _check_tool_choice(body.tool_choice, names)
    _check_response_format(body.response_format)


def _check_tool_choice(choice: Any, names: set[str]) -> None:
    if isinstance(choice, dict):
        function = choice.get("function")
        named = function.get("name") if isinstance(function, dict) else None
        if named not in names:
            raise _invalid("tool_choice", "The function must be one of `tools`")
    elif choice is not None and choice not in _CHOICES:
        raise _invalid("tool_choice", f"Invalid enum value '{choice[:64]}'")
    elif choice == "required" and not names:
        raise _invalid("tool_choice", "`required` needs `tools`")


def _check_response_format(wanted: dict[str, Any] | None) -> None:
    kind = "text" if wanted is None else wanted.get("type")
    if kind == "json_schema":
        schema = (wanted or {}).get("json_schema")
        if not isinstance(schema, dict) or not isinstance(schema.get("name"), str):
            raise InvalidFieldError(["body", "response_format", "json_schema", "name"], "Field required", "missing")
    elif kind == "structural_tag":
        for name in ("structures", "triggers"):
            if not isinstance((wanted or {}).get(name), list):
                raise InvalidFieldError(["body", "response_format", name], "Field required", "missing")
    elif kind not in ("text", "json_object"):
        raise InvalidFieldError(["body", "response_format", "type"], "Invalid enum value")


def _invalid(name: str, message: str) -> InvalidFieldError:
    return InvalidFieldError(["body", name], message)
