"""Months that are closed, restatements of the ledger, and what a record needs to be computed again.

Revision: 0017, after 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the tables and columns."""
    op.add_column("usage_records", sa.Column("deployment", sa.Text(), nullable=True))
    op.add_column("usage_records", sa.Column("restatement", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "restatements",
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_ms", sa.BigInteger(), nullable=True),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("deployments", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("factors", sa.Text(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "closes",
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("restatement", sa.BigInteger(), nullable=False),
        sa.Column("ledger_sha256", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("month", "revision"),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("closes")
    op.drop_table("restatements")
    with op.batch_alter_table("usage_records") as records:
        records.drop_column("restatement")
        records.drop_column("deployment")
