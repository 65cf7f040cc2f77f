"""Table `request_logs`: one row per attempt, and one per request refused before a job existed (`attempt` 0).

It is the list of attempts of a job and the operator's log at once.  On PostgreSQL each day is a partition, see
`partitions`; the index on job and attempt is one of each partition.
"""

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from shared.columns import bigint


class RequestLogRow(SQLModel, table=True):
    __tablename__ = "request_logs"
    __table_args__ = (
        Index("ix_request_logs_job", "job_id", "attempt", unique=True),
        Index("ix_request_logs_user", "user_id", "id"),
        Index(
            "ix_request_logs_batch",
            "batch_id",
            "id",
            sqlite_where=text("batch_id IS NOT NULL"),
            postgresql_where=text("batch_id IS NOT NULL"),
        ),
    )

    id: str = Field(primary_key=True)
    job_id: str | None = None
    attempt: int
    status: str
    """in_progress | succeeded | failed | cancelled | lost | refused"""
    created_ms: int = bigint()
    completed_ms: int | None = bigint(default=None)
    request_id: str
    batch_id: str | None = None
    method: str
    endpoint: str
    http_status: int | None = None
    model: str | None = None
    router_id: int | None = bigint(default=None)
    provider_id: int | None = bigint(default=None)
    provider_type: str | None = None
    provider_model: str | None = None
    provider_request_id: str | None = None
    worker: str | None = None
    key_id: int | None = bigint(default=None)
    user_id: int | None = bigint(default=None)
    organization_id: int | None = bigint(default=None)
    client_address: str | None = None
    user_agent: str | None = None
    streamed: bool = False
    queue_ms: int | None = bigint(default=None)
    ttft_ms: int | None = bigint(default=None)
    latency_ms: int | None = bigint(default=None)
    prompt_tokens: int = bigint(default=0)
    completion_tokens: int = bigint(default=0)
    is_estimated: bool = False
    cost_micros: int = bigint(default=0)
    error: str | None = None
    error_code: str | None = None
    retry_reason: str | None = None
    retry_count: int = 0
    trace_id: str | None = None
    metadata_: str | None = Field(default=None, sa_column_kwargs={"name": "metadata"})
    content_policy: str | None = None
    """That of the job, or of the refused caller; None if nobody noted it."""
    request_headers: str | None = None
    request_body: bytes | None = None
    """Of refused requests only; others have theirs in `jobs`."""
