"""Tables `jobs`, `job_results` and `job_events`: the truth about every accepted request."""

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from shared.columns import bigint


class JobRow(SQLModel, table=True):
    """One job; `id` is the bare ULID.  Text columns named as JSON on the wire hold JSON."""

    __tablename__ = "jobs"
    __table_args__ = (
        # what the reconciler of a shard looks for each second, however many others there are, finished or queued
        Index(
            "ix_jobs_unfinished_by_shard",
            "shard",
            "created_ms",
            "id",
            sqlite_where=text("finished_ms IS NULL"),
            postgresql_where=text("finished_ms IS NULL"),
        ),
        Index(
            "ix_jobs_cancelled",
            "shard",
            sqlite_where=text("finished_ms IS NULL AND cancel_requested_ms IS NOT NULL"),
            postgresql_where=text("finished_ms IS NULL AND cancel_requested_ms IS NOT NULL"),
        ),
        Index(
            "ix_jobs_expiry",
            "shard",
            "expires_ms",
            sqlite_where=text("finished_ms IS NULL AND started_ms IS NULL"),
            postgresql_where=text("finished_ms IS NULL AND started_ms IS NULL"),
        ),
        Index("ix_jobs_user", "user_id", "id"),
        Index(
            "ix_jobs_admitted",
            "organization_id",
            "user_id",
            sqlite_where=text("finished_ms IS NULL AND admission IS NOT NULL"),
            postgresql_where=text("finished_ms IS NULL AND admission IS NOT NULL"),
        ),
        Index(
            "ix_jobs_batch",
            "batch_id",
            "status",
            sqlite_where=text("batch_id IS NOT NULL"),
            postgresql_where=text("batch_id IS NOT NULL"),
        ),
        Index(
            "ix_jobs_removal",
            "result_expires_ms",
            sqlite_where=text("removed_ms IS NULL AND result_expires_ms IS NOT NULL"),
            postgresql_where=text("removed_ms IS NULL AND result_expires_ms IS NOT NULL"),
        ),
        Index(
            "ix_jobs_vote",
            "id",
            "vote",
            sqlite_where=text("vote IS NOT NULL"),
            postgresql_where=text("vote IS NOT NULL"),
        ),
        Index(
            "ix_jobs_tombstones",
            "removed_ms",
            sqlite_where=text("removed_ms IS NOT NULL"),
            postgresql_where=text("removed_ms IS NOT NULL"),
        ),
    )

    id: str = Field(primary_key=True)
    shard: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Whose Redis has it."""
    kind: str
    endpoint: str
    dialect: str = "openai"
    """See `shared.dialects`."""
    status: str
    band: int
    stream: bool
    store: bool | None = None
    background: bool = False
    """Of a response: made to be read later, whoever is there."""
    user_id: int = bigint()
    organization_id: int | None = bigint(default=None)
    key_id: int | None = bigint(default=None)
    router_id: int = bigint()
    router_name: str
    model: str
    price_prompt: str
    price_completion: str
    priority: int = 0
    cost_estimate: float = 1.0
    """Share of the tenant's turn in the queue: estimated tokens / 1000."""
    metadata_: str | None = Field(default=None, sa_column_kwargs={"name": "metadata"})
    log_metadata: str | None = None
    """What the request log keeps of it instead, if some of its values are not to be there."""
    end_user: str | None = None
    batch_id: str | None = None
    custom_id: str | None = None
    held: bool = False
    """Not to be put into the queue yet: an item of a batch that has not been admitted."""
    idempotency_key: str | None = None
    retry_of: str | None = None
    retried_by: str | None = None
    created_ms: int = bigint()
    not_before_ms: int | None = bigint(default=None)
    expires_ms: int = bigint()
    timeout_s: int
    result_ttl_s: int
    max_attempts: int
    on_worker_lost: str = "retry"
    cancel_when_unread: bool = False
    strict: bool = False
    """Parameters that a provider cannot take are refused instead of dropped."""
    request_id: str
    client_request_id: str | None = None
    trace_id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    client_address: str | None = None
    user_agent: str | None = None
    retry_count: int = 0
    request_headers: str | None = None
    content_policy: str | None = None
    """That of its organization when it came in; None if nobody noted it."""
    inbox: str | None = None
    admission: str | None = None
    """What it may use, see `shared.admission.records`; None if nothing limits its caller."""
    notify: str | None = None
    """Which webhook endpoints are told, see `shared.webhooks.statements`; None: nobody."""
    attempt: int = 0
    started_ms: int | None = bigint(default=None)
    next_attempt_ms: int | None = bigint(default=None)
    cancel_requested_ms: int | None = bigint(default=None)
    finished_ms: int | None = bigint(default=None)
    result_expires_ms: int | None = bigint(default=None)
    removed_ms: int | None = bigint(default=None)
    removed_reason: str | None = None
    error: str | None = None
    usage: str | None = None
    incomplete_reason: str | None = None
    vote: str | None = None
    dropped_params: str | None = None
    """JSON list of the parameters that the provider of the last attempt could not take."""
    version: int = 1
    request: bytes | None = None
    """The body as received; `queries.LIGHT` leaves it out where it is not needed."""


class JobResultRow(SQLModel, table=True):
    """What a finished job left behind; removed by retention."""

    __tablename__ = "job_results"

    job_id: str = Field(primary_key=True)
    content_type: str
    body: bytes
    frames: bytes | None = None
    """The streamed frames, see `shared.replies.frames`; None unless the job ran as a stream or its kind keeps a log."""


class JobEventRow(SQLModel, table=True):
    """The terminal event of a job, in the transaction that ends it: the outbox of webhooks."""

    __tablename__ = "job_events"

    job_id: str = Field(primary_key=True)
    id: str
    type: str
    created_ms: int = bigint()
