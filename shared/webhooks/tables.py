"""Tables `webhook_endpoints`, `webhook_deliveries` and `webhook_attempts`.

A delivery is one event on its way to one endpoint.  `due_ms` says when somebody has to look at it again: the next try,
or the end of the lease of the one that is under way; None once it is over or paused.
"""

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from shared.columns import bigint


class WebhookEndpointRow(SQLModel, table=True):
    """Where events go; `id` is the bare ULID.  Text columns named as JSON on the wire hold JSON."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        Index(
            "ix_webhook_endpoints_standing",
            "user_id",
            "id",
            sqlite_where=text("object_id IS NULL"),
            postgresql_where=text("object_id IS NULL"),
        ),
    )

    id: str = Field(primary_key=True)
    user_id: int = bigint()
    object_id: str | None = None
    """Bare id of the one job or batch it was made for; None: it stands, for all objects of its user."""
    name: str
    description: str | None = None
    url: str
    event_types: str
    kinds: str | None = None
    headers_sealed: bytes | None = None
    include_result: bool = False
    secrets_sealed: bytes
    """See `shared.webhooks.signature`."""
    secret_hint: str
    status: str = "enabled"
    """enabled | disabled"""
    disabled_reason: str | None = None
    created_ms: int = bigint()
    updated_ms: int = bigint()
    streak: int = 0
    """Failed tries in a row."""
    recent: int = bigint(default=0)
    """The last 20 tries as bits; 1 is a failure."""
    recent_count: int = 0
    failing_since_ms: int | None = bigint(default=None)
    """First failure since the last success."""
    pause_s: int = 0
    """Length of the current pause of the breaker; 0: it is closed."""
    open_until_ms: int | None = bigint(default=None)
    probe_until_ms: int | None = bigint(default=None)
    """Until then the one try of a half-open breaker may be under way."""


class WebhookDeliveryRow(SQLModel, table=True):
    """One event for one endpoint."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(
            "ix_webhook_deliveries_due",
            "due_ms",
            sqlite_where=text("due_ms IS NOT NULL"),
            postgresql_where=text("due_ms IS NOT NULL"),
        ),
        Index(
            "ix_webhook_deliveries_paused",
            "endpoint_id",
            sqlite_where=text("status = 'paused'"),
            postgresql_where=text("status = 'paused'"),
        ),
        Index("ix_webhook_deliveries_endpoint", "endpoint_id", "id"),
    )

    id: str = Field(primary_key=True)
    endpoint_id: str
    user_id: int = bigint()
    event_id: str
    """Bare; `webhook-id` of all tries."""
    event_type: str
    object_id: str
    """Bare id of the job, batch, .. that the event is about."""
    data: str
    """`data` of the event."""
    is_test: bool = False
    traceparent: str | None = None
    tracestate: str | None = None
    created_ms: int = bigint()
    status: str
    """pending | delivering | delivered | failed | exhausted | paused | aborted"""
    origin: str = "scheduled"
    """Why it is tried: scheduled | manual | recover | test"""
    due_ms: int | None = bigint(default=None)
    lease: str | None = None
    """Names the try that is under way."""
    attempts: int = 0
    """Tries begun, of all schedules."""
    step: int = 0
    """Tries of the current schedule whose outcome is known."""
    delivered_ms: int | None = bigint(default=None)


class WebhookAttemptRow(SQLModel, table=True):
    """One try of a delivery, as it ended."""

    __tablename__ = "webhook_attempts"

    delivery_id: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    origin: str
    started_ms: int = bigint()
    latency_ms: int
    status_code: int | None = None
    error_class: str | None = None
    error: str | None = None
    remote_address: str | None = None
    response_snippet: str | None = None
