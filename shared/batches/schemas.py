"""Wire types of /v1/batches.  Source: OpenAI surfaces for asynchronous work, section 5; job model, section 10."""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from shared.batches.items import MAX_LINE
from shared.jobs.schemas import JobStatus, JobWebhook, Metadata, WebhookRequest

VALIDATING: Final = "validating"
RUNNING: Final = "in_progress"
FINALIZING: Final = "finalizing"
CANCELLING: Final = "cancelling"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
EXPIRED: Final = "expired"
CANCELLED: Final = "cancelled"
BATCH_PREFIX: Final = "batch_"
ITEM_PREFIX: Final = "batch_req_"
ENDPOINTS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/rerank")
LOW_CARBON: Final = "low_carbon"
MAX_ERRORS: Final = 100
MAX_INLINE: Final = 5000

CustomId = Annotated[str, Meta(min_length=1, max_length=512)]
BatchStatus = Literal[
    "validating", "in_progress", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled"
]


class OutputExpiry(Struct, kw_only=True):
    """How long the files of results are kept."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3600, le=2_592_000)]


class CreateBatchRequest(Struct, kw_only=True):
    """Body of POST /v1/batches: the lines are in a file, or in `requests`."""

    endpoint: str
    completion_window: str
    input_file_id: str | None = None
    requests: Annotated[list[Raw], Meta(max_length=MAX_INLINE)] | None = None
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None
    start: Literal["asap", "low_carbon"] = "asap"
    item_events: bool = False
    """Tell of each line, too."""
    webhook: WebhookRequest | None = None
    webhook_endpoint_ids: list[str] = []


class BatchLine(Struct, kw_only=True):
    """One line of the input."""

    custom_id: CustomId
    method: str
    url: str
    body: Raw


class BatchError(Struct, kw_only=True):
    """What is wrong with one line, or with the whole file if `line` is null."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrors(Struct, kw_only=True):
    """The first faults of an input."""

    data: list[BatchError]
    object: Literal["list"] = "list"


class RequestCounts(Struct, kw_only=True):
    """Lines by how they ended."""

    total: int
    completed: int
    failed: int


class InputTokensDetails(Struct, kw_only=True):
    """Part of `BatchUsage`."""

    cached_tokens: int


class OutputTokensDetails(Struct, kw_only=True):
    """Part of `BatchUsage`."""

    reasoning_tokens: int


class BatchUsage(Struct, kw_only=True):
    """Tokens of all lines that have ended."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ItemCounts(Struct, kw_only=True):
    """Items by state."""

    queued: int = 0
    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0

    @property
    def open(self) -> int:
        """Return how many have not ended."""
        return self.queued + self.in_progress

    @property
    def unsuccessful(self) -> int:
        """Return how many lines the error file has."""
        return self.failed + self.cancelled + self.expired


class BatchCarbon(Struct, kw_only=True):
    """Operational emissions of a batch by the operator's hourly intensity, gCO2e; null without such a file."""

    baseline_gco2eq: float
    """Had it run at once."""
    actual_gco2eq: float


class BatchExtras(Struct, kw_only=True):
    """What Sluice tells beside OpenAI's members."""

    counts: ItemCounts
    estimated_completion_at: int | None
    starts_at: int | None
    cost: float
    carbon: BatchCarbon | None
    retry_of: str | None
    webhook: JobWebhook | UnsetType = UNSET
    """In the answer to its creation only."""


class Batch(Struct, kw_only=True):
    """A batch as its owner sees it.  Times are Unix seconds."""

    id: str
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
    sluice: BatchExtras
    object: Literal["batch"] = "batch"


class BatchPage(Struct, kw_only=True):
    """One page of batches, newest first."""

    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class ListBatchesQuery(Struct, kw_only=True):
    """Query of GET /v1/batches."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: str | None = None


class ItemUsage(Struct, kw_only=True):
    """Tokens of one item."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ItemError(Struct, kw_only=True):
    """Why an item has no answer."""

    code: str | None
    message: str


class BatchItem(Struct, kw_only=True):
    """One line of a batch and its job."""

    id: str
    line: int
    custom_id: str
    job_id: str
    status: JobStatus
    error: ItemError | None
    usage: ItemUsage | None
    object: Literal["batch.request"] = "batch.request"


class BatchItemPage(Struct, kw_only=True):
    """One page of items, in the order of the input."""

    data: list[BatchItem]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class ListItemsQuery(Struct, kw_only=True):
    """Query of GET /v1/batches/{batch_id}/requests."""

    status: list[JobStatus] = []
    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class BatchResultsQuery(Struct, kw_only=True):
    """Query of GET /v1/batches/{batch_id}/results."""

    starting_line: Annotated[int, Meta(ge=1, le=MAX_LINE)] = 1
    include: list[Literal["input"]] = []
    follow_retries: bool = False


class RetryBatchRequest(Struct, kw_only=True):
    """Which lines of a batch are to be sent again."""

    statuses: list[Literal["failed", "cancelled", "expired"]] | None = None
    custom_ids: list[str] | None = None


class LineResponse(Struct, kw_only=True):
    """Part of `ResultLine`."""

    status_code: int
    request_id: str
    body: Raw


class ResultLine(Struct, kw_only=True):
    """One line of an output or error file; `line` and `input` are in /results only."""

    id: str
    custom_id: str
    response: LineResponse | None
    error: ItemError | None
    line: int | UnsetType = UNSET
    input: Any | UnsetType = UNSET
