"""What the request log keeps of the metadata of a job, where not all of it.

Revision: 0024, after 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add the column; null is what the log keeps as it is."""
    op.add_column("jobs", sa.Column("log_metadata", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("jobs", "log_metadata")
