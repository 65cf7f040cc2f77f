"""Passwords, budgets, limits of roles, scopes of keys, audit events.

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add columns and tables; what everybody could use so far stays granted to every role."""
    for name in ("sub", "iss", "password_hash"):
        op.add_column("users", sa.Column(name, sa.Text(), nullable=True))
    for table in ("users", "organizations"):
        for name in ("budget_micros", "carbon_budget_mg"):
            op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("keys", sa.Column("kind", sa.Text(), nullable=False, server_default="api"))
    op.add_column("keys", sa.Column("scopes", sa.Text(), nullable=True))
    op.add_column("keys", sa.Column("last_used_ms", sa.BigInteger(), nullable=True))
    op.create_table(
        "limits",
        sa.Column("role_id", sa.Integer(), nullable=False),
        sa.Column("router_id", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["role_id"], ["roles.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["router_id"], ["routers.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("role_id", "router_id", "type"),
    )
    op.create_index(op.f("ix_limits_router_id"), "limits", ["router_id"], unique=False)
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("client_address", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_audit_events_user", "audit_events", ["user_id", "id"], unique=False)
    op.create_index("ix_audit_events_object", "audit_events", ["object_type", "object_id", "id"], unique=False)
    op.execute(
        "INSERT INTO limits (role_id, router_id, type) SELECT roles.id, routers.id, 'rpm' FROM roles CROSS JOIN routers"
    )
