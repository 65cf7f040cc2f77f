"""What administrators might see of a file when it was stored, as of jobs since 0023.

Revision: 0025, after 0024
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Add the column; null is what nobody noted, see `shared.request_logs.redaction.policy_of`."""
    op.add_column("files", sa.Column("content_policy", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget them."""
    op.drop_column("files", "content_policy")
