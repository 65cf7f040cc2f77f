"""The ledger, append-only: `usage_records` (one per attempt) and `charges` (one per job).

Integers throughout, so that sums are exact: money in micro-units, energy in nWh (1e-12 kWh), mass in ng (1e-12 kg).
"""

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from shared.columns import bigint


class UsageRecordRow(SQLModel, table=True):
    """What one attempt consumed.  A restatement is a new row whose `supersedes` names the old one."""

    __tablename__ = "usage_records"
    __table_args__ = (
        Index("ix_usage_records_attempt", "job_id", "attempt", "supersedes", unique=True),
        Index("ix_usage_records_user", "user_id", "created_ms"),
        Index(
            "ix_usage_records_restated",
            "supersedes",
            sqlite_where=text("supersedes <> ''"),
            postgresql_where=text("supersedes <> ''"),
        ),
    )

    id: str = Field(primary_key=True)
    supersedes: str = ""
    job_id: str
    attempt: int
    status: str
    created_ms: int = bigint()
    user_id: int = bigint()
    organization_id: int | None = bigint(default=None)
    key_id: int | None = bigint(default=None)
    router_id: int = bigint()
    provider_id: int | None = bigint(default=None)
    router_name: str
    provider_model: str | None = None
    endpoint: str
    http_status: int | None = None
    prompt_tokens: int = bigint(default=0)
    completion_tokens: int = bigint(default=0)
    cached_tokens: int = bigint(default=0)
    reasoning_tokens: int = bigint(default=0)
    is_estimated: bool = False
    latency_ms: int | None = bigint(default=None)
    ttft_ms: int | None = bigint(default=None)
    cost_micros: int = bigint(default=0)
    energy_nwh: int = bigint(default=0)
    energy_low_nwh: int = bigint(default=0)
    energy_high_nwh: int = bigint(default=0)
    operational_ng: int = bigint(default=0)
    embodied_ng: int = bigint(default=0)
    carbon_low_ng: int = bigint(default=0)
    carbon_high_ng: int = bigint(default=0)
    water_nl: int = bigint(default=0)
    prefill_nwh: int = bigint(default=0)
    """Own extension, not part of `energy_nwh`."""
    zone: str | None = None
    zone_effective: str | None = None
    intensity_kg_per_kwh: float | None = None
    pue: float | None = None
    source: str
    method: str
    factors: str
    footprint_status: str
    deployment: str | None = None
    """JSON of `shared.carbon.footprint.Deployment`: with tokens and latency, all that the footprint is made of."""
    restatement: int = bigint(default=0)
    """Number of the restatement that wrote it; 0: it was written when the attempt ended."""


class ChargeRow(SQLModel, table=True):
    """What the caller pays for one job; the primary key makes a second charge impossible."""

    __tablename__ = "charges"
    __table_args__ = (Index("ix_charges_user", "user_id", "created_ms"),)

    job_id: str = Field(primary_key=True)
    status: str
    created_ms: int = bigint()
    user_id: int = bigint()
    organization_id: int | None = bigint(default=None)
    key_id: int | None = bigint(default=None)
    router_id: int = bigint()
    router_name: str
    kind: str
    prompt_tokens: int = bigint(default=0)
    completion_tokens: int = bigint(default=0)
    amount_micros: int = bigint(default=0)


class RestatementRow(SQLModel, table=True):
    """One run of the command that computes footprints anew."""

    __tablename__ = "restatements"

    number: int = bigint(primary_key=True)
    created_ms: int = bigint()
    finished_ms: int | None = bigint(default=None)
    from_ms: int = bigint()
    until_ms: int = bigint()
    deployments: str
    """recorded | current: whether providers count as they were, or as they are described now."""
    reason: str
    method: str
    factors: str
    records: int = bigint(default=0)
    """Written by it."""


class CloseRow(SQLModel, table=True):
    """A month as it was added up; a later one of the same month has the next revision and leaves this one alone."""

    __tablename__ = "closes"

    month: str = Field(primary_key=True)
    revision: int = Field(primary_key=True)
    created_ms: int = bigint()
    restatement: int = bigint()
    """The last one that it knows."""
    ledger_sha256: str
    document: str
    """JSON of `shared.usage.closes.MonthClose`."""
