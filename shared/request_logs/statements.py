"""Hot writes on `request_logs`."""

from typing import Final

from msgspec import Struct
from msgspec.structs import astuple

from shared.group_commit.units import Statement, insert_sql
from shared.ids import oldest_ulid, ulid_ms

_SKEW_MS: Final = 3_600_000
"""By which the clocks of two machines may differ."""


class StartedAttempt(Struct, kw_only=True):
    """The attempt that begins; everything else comes from the row of its job."""

    log_id: str
    created_ms: int
    worker: str
    provider_id: int
    provider_type: str
    provider_model: str
    job_id: str


class EndedAttempt(Struct, kw_only=True):
    """How an attempt ended."""

    log_id: str
    status: str
    completed_ms: int
    http_status: int | None
    provider_request_id: str | None
    latency_ms: int | None
    ttft_ms: int | None
    prompt_tokens: int
    completion_tokens: int
    is_estimated: bool
    cost_micros: int
    error: str | None
    error_code: str | None
    retry_reason: str | None


class NewRefusal(Struct, kw_only=True):
    """A request that was refused before a job existed."""

    id: str
    created_ms: int
    completed_ms: int
    request_id: str
    method: str
    endpoint: str
    http_status: int
    model: str | None
    key_id: int | None
    user_id: int | None
    organization_id: int | None
    client_address: str | None
    user_agent: str | None
    latency_ms: int
    error: str | None
    error_code: str | None
    retry_count: int
    trace_id: str | None
    content_policy: str
    request_headers: str | None
    request_body: bytes | None
    attempt: int = 0
    status: str = "refused"
    streamed: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_estimated: bool = False
    cost_micros: int = 0


_START = """
INSERT INTO request_logs (id, created_ms, worker, provider_id, provider_type, provider_model, job_id, attempt, status,
    request_id, batch_id, method, endpoint, model, router_id, key_id, user_id, organization_id, client_address,
    user_agent, streamed, queue_ms, retry_count, trace_id, metadata,
    content_policy, prompt_tokens, completion_tokens, is_estimated, cost_micros)
SELECT CAST($1 AS TEXT), CAST($2 AS BIGINT), CAST($3 AS TEXT), CAST($4 AS BIGINT), CAST($5 AS TEXT), CAST($6 AS TEXT),
    id, attempt, 'in_progress', request_id, batch_id, 'POST', endpoint, model, router_id, key_id, user_id,
    organization_id, client_address, user_agent, stream, CAST($2 AS BIGINT) - created_ms, retry_count, trace_id,
    COALESCE(log_metadata, metadata), content_policy, 0, 0, false, 0
FROM jobs WHERE id = $7
"""
_END = """
UPDATE request_logs SET status = $2, completed_ms = $3, http_status = $4, provider_request_id = $5, latency_ms = $6,
    ttft_ms = $7, prompt_tokens = $8, completion_tokens = $9, is_estimated = $10, cost_micros = $11, error = $12,
    error_code = $13, retry_reason = $14
WHERE id = $1
"""
_LOSE = """
UPDATE request_logs SET status = 'lost', completed_ms = $3, error_code = 'worker_lost', retry_reason = 'worker_lost'
WHERE job_id = $1 AND attempt < $2 AND status = 'in_progress' AND id >= $4
"""
_INSERT_REFUSAL = insert_sql("request_logs", NewRefusal.__struct_fields__)


def insert_attempt(attempt: StartedAttempt) -> Statement:
    """Note that an attempt has begun; follows `start_attempt` in its unit.

    That one gives each number of a job out once, so no attempt has two rows, although their ids are new.
    """
    return Statement(_START, astuple(attempt), expects=1)


def end_attempt(attempt: EndedAttempt) -> Statement:
    """Note how an attempt ended."""
    return Statement(_END, astuple(attempt))


def oldest_row_of(job_id: str) -> str:
    """Return an id below those of all attempts of a job: only partitions from its day on have to be looked at."""
    return oldest_ulid(ulid_ms(job_id) - _SKEW_MS)


def lose_attempts(job_id: str, before_attempt: int, now_ms: int) -> Statement:
    """Note that earlier attempts ended with their worker."""
    return Statement(_LOSE, (job_id, before_attempt, now_ms, oldest_row_of(job_id)))


def insert_refusal(refusal: NewRefusal) -> Statement:
    """Note a refused request."""
    return Statement(_INSERT_REFUSAL, astuple(refusal))
