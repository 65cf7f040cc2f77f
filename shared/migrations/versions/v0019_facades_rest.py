"""Parameters of chats that providers take and must not get; vector stores of subscriptions.

Revision: 0019, after 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0014"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("providers", sa.Column("parameter_set", sa.Text(), nullable=True))
    op.add_column("providers", sa.Column("denied_params", sa.Text(), nullable=True))
    op.add_column("collections", sa.Column("key_id", sa.BigInteger(), nullable=False, server_default="0"))
    op.drop_index("uq_collections_slug", "collections")
    op.create_index("uq_collections_slug", "collections", ["user_id", "key_id", "slug"], unique=True)
