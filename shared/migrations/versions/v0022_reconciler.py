"""Indexes for what the reconciler of a shard looks for: with a deep queue it read every waiting job, every second.

Revision: 0022, after 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"

_UNFINISHED = "finished_ms IS NULL"
_INDEXES = (
    ("ix_jobs_unfinished_by_shard", ["shard", "created_ms", "id"], _UNFINISHED),
    ("ix_jobs_cancelled", ["shard"], f"{_UNFINISHED} AND cancel_requested_ms IS NOT NULL"),
    ("ix_jobs_expiry", ["shard", "expires_ms"], f"{_UNFINISHED} AND started_ms IS NULL"),
)


def upgrade() -> None:
    """Make them; they also serve whatever used the one by status."""
    for name, columns, rows in _INDEXES:
        op.create_index(name, "jobs", columns, sqlite_where=sa.text(rows), postgresql_where=sa.text(rows))
    op.drop_index("ix_jobs_unfinished", "jobs")


def downgrade() -> None:
    """Bring the old one back."""
    where = sa.text(_UNFINISHED)
    op.create_index("ix_jobs_unfinished", "jobs", ["status", "created_ms"], sqlite_where=where, postgresql_where=where)
    for name, _, _ in _INDEXES:
        op.drop_index(name, "jobs")
