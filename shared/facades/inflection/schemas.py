"""Wire types of Inflection's API.  Source: Inflection Inference API 1.0.0, OpenAPI description."""

import datetime as dt
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, json

from shared.chat.engine import Text
from shared.chat.schemas import ChatCompletionRequest, TokenLimit
from shared.errors import InvalidFieldError, UnprocessableEntityError
from shared.unreadable import UNREADABLE
from shared.usage.schemas import Usage

Category = Literal[
    "Personal", "Interpersonal", "Execution", "EQ", "Creativity", "Humour", "IQ", "Phrasing", "User", "Assistant"
]
TURN_TYPES: Final = (
    "AI", "Human", "Retrieval", "Instruction", "Metadata", "LinkedWebpages", "System", "Question", "Options", "Role",
    "Answer", "AI (internally)", "Tool",
)  # fmt: skip
PLACEHOLDER: Final = "placeholder"
"""Of `config`: any model will do."""


class Attribute(Struct, kw_only=True):
    """What a message is scored for; `positive`: whether one wants it in an assistant."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    definition: Annotated[str, Meta(min_length=1, max_length=2000)]
    categories: list[Category] | None = None
    positive: bool | None = None
    example: Annotated[str, Meta(max_length=2000)] | None = None


class AttributesRequest(ChatCompletionRequest, kw_only=True):
    """A conversation whose last message of the assistant is to be scored."""

    attributes: Annotated[
        Annotated[list[Attribute], Meta(max_length=50)] | None, Meta(description="Null or empty: the default ones.")
    ] = None
    filter_categories: Annotated[
        list[Category] | None, Meta(description="Only attributes that have one of these count.")
    ] = None
    disable_attributes_prompt: bool | None = None


class InferenceTurn(Struct, kw_only=True):
    """One turn of the context."""

    type: Annotated[str, Meta(extra_json_schema={"enum": list(TURN_TYPES)})]
    text: str
    ts: dt.datetime | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class InferenceMetadata(Struct, kw_only=True):
    """Who the user is, as far as the model is to know."""

    user_timezone: str | None = None
    user_firstname: str | None = None
    user_country: str | None = None
    user_region: str | None = None
    user_city: str | None = None


class InferenceRequest(Struct, kw_only=True):
    """A context to be continued; `config` is the model."""

    context: Annotated[list[InferenceTurn], Meta(min_length=1)]
    config: str | None = PLACEHOLDER
    metadata: InferenceMetadata | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: TokenLimit | None = None
    stop_tokens: Annotated[list[Text], Meta(max_length=16)] | None = None
    web_search: bool | UnsetType | None = UNSET
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    schemas: list[str] | None = None
    server_target: str | None = None

    def check(self) -> None:
        """Raise `UnprocessableEntityError` for what no translation could make sense of."""
        for index, turn in enumerate(self.context):
            place: list[str | int] = ["body", "context", index]
            if turn.type not in TURN_TYPES:
                raise UnprocessableEntityError([*place, "type"], f"Invalid enum value '{turn.type[:64]}'", "enum")
            if turn.type == "Tool" and not turn.tool_call_id:
                raise UnprocessableEntityError([*place, "tool_call_id"], "Field required", "missing")
        if self.schemas and self.response_format is not None:
            raise InvalidFieldError(["body", "schemas"], "`schemas` and `response_format` exclude each other")
        for index, text in enumerate(self.schemas or ()):
            try:
                json.decode(text, type=dict[str, Any])
            except UNREADABLE:
                raise InvalidFieldError(["body", "schemas", index], "Expected a JSON Schema document") from None

    @property
    def model(self) -> str | None:
        """Return the model that is asked for; None if any will do."""
        return None if self.config in (None, "", PLACEHOLDER) else self.config

    @property
    def wants_search(self) -> bool:
        """Return whether the web is to be searched, which is so unless the request says otherwise."""
        return self.web_search is not False


class InferenceQuery(Struct, kw_only=True):
    """`origin_endpoint` is kept in the metadata of the job."""

    origin_endpoint: Annotated[str, Meta(max_length=512, pattern=r"^[^\x00]*$")] | None = None


class InferenceCall(Struct, kw_only=True):
    """A function and its arguments, a JSON text."""

    name: str
    arguments: str


class InferenceToolCall(Struct, kw_only=True):
    """One call of a tool."""

    id: str
    type: Literal["function"]
    function: InferenceCall


class InferenceReply(Struct, kw_only=True):
    """The continuation; `created` is Unix time with fractions."""

    created: float
    text: str
    tool_calls: list[InferenceToolCall] | None
    reasoning_content: str | None


class InferenceEvent(Struct, kw_only=True):
    """One event of a streamed continuation; `idx` counts them from 0, `text` is the new piece."""

    created: float
    idx: int
    text: str
    tool_calls: list[InferenceToolCall] | None
    reasoning_content: str | UnsetType = UNSET
    error: Any = UNSET
    """Of the event by which a stream ends that has broken off."""
    detail: str | UnsetType = UNSET


class LegacyChoice(Struct, kw_only=True):
    """One answer of the older chat route."""

    index: int
    message: dict[str, Any]
    finish_reason: str | None


class LegacyCompletion(Struct, kw_only=True):
    """Answer of the older chat route: the core members only."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[LegacyChoice]
    usage: Usage


class LegacyChunk(Struct, kw_only=True):
    """Chunk of the older chat route."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Usage | None


class Parameter(Struct, kw_only=True):
    """A parameter of a model; `range` is empty if it has none."""

    range: list[float]
    value: float | bool | list[str] | None


class ConfigParameters(Struct, kw_only=True):
    """What a client may set."""

    temperature: Parameter
    maximumLength: Parameter  # noqa: N815  # a name of the wire format
    topP: Parameter  # noqa: N815
    stopTokens: Parameter  # noqa: N815
    webSearch: Parameter  # noqa: N815


class Config(Struct, kw_only=True):
    """A chat model; `name` is its `model` and `config`."""

    name: str
    alias: str
    default_parameters: ConfigParameters
    description: str
    tags: list[str]
    is_external: Annotated[bool | None, Meta(description="Whether third parties serve it; null: some do.")]
    is_playground: bool
