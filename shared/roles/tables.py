"""Table `roles`: permissions of users, as a JSON list."""

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
