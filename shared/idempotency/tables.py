"""Table `idempotency_keys`: which job a request with an `Idempotency-Key` made."""

from sqlmodel import Field, SQLModel

from shared.columns import bigint


class IdempotencyKeyRow(SQLModel, table=True):
    """`id` is a digest of user, method, route and key; the primary key decides between simultaneous first requests."""

    __tablename__ = "idempotency_keys"

    id: str = Field(primary_key=True)
    fingerprint: str
    """Of the request: SHA-256 of its canonical JSON."""
    job_id: str
    prefers: str
    """What was asked for: `wait`, `async`, or `async-wait`."""
    http_status: int | None = None
    """Of the answer, unless it is that of the job."""
    body: bytes | None = None
    """The answer, sealed, since it may contain a secret."""
    expires_ms: int = bigint(index=True)
