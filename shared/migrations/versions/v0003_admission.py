"""What jobs were admitted with, versions of budgets, emissions per month.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add columns, an index of the open holds, and the table of monthly emissions."""
    op.add_column("jobs", sa.Column("admission", sa.Text(), nullable=True))
    is_open = sa.text("finished_ms IS NULL AND admission IS NOT NULL")
    op.create_index(
        "ix_jobs_admitted", "jobs", ["organization_id", "user_id"], sqlite_where=is_open, postgresql_where=is_open
    )
    for table in ("users", "organizations"):
        op.add_column(table, sa.Column("budget_version", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "carbon_accounts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("emitted_ug", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
