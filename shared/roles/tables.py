"""Tables `roles` (permissions of users, as a JSON list) and `limits` (which routers they may use, and how much)."""

from sqlmodel import Field, SQLModel

from shared.columns import NEVER_REUSE_IDS, bigint


class RoleRow(SQLModel, table=True):
    __tablename__ = "roles"
    __table_args__ = (NEVER_REUSE_IDS,)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    permissions: str = "[]"
    created_ms: int = bigint()
    updated_ms: int = bigint()


class LimitRow(SQLModel, table=True):
    """A role without a row for a router may not use it; a row with value 0 forbids it; null is no limit."""

    __tablename__ = "limits"

    role_id: int = Field(foreign_key="roles.id", ondelete="CASCADE", primary_key=True)
    router_id: int = Field(foreign_key="routers.id", ondelete="CASCADE", primary_key=True, index=True)
    type: str = Field(primary_key=True)
    """rpm | rpd | tpm | tpd"""
    value: int | None = bigint(default=None)
