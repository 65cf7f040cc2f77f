"""Wire types of /v2/inference/{id}/conversations."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.chat.schemas import TokenLimit

Title = Annotated[str, Meta(min_length=1, max_length=255)]
ModelName = Annotated[str, Meta(min_length=1, max_length=255)]
Content = Annotated[str, Meta(min_length=1, max_length=1_000_000)]


class CreateConversationRequest(Struct, kw_only=True):
    """Without a title, the first message gives one."""

    title: Title | None = None
    model: ModelName | None = None
    max_tokens: TokenLimit | None = None


class UpdateConversationRequest(Struct, kw_only=True):
    """Another title."""

    title: Title


class CreateMessageRequest(Struct, kw_only=True):
    """A question; model and max_tokens are those of the conversation unless given, and are its from then on."""

    content: Content
    model: ModelName | None = None
    max_tokens: TokenLimit | None = None
    stream: bool | None = None


class ConversationMessage(Struct, kw_only=True):
    """One turn; `completion_id` names the answer's job; `status` is how that ended."""

    id: str
    role: Literal["user", "assistant"]
    content: str
    created: str
    completion_id: str | None
    status: str
    vote: Literal["up", "down"] | None


class Conversation(Struct, kw_only=True):
    """A conversation without its messages."""

    id: str
    title: str | None
    model: str | None
    max_tokens: int | None
    created: str
    updated: str


class ConversationWithMessages(Conversation, kw_only=True):
    """A conversation with its messages, oldest first."""

    messages: list[ConversationMessage]


class ConversationReply(Struct, kw_only=True):
    """One conversation."""

    conversation: ConversationWithMessages


class ConversationPage(Struct, kw_only=True):
    """Conversations, newest first."""

    conversations: list[Conversation]
    has_more: bool


class ListConversationsQuery(Struct, kw_only=True):
    """`after` is the id of a conversation of the page before."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: str | None = None
