"""Which Redis has the jobs of an organization.

Revision: 0020, after 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add the columns; everything there is belongs to the first shard."""
    for table in ("organizations", "jobs", "batches"):
        op.add_column(table, sa.Column("shard", sa.Integer(), nullable=False, server_default="0"))
