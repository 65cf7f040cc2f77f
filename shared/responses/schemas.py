"""Wire types of /v1/responses.  Source: OpenAI API reference, "Responses", as far as the contract takes it.

Members of a request that are not listed are passed on to chat providers unchanged; those with an own responses route
get the whole request.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.chat.schemas import Penalty, TokenLimit
from shared.errors import InvalidFieldError
from shared.jobs.schemas import Metadata
from shared.responses.errors import UnsupportedParameterError, UnsupportedToolError
from shared.usage.schemas import CacheUse, Carbon, Impacts

ResponseStatus = Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]
ROLES = ("user", "system", "developer", "assistant")
PARTS = ("input_text", "input_image", "input_file", "output_text", "refusal", "reasoning_text", "summary_text")
_NEEDED = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "item_reference": ("id",),
    "reasoning": (),
}
"""Type of an item → members it must have."""
_FORMATS = ("text", "json_object", "json_schema")
_CHOICES = ("none", "auto", "required")


class Part(Struct, kw_only=True):
    """One part of a message, or of the output of a function; its other members are kept."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class Item(Struct, kw_only=True):
    """One item of an input, or of an earlier output; its other members are kept."""

    type: str = "message"
    id: Annotated[str, Meta(max_length=512)] | None = None
    role: str | None = None
    content: str | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None

    def check(self, loc: list[str | int]) -> None:
        """Raise `InvalidFieldError` unless it is an item of a known type with the members of that."""
        if self.type not in _NEEDED:
            raise InvalidFieldError([*loc, "type"], f"Expected one of {', '.join(_NEEDED)}")
        for name in _NEEDED[self.type]:
            if getattr(self, name) is None:
                raise InvalidFieldError([*loc, name], f"Object missing required field `{name}`")
        if self.type == "message" and self.role not in ROLES:
            raise InvalidFieldError([*loc, "role"], f"Expected one of {', '.join(ROLES)}")
        for name in ("content", "output"):
            parts = getattr(self, name)
            for index, part in enumerate(parts if isinstance(parts, list) else ()):
                if part.type not in PARTS:
                    raise InvalidFieldError([*loc, name, index, "type"], f"Expected one of {', '.join(PARTS)}")


