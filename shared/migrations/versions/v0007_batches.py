"""Files, batches, and what jobs know of them; retries; answers kept for idempotency keys.

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the tables and columns."""
    for name in ("idempotency_key", "retry_of", "retried_by"):
        op.add_column("jobs", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("held", sa.Boolean(), nullable=False, server_default=sa.false()))
    is_item = sa.text("batch_id IS NOT NULL")
    op.create_index("ix_jobs_batch", "jobs", ["batch_id", "status"], sqlite_where=is_item, postgresql_where=is_item)
    op.add_column("idempotency_keys", sa.Column("http_status", sa.Integer(), nullable=True))
    op.add_column("idempotency_keys", sa.Column("body", sa.LargeBinary(), nullable=True))
    _create_files()
    _create_batches()


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("organization_id", sa.BigInteger(), nullable=True),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_details", sa.Text(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("removed_ms", sa.BigInteger(), nullable=True),
        sa.Column("removed_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_files_user", "files", ["user_id", "id"])
    op.create_index("ix_files_expires_ms", "files", ["expires_ms"])


def _create_batches() -> None:
    instants = (
        "in_progress_ms", "finalizing_ms", "completed_ms", "failed_ms", "expired_ms", "cancelling_ms",
        "cancelled_ms", "start_ms", "lease_until_ms", "finished_ms",
    )  # fmt: skip
    texts = (
        "model", "input_file_id", "metadata", "errors", "usage", "counts", "output_file_id", "error_file_id", "origin",
        "lease_owner", "retry_of",
    )  # fmt: skip
    op.create_table(
        "batches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("organization_id", sa.BigInteger(), nullable=True),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("completion_window", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("start", sa.Text(), nullable=False),
        sa.Column("notify", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("output_ttl_s", sa.BigInteger(), nullable=False),
        sa.Column("item_events", sa.Boolean(), nullable=False),
        sa.Column("is_fed", sa.Boolean(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("baseline_ng", sa.BigInteger(), nullable=True),
        sa.Column("actual_ng", sa.BigInteger(), nullable=True),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in instants),
        *(sa.Column(name, sa.Text(), nullable=True) for name in texts),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_batches_user", "batches", ["user_id", "id"])
    is_open = sa.text("finished_ms IS NULL")
    op.create_index("ix_batches_open", "batches", ["status"], sqlite_where=is_open, postgresql_where=is_open)
