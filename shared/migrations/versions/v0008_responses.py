"""Responses: jobs in the background and incomplete ones; providers with a responses route of their own.

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("jobs", sa.Column("background", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("incomplete_reason", sa.Text(), nullable=True))
    op.add_column("providers", sa.Column("native_responses", sa.Boolean(), nullable=False, server_default=sa.false()))
