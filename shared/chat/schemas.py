"""Wire types of POST /v1/chat/completions.  Source: OpenAI API reference, "Chat", with the superset of the contracts.

The request is checked against these types; the provider gets the bytes as received, so that members which are not
listed here reach it unchanged.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from shared.chat.engine import EngineParameters, Text
from shared.jobs.schemas import Metadata
from shared.lists import CursorPage
from shared.search.schemas import SearchArgs
from shared.usage.schemas import Usage

TokenLimit = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class ContentPart(Struct):
    """One part of a message: text, image_url, input_audio, file, ..; its other members are passed on."""

    type: str | None = None
    """Left out in the short forms of pictures, sounds and films, which only some dialects have."""
    text: str | None = None
    image_url: Raw | UnsetType = UNSET
    audio_url: Raw | UnsetType = UNSET
    video_url: Raw | UnsetType = UNSET


class Message(Struct):
    """One turn of the conversation; its other members (`tool_calls`, `name`, ..) are passed on."""

    role: Annotated[str, Meta(min_length=1, description="system, user, assistant, tool, developer or function.")]
    content: str | list[ContentPart | str] | None = None
    name: Any = None
    tool_call_id: Any = None
    tool_calls: Any = None


class ChatCompletionRequest(EngineParameters, kw_only=True):
    """Body of a chat completion.  `null` counts as absent; members that are not listed are passed on."""

    model: Annotated[
        str | None,
        Meta(description="Name or alias of a router; null: `SLUICE_DEFAULT_CHAT_MODEL`.", examples=["simulator"]),
    ] = None
    messages: Annotated[
        Annotated[list[Message], Meta(min_length=1)] | str | Message,
        Meta(description="Or a text, which may be the JSON of messages; or one message."),
    ]
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[Annotated[str, Meta(pattern=r"^[0-9]+$")], Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    response_format: dict[str, Any] | None = None
    seed: int | None = None
    stop: Text | Annotated[list[Text], Meta(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    tools: Annotated[
        list[dict[str, Any]] | None, Meta(description="One may be `type: search`, with members of /v1/search.")
    ] = None
    tool_choice: str | dict[str, Any] | None = None
    functions: Any = None
    function_call: Any = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    search: Annotated[bool | None, Meta(description="Older spelling of the search tool, with `search_args`.")] = None
    search_args: SearchArgs | None = None


class ToolCallFunction(Struct, frozen=True, kw_only=True):
    """Name and arguments, a JSON text."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(Struct, frozen=True, kw_only=True):
    """One call, or a piece of one in a stream (`index` tells of which)."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: ToolCallFunction | None = None


class AssistantMessage(Struct, frozen=True, kw_only=True):
    """The part of an answer, or of a delta, that is counted and stored; other members are passed on."""

    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None


class Choice(Struct, kw_only=True):
    """One generated answer."""

    index: int
    message: AssistantMessage
    finish_reason: str | None = None
    logprobs: Any = None


class ChunkChoice(Struct, kw_only=True):
    """One streamed piece of one answer."""

    index: int = 0
    delta: AssistantMessage = AssistantMessage()
    finish_reason: str | None = None
    logprobs: Any = None


class ChatCompletion(Struct, kw_only=True):
    """The whole answer."""

    id: str
    created: Annotated[int, Meta(description="Unix time, seconds.")]
    model: str
    choices: list[Choice]
    usage: Usage
    service_tier: str | None
    system_fingerprint: str | None
    search_results: list[Any]
    object: Literal["chat.completion"]
    retrieval: Any | UnsetType = UNSET
    """Of a RAG chat: the passages, and what finding them cost."""


class ChatCompletionChunk(Struct, kw_only=True):
    """One server-sent event of a streamed answer; `usage` is set on the last chunk only, which has no choices."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None
    object: Literal["chat.completion.chunk"]
    service_tier: str | UnsetType | None = UNSET
    """Of each chunk in dialect `openai`, as is `system_fingerprint`."""
    system_fingerprint: str | UnsetType | None = UNSET
    search_results: list[Any] | UnsetType = UNSET
    """In the last chunk, of a chat with a search tool."""
    retrieval: Any | UnsetType = UNSET
    """In the last chunk, of a RAG chat."""


class StoredChatCompletion(ChatCompletion, kw_only=True):
    """A finished completion as it is read again later."""

    request_id: str
    metadata: dict[str, str]
    vote: Literal["up", "down"] | None
    input_user: str | None
    tools: Any
    tool_choice: Any
    response_format: Any
    seed: int | None
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float


ChatCompletionPage = CursorPage[StoredChatCompletion]
"""Stored completions."""


class ListChatCompletionsQuery(Struct, kw_only=True):
    """Query of GET /v1/chat/completions; `metadata[key]=value` filters by metadata."""

    model: str | None = None
    metadata: dict[str, str] = {}
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: str | None = None
    order: Literal["asc", "desc"] = "asc"


class UpdateChatCompletionRequest(Struct, kw_only=True):
    """Rate an answer (`vote`), replace its metadata, or both."""

    vote: str | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET


class ChatCompletionDeleted(Struct, kw_only=True):
    """Answer of DELETE /v1/chat/completions/{id}."""

    id: str
    deleted: bool
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"


class StoredMessage(Struct, kw_only=True):
    """One message of the request of a stored completion."""

    id: str
    role: str
    content: str | None
    name: Any
    content_parts: Any


StoredMessagePage = CursorPage[StoredMessage]
"""Messages of the request of a stored completion."""


class ListMessagesQuery(Struct, kw_only=True):
    """Query of GET /v1/chat/completions/{id}/messages."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: str | None = None
    order: Literal["asc", "desc"] = "asc"
