"""Which parameters of chats a provider takes, and which its operator forbids.

Revision: 0019, after 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("providers", sa.Column("parameter_set", sa.Text(), nullable=True))
    op.add_column("providers", sa.Column("denied_params", sa.Text(), nullable=True))
