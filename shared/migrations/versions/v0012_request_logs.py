"""What the request log keeps of an organization's requests, and how long.

Revision: 0012, after 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0010"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("organizations", sa.Column("content_policy", sa.Text(), nullable=False, server_default="full"))
    op.add_column("organizations", sa.Column("log_ttl_s", sa.Integer(), nullable=True))
