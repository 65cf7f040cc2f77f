"""Dialects of keys and jobs, subscriptions, and what routers tell of themselves.

Revision: 0011, after 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0007"


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
