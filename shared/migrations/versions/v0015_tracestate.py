"""The state of a trace beside its parent, of jobs and of webhooks on their way.

Revision: 0015, after 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the columns; `traceparent` is there since 0001 and 0006."""
    op.add_column("jobs", sa.Column("tracestate", sa.Text(), nullable=True))
    op.add_column("webhook_deliveries", sa.Column("tracestate", sa.Text(), nullable=True))
