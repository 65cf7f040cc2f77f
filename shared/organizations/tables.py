"""Table `organizations`: tenants.  Users belong to at most one."""

from sqlmodel import Field, SQLModel

from shared.columns import NEVER_REUSE_IDS, bigint


class OrganizationRow(SQLModel, table=True):
    __tablename__ = "organizations"
    __table_args__ = (NEVER_REUSE_IDS,)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    budget_micros: int | None = bigint(default=None)
    """Money that is left; null is unlimited."""
    budget_version: int = bigint(default=0)
    """Grows with every change of the budget."""
    carbon_budget_mg: int | None = bigint(default=None)
    """CO2e per calendar month, UTC; null is unlimited."""
    content_policy: str = "full"
    """What the request log shows of its requests: `full`, `metadata` (no bodies), `none` (no headers either)."""
    log_ttl_s: int | None = None
    """How long its rows of the request log are kept; null is as long as those of everybody."""
    shard: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Whose Redis has its new jobs, its limits and budgets."""
    created_ms: int = bigint()
    updated_ms: int = bigint()
