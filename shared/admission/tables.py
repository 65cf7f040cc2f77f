"""Table `carbon_accounts`: what the jobs of an owner with a carbon budget emitted in a month."""

from sqlmodel import Field, SQLModel

from shared.columns import bigint


class CarbonAccountRow(SQLModel, table=True):
    __tablename__ = "carbon_accounts"

    name: str = Field(primary_key=True)
    """See `shared.admission.records.carbon_account`."""
    emitted_ug: int = bigint()
    version: int = bigint()
