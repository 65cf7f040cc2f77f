"""Tables `conversations` and `conversation_messages`: what was said, and the job that is being waited for."""

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from shared.columns import bigint


class ConversationRow(SQLModel, table=True):
    __tablename__ = "conversations"
    __table_args__ = (Index("ix_conversations_key", "key_id", "id"),)

    id: str = Field(primary_key=True)
    key_id: int = bigint()
    """Of the subscription."""
    title: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    created_ms: int = bigint()
    updated_ms: int = bigint()
    asked: str | None = None
    """The question that is being answered."""
    asked_ms: int | None = bigint(default=None)
    job_id: str | None = None
    """The job that answers it; it has a row soon after, or never."""


class ConversationMessageRow(SQLModel, table=True):
    __tablename__ = "conversation_messages"
    __table_args__ = (Index("ix_conversation_messages_conversation", "conversation_id", "id"),)

    id: str = Field(primary_key=True)
    conversation_id: str = Field(foreign_key="conversations.id", ondelete="CASCADE")
    role: str
    content: str
    created_ms: int = bigint()
    job_id: str | None = None
    status: str
