"""Fallback routers and caches of answers; weights and vector sizes of providers.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns."""
    op.execute("ALTER TABLE routers ADD COLUMN fallback_id INTEGER REFERENCES routers (id) ON DELETE SET NULL")
    op.add_column("routers", sa.Column("cache_ttl_s", sa.Integer(), nullable=True))
    op.add_column("routers", sa.Column("cache_charge", sa.Text(), nullable=False, server_default="free"))
    op.add_column("providers", sa.Column("vector_size", sa.Integer(), nullable=True))
    op.add_column("providers", sa.Column("weight", sa.Float(), nullable=False, server_default="1"))