class Tool(Struct, kw_only=True):
    """A function the model may call."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class TextFormat(Struct, kw_only=True):
    """What the text of the answer has to be; the last four belong to `json_schema`."""

    type: str = "text"
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextOptions(Struct, kw_only=True):
    """How the text of the answer is to be."""

    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningOptions(Struct, kw_only=True):
    """How much the model is to think, and whether it is to say what."""

    effort: str | None = None
    summary: str | None = None


class ResponseRequest(Struct, kw_only=True):
    """Body of a response.  `null` counts as absent."""

    model: Annotated[str, Meta(min_length=1, description="Name or alias of a router.", examples=["simulator"])]
    input: str | Annotated[list[Item], Meta(min_length=1)]
    instructions: Annotated[str, Meta(description="The first system message.")] | None = None
    previous_response_id: Annotated[str, Meta(description="Its input and output come first.")] | None = None
    background: Annotated[bool, Meta(description="Answer at once; the response is read by its id.")] | None = None
    store: Annotated[bool, Meta(description="False: it cannot be read again.")] | None = None
    stream: bool | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: TokenLimit | None = None
    max_tool_calls: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[str] | None = None
    metadata: Metadata | None = None
    user: Annotated[str, Meta(max_length=512, pattern=r"^[^\x00]*$")] | None = None
    safety_identifier: Annotated[str, Meta(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=512)] | None = None
    service_tier: str | None = None
    stream_options: dict[str, Any] | None = None
    conversation: Any = None
    prompt: Any = None

    def check(self) -> None:
        """Raise the 4xx of what cannot be served, or of members that contradict one another."""
        for name in ("conversation", "prompt"):
            if getattr(self, name) is not None:
                raise UnsupportedParameterError(f"`{name}` is not supported.", param=name)
        if self.background and self.store is False:
            raise UnsupportedParameterError("`background` needs a stored response.", param="store")
        for index, item in enumerate(self.input if isinstance(self.input, list) else ()):
            item.check(["body", "input", index])
        for index, tool in enumerate(self.tools or ()):
            if tool.type != "function":
                raise UnsupportedToolError(tool.type, param=f"tools.{index}.type")
            if not tool.name:
                raise InvalidFieldError(["body", "tools", index, "name"], "Object missing required field `name`")
        self._check_choice()
        self._check_format()

    def _check_choice(self) -> None:
        choice = self.tool_choice
        if isinstance(choice, str) and choice not in _CHOICES:
            raise InvalidFieldError(["body", "tool_choice"], f"Expected one of {', '.join(_CHOICES)}")
        if isinstance(choice, dict):
            if choice.get("type") != "function":
                raise UnsupportedToolError(str(choice.get("type")), param="tool_choice.type")
            if choice.get("name") not in [tool.name for tool in self.tools or ()]:
                raise InvalidFieldError(["body", "tool_choice", "name"], "Expected the name of one of the tools")

    def _check_format(self) -> None:
        text = self.text.format if self.text else None
        if text is None:
            return
        if text.type not in _FORMATS:
            raise InvalidFieldError(["body", "text", "format", "type"], f"Expected one of {', '.join(_FORMATS)}")
        for name in ("name", "schema") if text.type == "json_schema" else ():
            if getattr(text, name) is None:
                raise InvalidFieldError(["body", "text", "format", name], f"Object missing required field `{name}`")


class StoredRequest(ResponseRequest, kw_only=True):
    """A request as its job keeps it: the input as items with ids, and before them what it continues."""

    input: list[Item]
    sluice_history: list[Item] = []


class InputTokensDetails(Struct, kw_only=True):
    """Of the input."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(Struct, kw_only=True):
    """Of the output."""

    reasoning_tokens: int


class ResponseUsage(Struct, kw_only=True):
    """Tokens, cost and footprint of a response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int
    cost: float
    carbon: Carbon
    impacts: Impacts
    requests: int
    cache: CacheUse | UnsetType = UNSET


class ResponseError(Struct, kw_only=True):
    """Why a response failed: `code` is one of OpenAI's, `reason` Sluice's own."""

    code: str
    message: str
    reason: str


class IncompleteDetails(Struct, kw_only=True):
    """Why a response was cut."""

    reason: str


class Response(Struct, kw_only=True):
    """A response in any of its states; all members are always there."""

    id: str
    object: Literal["response"] = "response"
    created_at: Annotated[int, Meta(description="Unix time, seconds.")]
    completed_at: int | None
    status: ResponseStatus
    background: bool
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: Annotated[list[dict[str, Any]], Meta(description="Items: message, function_call, reasoning.")]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ReasoningOptions
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[Tool]
    top_logprobs: int
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    truncation: str
    usage: ResponseUsage | None
    user: str | None
    metadata: dict[str, str]


class ResponseEvent(Struct, kw_only=True):
    """One event of a streamed response; further members by its type.  Numbers start at 0 and have no gaps."""

    type: str
    sequence_number: int


class GetResponseQuery(Struct, kw_only=True):
    """`stream` follows the events, those behind `starting_after`; `wait` waits for the end, at most 60 s."""

    stream: bool = False
    starting_after: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    wait: Annotated[float, Meta(ge=0)] = 0.0
    include: list[str] = []
    include_obfuscation: bool = False


class ListInputItemsQuery(Struct, kw_only=True):
    """Query of GET /v1/responses/{response_id}/input_items."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    include: list[str] = []


class InputItemPage(Struct, kw_only=True):
    """Items of a response's own input."""

    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class ResponseDeleted(Struct, kw_only=True):
    """Answer of DELETE /v1/responses/{response_id}."""

    id: str
    deleted: bool
    object: Literal["response"] = "response"
