"""Vector stores belong to the subscription whose key made them.

Revision: 0018, after 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
contracts = ("collections: unique (slug, user_id) is gone",)  # no statement of 0017 names it as a conflict target


def upgrade() -> None:
    """Add the column; stores that exist stay with their users."""
    op.add_column("collections", sa.Column("owner_key_id", sa.BigInteger(), nullable=False, server_default="0"))
    op.drop_index("uq_collections_slug", "collections")
    op.create_index("uq_collections_slug", "collections", ["user_id", "owner_key_id", "slug"], unique=True)
    op.create_index("ix_collections_owner_key", "collections", ["owner_key_id"])
