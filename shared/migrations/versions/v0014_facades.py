"""Dialects of keys and jobs, subscriptions, conversations, and what routers tell of themselves.

Revision: 0014, after 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("jobs", sa.Column("dialect", sa.Text(), nullable=False, server_default="openai"))
    op.add_column("keys", sa.Column("dialect", sa.Text(), nullable=True))
    op.add_column("keys", sa.Column("subscription_id", sa.Text(), nullable=True))
    op.add_column("keys", sa.Column("sealed", sa.LargeBinary(), nullable=True))
    op.create_index("ix_keys_subscription_id", "keys", ["subscription_id"], unique=True)
    op.add_column("routers", sa.Column("default_parameters", sa.Text(), nullable=True))
    op.add_column("routers", sa.Column("display_name", sa.Text(), nullable=True))
    op.add_column("routers", sa.Column("description", sa.Text(), nullable=False, server_default=""))
    op.add_column("routers", sa.Column("tools", sa.Boolean(), nullable=True))
    op.add_column("routers", sa.Column("is_small", sa.Boolean(), nullable=False, server_default=sa.false()))
    _create_conversations()


def _create_conversations() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("max_tokens", sa.Integer(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("asked", sa.Text(), nullable=True),
        sa.Column("asked_ms", sa.BigInteger(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_conversations_key", "conversations", ["key_id", "id"])
    op.create_table(
        "conversation_messages",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], ondelete="CASCADE"),
    )
    columns = ["conversation_id", "id"]
    op.create_index("ix_conversation_messages_conversation", "conversation_messages", columns)
