"""On PostgreSQL the pages of the request log keep room for the end of each attempt.

Such an update then stays on its page and touches no index.  Without room the new row goes to another page and the old
one leaves a hole, so the table takes as much either way.

Revision: 0021, after 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

_PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'request_logs'::regclass"


def upgrade() -> None:
    """Set it for the partitions there are: for rows to come; nobody waits, and no row is written."""
    _set("SET (fillfactor = 50)")


def downgrade() -> None:
    """Fill pages again."""
    _set("RESET (fillfactor)")


def _set(change: str) -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        for name in connection.execute(sa.text(_PARTITIONS)).scalars().all():
            op.execute(f"ALTER TABLE {name} {change}")
