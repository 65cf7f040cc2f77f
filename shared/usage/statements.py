"""Hot writes on the ledger."""

from msgspec import Struct
from msgspec.structs import astuple

from shared.group_commit.units import Statement, insert_sql
from shared.request_logs.statements import oldest_row_of


class NewUsageRecord(Struct, kw_only=True):
    """What one attempt consumed; fields are named as their columns, see `shared.usage.tables`."""

    id: str
    job_id: str
    attempt: int
    status: str
    created_ms: int
    user_id: int
    organization_id: int | None
    key_id: int | None
    router_id: int
    provider_id: int | None
    router_name: str
    provider_model: str | None
    endpoint: str
    http_status: int | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    is_estimated: bool
    latency_ms: int | None
    ttft_ms: int | None
    cost_micros: int
    energy_nwh: int
    energy_low_nwh: int
    energy_high_nwh: int
    operational_ng: int
    embodied_ng: int
    carbon_low_ng: int
    carbon_high_ng: int
    water_nl: int
    prefill_nwh: int
    zone: str | None
    zone_effective: str | None
    intensity_kg_per_kwh: float | None
    pue: float | None
    source: str
    method: str
    factors: str
    footprint_status: str
    deployment: str | None
    supersedes: str = ""
    restatement: int = 0


class NewCharge(Struct, kw_only=True):
    """What the caller pays for one job; `job_id` is the primary key, so a second charge is refused."""

    job_id: str
    status: str
    created_ms: int
    user_id: int
    organization_id: int | None
    key_id: int | None
    router_id: int
    router_name: str
    kind: str
    prompt_tokens: int
    completion_tokens: int
    amount_micros: int


_INSERT_USAGE_RECORD = insert_sql("usage_records", NewUsageRecord.__struct_fields__)
_INSERT_LOST = """
INSERT INTO usage_records (id, supersedes, job_id, attempt, status, created_ms, user_id, organization_id, key_id,
    router_id, provider_id, router_name, provider_model, endpoint, prompt_tokens, completion_tokens, cached_tokens,
    reasoning_tokens, is_estimated, cost_micros, energy_nwh, energy_low_nwh, energy_high_nwh, operational_ng,
    embodied_ng, carbon_low_ng, carbon_high_ng, water_nl, prefill_nwh, source, method, factors, footprint_status,
    restatement)
SELECT l.id, '', l.job_id, l.attempt, 'lost', CAST($3 AS BIGINT), j.user_id, j.organization_id, j.key_id,
    j.router_id, l.provider_id, j.router_name, l.provider_model, j.endpoint, 0, 0, 0, 0, true, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 'none', CAST($4 AS TEXT), CAST($5 AS TEXT), 'unknown_params', 0
FROM request_logs l JOIN jobs j ON j.id = l.job_id
WHERE l.job_id = $1 AND l.attempt < $2 AND l.status = 'in_progress' AND l.id >= $6
"""
_INSERT_CHARGE = insert_sql("charges", NewCharge.__struct_fields__)


def insert_usage_record(record: NewUsageRecord) -> Statement:
    """Book what an attempt consumed."""
    return Statement(_INSERT_USAGE_RECORD, astuple(record))


def insert_charge(charge: NewCharge) -> Statement:
    """Book what a job costs its caller."""
    return Statement(_INSERT_CHARGE, astuple(charge))


def insert_lost_records(job_id: str, before_attempt: int, now_ms: int, method: str, factors: str) -> Statement:
    """Book attempts that ended with their worker; what they consumed is not known.  Precedes `lose_attempts`."""
    return Statement(_INSERT_LOST, (job_id, before_attempt, now_ms, method, factors, oldest_row_of(job_id)))
