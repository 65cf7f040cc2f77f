"""What routers and providers tell of themselves: voices, token ids, batches; parameters that jobs lost on their way.

Revision: 0010, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns; routers that are there pass token ids on as they did."""
    op.add_column("routers", sa.Column("voices", sa.Text(), nullable=True))
    op.add_column("routers", sa.Column("accepts_token_ids", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("routers", sa.Column("token_encoding", sa.Text(), nullable=True))
    op.add_column("providers", sa.Column("max_batch", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("strict", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("dropped_params", sa.Text(), nullable=True))
