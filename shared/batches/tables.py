"""Table `batches`; the items of a batch are rows of `jobs`."""

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from shared.columns import bigint
from shared.webhooks.statements import EVERYBODY


class BatchRow(SQLModel, table=True):
    """One batch; `id` is the bare ULID.  Text columns named as JSON on the wire hold JSON."""

    __tablename__ = "batches"
    __table_args__ = (
        Index("ix_batches_user", "user_id", "id"),
        Index(
            "ix_batches_open",
            "status",
            sqlite_where=text("finished_ms IS NULL"),
            postgresql_where=text("finished_ms IS NULL"),
        ),
    )

    id: str = Field(primary_key=True)
    shard: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Whose Redis has its items."""
    user_id: int = bigint()
    organization_id: int | None = bigint(default=None)
    key_id: int | None = bigint(default=None)
    status: str
    endpoint: str
    model: str | None = None
    """Null if the lines name several."""
    input_file_id: str | None = None
    completion_window: str
    metadata_: str | None = Field(default=None, sa_column_kwargs={"name": "metadata"})
    request_id: str
    origin: str | None = None
    """Where the request came from, see `api.submission.Origin`."""
    start: str = "asap"
    start_ms: int | None = bigint(default=None)
    """When its items may start, if that is not at once."""
    item_events: bool = False
    notify: str = EVERYBODY
    """Who is told of it, see `shared.webhooks.statements`."""
    retry_of: str | None = None
    output_ttl_s: int = bigint()
    total: int | None = None
    """Lines; null until all of them are jobs."""
    is_fed: bool = False
    """Whether all items have been admitted and put into the queue."""
    lease_owner: str | None = None
    """Api process that reads or feeds it."""
    lease_until_ms: int | None = bigint(default=None)
    errors: str | None = None
    counts: str | None = None
    """`ItemCounts` at the end; until then they are counted."""
    usage: str | None = None
    """`BatchUsage` and cost at the end."""
    baseline_ng: int | None = bigint(default=None)
    actual_ng: int | None = bigint(default=None)
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_ms: int = bigint()
    expires_ms: int = bigint()
    in_progress_ms: int | None = bigint(default=None)
    finalizing_ms: int | None = bigint(default=None)
    completed_ms: int | None = bigint(default=None)
    failed_ms: int | None = bigint(default=None)
    expired_ms: int | None = bigint(default=None)
    cancelling_ms: int | None = bigint(default=None)
    cancelled_ms: int | None = bigint(default=None)
    finished_ms: int | None = bigint(default=None)
