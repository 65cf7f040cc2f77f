"""Wire types of GET /v1/request_logs.  Source: the job model, section 12."""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.ids import JOB_PREFIXES
from shared.jobs.schemas import UnixSeconds
from shared.lists import CursorPage, Name, RowId
from shared.usage.schemas import Impacts

LOG_PREFIX: Final = "rlog_"
LogStatus = Literal["in_progress", "completed", "failed", "cancelled", "lost", "refused"]
_ULID: Final = "[0-9a-hjkmnp-tv-z]{26}"
JobId = Annotated[str, Meta(pattern=f"^({'|'.join(JOB_PREFIXES)}){_ULID}$", description="`job_..`, or an alias.")]
BatchId = Annotated[str, Meta(pattern=f"^(batch_)?{_ULID}$")]
Text = Annotated[str, Meta(max_length=512)]
Amount = Annotated[float, Meta(ge=0, le=10**12)]
"""Of money; larger ones fit no column."""
Count = Annotated[int, Meta(ge=0, le=2**53)]


class ListRequestLogsQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Filters of the request log; all of them must match.  `status` may be repeated."""

    job_id: JobId | None = None
    batch_id: BatchId | None = None
    request_id: Text | None = None
    endpoint: Text | None = None
    method: Text | None = None
    status: list[LogStatus] = []
    http_status: Annotated[int, Meta(ge=100, le=599)] | None = None
    model: Text | None = None
    """As called."""
    provider_id: RowId | None = None
    provider_model: Text | None = None
    """As the provider calls it."""
    key_id: RowId | None = None
    user_id: RowId | None = None
    organization_id: RowId | None = None
    key: Name | None = None
    """By its name as it is today, like the next two, or by its id; several may have the same."""
    user: Name | None = None
    """Email."""
    organization: Name | None = None
    error_code: Text | None = None
    vote: Literal["up", "down"] | None = None
    created_after: UnixSeconds | None = None
    created_before: UnixSeconds | None = None
    min_latency_ms: Count | None = None
    max_latency_ms: Count | None = None
    min_tokens: Count | None = None
    """Prompt and completion."""
    max_tokens: Count | None = None
    min_cost: Amount | None = None
    max_cost: Amount | None = None
    streamed: bool | None = None
    metadata: dict[str, str] = {}
    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    order: Literal["asc", "desc"] = "desc"


class RequestLog(Struct, kw_only=True):
    """One attempt of a job, or one request that was refused before it was a job.

    `cost` is what the attempt consumed; `http_status` is that of the provider, or of the refusal.  Names are those of
    today, null if what they named is gone; files have ids only.
    """

    id: str
    created_at: int
    request_id: str
    job_id: str | None
    batch_id: str | None
    attempt: int
    method: str
    endpoint: str
    status: LogStatus
    http_status: int | None
    model: str | None
    provider_id: int | None
    provider_model: str | None
    key_id: int | None
    user_id: int | None
    organization_id: int | None
    client_address: str | None
    user_agent: str | None
    streamed: bool
    queue_ms: int | None
    ttft_ms: int | None
    latency_ms: int | None
    prompt_tokens: int
    completion_tokens: int
    cost: float
    impacts: Impacts | None
    error_code: str | None
    retry_count: int
    vote: str | None
    trace_id: str | None
    metadata: dict[str, str] | None
    key_name: str | UnsetType | None = UNSET
    user_email: str | UnsetType | None = UNSET
    organization_name: str | UnsetType | None = UNSET
    request_headers: dict[str, str] | UnsetType | None = UNSET
    request: Any = UNSET
    response: Any = UNSET
    object: Literal["request_log"] = "request_log"


RANGES: Final = (
    ("created_after", "created_before"), ("min_latency_ms", "max_latency_ms"), ("min_tokens", "max_tokens"),
    ("min_cost", "max_cost"),
)  # fmt: skip
"""Members of `ListRequestLogsQuery` that bound the same."""
RequestLogPage = CursorPage[RequestLog]
"""One page of the log, newest first unless asked otherwise."""


Parts = Annotated[str, Meta(pattern=r"^(request|response)(,(request|response))*$")]


class GetRequestLogQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """`include` adds bodies, as long as they are kept: `request,response`, or repeated."""

    include: list[Parts] = []
