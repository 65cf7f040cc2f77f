"""What might be shown of a request when it came in: a policy that is loosened later is for later requests.

Revision: 0023, after 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

_TABLES = ("jobs", "request_logs")


def upgrade() -> None:
    """Add the columns; null is what nobody noted, see `shared.request_logs.redaction.policy_of`."""
    for table in _TABLES:
        op.add_column(table, sa.Column("content_policy", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget them."""
    for table in _TABLES:
        op.drop_column(table, "content_policy")
