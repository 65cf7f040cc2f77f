"""Wire types of attempts and of POST /v1/requests."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.errors import StoredError
from shared.lists import CursorPage
from shared.usage.schemas import FootprintRecord


class AttemptUsage(Struct, kw_only=True):
    """Tokens of one attempt; `estimated` if the provider reported none."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated: bool


class Attempt(Struct, kw_only=True):
    """One call of a provider.  `cost` is what it consumed, which a failed job is not charged."""

    id: str
    number: int
    status: Literal["in_progress", "succeeded", "failed", "cancelled", "lost"]
    provider_id: int | None
    provider_type: str | None
    provider_model: str | None
    provider_request_id: str | None
    worker: str | None
    started_at: int
    first_token_at: int | None
    completed_at: int | None
    latency_ms: int | None
    ttft_ms: int | None
    http_status: int | None
    error: StoredError | None
    retry_reason: str | None
    usage: AttemptUsage
    cost: float
    footprint: FootprintRecord | None
    object: Literal["job.attempt"] = "job.attempt"


AttemptPage = CursorPage[Attempt]
"""Attempts of a job, oldest first."""


class QueryRequestsRequest(Struct, kw_only=True):
    """Body of POST /v1/requests: `period` minutes back from `timestamp` (ISO 8601, default now)."""

    period: Literal[15, 30, 45, 60]
    timestamp: str | None = None
    endpoint: Annotated[str, Meta(max_length=255, pattern=r"^[^\x00]*$")] | None = None


class LoggedRequest(Struct, kw_only=True):
    """One request; headers and bodies are texts.  Running ones have no code yet."""

    timestamp: str
    method: str
    endpoint: str
    request_headers: str
    request_body: str
    response_body: str
    response_code: int | None
    status_code: int | None
    request_id: str
    job_id: str | None
    model: str | None
    latency_ms: int | None
    prompt_tokens: int
    completion_tokens: int
    cost: float


class LoggedRequests(Struct, kw_only=True):
    """Requests of the caller, newest first."""

    requests: list[LoggedRequest]
    truncated: bool
