"""Table `users`: people and services that own keys.  User 0 is the master and has no row."""

from sqlmodel import Field, SQLModel

from shared.columns import NEVER_REUSE_IDS, bigint


class UserRow(SQLModel, table=True):
    __tablename__ = "users"
    __table_args__ = (NEVER_REUSE_IDS,)

    id: int | None = Field(default=None, primary_key=True)
    email: str = Field(unique=True)
    name: str | None = None
    sub: str | None = None
    """Subject and issuer at a single sign-on; null with passwords."""
    iss: str | None = None
    password_hash: str | None = None
    """Argon2id, in its own text form."""
    role_id: int = Field(foreign_key="roles.id")
    organization_id: int | None = Field(default=None, foreign_key="organizations.id")
    priority: int = 0
    budget_micros: int | None = bigint(default=None)
    """Money that is left; null is unlimited."""
    budget_version: int = bigint(default=0)
    """Grows with every change of the budget."""
    carbon_budget_mg: int | None = bigint(default=None)
    """CO2e per calendar month, UTC; null is unlimited."""
    expires_ms: int | None = bigint(default=None)
    created_ms: int = bigint()
    updated_ms: int = bigint()
