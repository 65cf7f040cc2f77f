"""Table `organizations`: tenants.  Users belong to at most one."""

from sqlmodel import Field, SQLModel

from shared.columns import NEVER_REUSE_IDS, bigint


class OrganizationRow(SQLModel, table=True):
    __tablename__ = "organizations"
    __table_args__ = (NEVER_REUSE_IDS,)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    created_ms: int = bigint()
    updated_ms: int = bigint()
