"""Wire types of /v1/jobs.  Source: the job model, sections 2 to 7."""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from shared.errors import StoredError
from shared.ids import JOB_PREFIXES
from shared.lists import CursorPage
from shared.usage.schemas import Usage

QUEUED: Final = "queued"
IN_PROGRESS: Final = "in_progress"
COMPLETED: Final = "completed"
INCOMPLETE: Final = "incomplete"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"
TERMINAL: Final = frozenset({COMPLETED, INCOMPLETE, FAILED, CANCELLED, EXPIRED})
WITH_RESULT: Final = frozenset({COMPLETED, INCOMPLETE})

INTERACTIVE: Final = "interactive"
BACKGROUND: Final = "background"
BATCH: Final = "batch"
BANDS: Final[tuple["Band", ...]] = (INTERACTIVE, BACKGROUND, BATCH)

CHAT_COMPLETION: Final = "chat.completion"
CHAT_ATTRIBUTES: Final = "chat.attributes"
INFERENCE: Final = "inference"
COMPLETION: Final = "completion"
EMBEDDING: Final = "embedding"
RERANK: Final = "rerank"
RESPONSE: Final = "response"
AUDIO_TRANSCRIPTION: Final = "audio.transcription"
AUDIO_SPEECH: Final = "audio.speech"
OCR: Final = "ocr"
INGESTION: Final = "ingestion"
KINDS_WITH_FILES: Final = frozenset({AUDIO_TRANSCRIPTION, OCR, INGESTION})
"""A job of these may have a file, see `shared.files.store`."""
ALIAS_PREFIX: Final = {
    CHAT_COMPLETION: "chatcmpl-", CHAT_ATTRIBUTES: "chatcmpl-", COMPLETION: "cmpl-", EMBEDDING: "embd-",
    RESPONSE: "resp_",
}  # fmt: skip
"""Kind → prefix of the id that its own route gives out."""

UnixSeconds = Annotated[int, Meta(ge=0, le=2**40)]
JobStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled", "expired"]
Band = Literal["interactive", "background", "batch"]
Metadata = Annotated[
    dict[
        Annotated[str, Meta(max_length=64, pattern=r"^[^\x00]*$")],
        Annotated[str, Meta(max_length=512, pattern=r"^[^\x00]*$")],
    ],
    Meta(max_length=16, description="At most 16 pairs; keys to 64, values to 512 characters."),
]


class JobMembers(Struct, kw_only=True):
    """What the body of an inference request says of its job."""

    metadata: Metadata | None = None
    store: Annotated[bool | None, Meta(description="False: the result is kept for an hour only.")] = None
    user: Annotated[str, Meta(max_length=512, pattern=r"^[^\x00]*$")] | None = None


class JobUrls(Struct, kw_only=True):
    """Where the parts of a job are."""

    self: str
    result: str
    events: str
    attempts: str
    cancel: str


class WebhookRequest(Struct, kw_only=True):
    """Where the events of one object go, besides the standing endpoints."""

    url: Annotated[str, Meta(max_length=2048)]
    events: Annotated[list[str], Meta(min_length=1, max_length=64)] | None = None
    """Unset: all ends."""
    secret: Annotated[str, Meta(max_length=128)] | None = None
    """`whsec_` and 24 to 64 bytes as base64; without, one is made."""
    include_result: bool = False


class JobWebhook(Struct, kw_only=True):
    """The endpoint that was made for one job."""

    endpoint_id: str
    url: str
    events: list[str]
    secret: str | None
    """If it was made by Sluice; shown this one time."""
    include_result: bool


class JobProgress(Struct, kw_only=True):
    """How far a running stream is; 0 otherwise."""

    output_tokens: int
    events: int


class Job(Struct, kw_only=True):
    """A job as its owner sees it.  Times are Unix seconds."""

    id: str
    kind: str
    endpoint: str
    status: JobStatus
    model: str
    batch_id: str | None
    custom_id: str | None
    band: Band
    priority: int
    metadata: dict[str, str]
    user: str | None
    created_at: int
    not_before: int | None
    started_at: int | None
    completed_at: int | None
    expires_at: int
    timeout: int
    result_expires_at: int | None
    attempt: int
    max_attempts: int
    next_attempt_at: int | None
    retry_of: str | None
    retried_by: str | None
    queue_position: int | None
    estimated_start_at: int | None
    progress: JobProgress
    usage: Usage | None
    dropped_params: list[str]
    error: StoredError | None
    incomplete_details: dict[str, str] | None
    cancel_requested_at: int | None
    idempotency_key: str | None
    request_id: str
    client_request_id: str | None
    trace_id: str | None
    aliases: list[str]
    urls: JobUrls
    webhook: JobWebhook | UnsetType = UNSET
    """Only in the answer to the request that brought one."""
    object: Literal["job"] = "job"


JobPage = CursorPage[Job]
"""One page of jobs, newest first unless asked otherwise; never with result bodies."""


class CreateJobRequest(Struct, kw_only=True):
    """Any inference request as a job that nobody waits for."""

    endpoint: Annotated[str, Meta(description="Path of an inference route.", examples=["/v1/chat/completions"])]
    body: Annotated[Raw, Meta(description="Of that route.", extra_json_schema={"type": "object"})]
    metadata: Metadata | None = None
    priority: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    """At most the user's."""
    not_before: UnixSeconds | None = None
    """Earliest start, at most 30 days ahead."""
    start_timeout: Annotated[int, Meta(ge=1, le=604_800)] | None = None
    timeout: Annotated[int, Meta(ge=1)] | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=10)] | None = None
    result_ttl: Annotated[int, Meta(ge=60, le=7_776_000)] | None = None
    on_worker_lost: Literal["retry", "fail"] | None = None
    webhook: WebhookRequest | None = None
    """Told besides the standing endpoints."""
    webhook_endpoint_ids: Annotated[list[str], Meta(max_length=100)] = []
    """Of the standing endpoints, only these are told; empty: all that subscribe."""


class ListJobsQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Query of GET /v1/jobs.  `status` may be repeated; `metadata[key]=value` filters by metadata."""

    status: list[JobStatus] = []
    kind: str | None = None
    model: str | None = None
    band: Band | None = None
    batch_id: str | None = None
    custom_id: str | None = None
    user: str | None = None
    metadata: dict[str, str] = {}
    created_after: UnixSeconds | None = None
    created_before: UnixSeconds | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: str | None = None
    order: Literal["asc", "desc"] = "desc"

    @property
    def bare_batch_id(self) -> str | None:
        """Return the batch as jobs name it."""
        return None if self.batch_id is None else self.batch_id.removeprefix("batch_")


class WaitQuery(Struct, kw_only=True):
    """`wait` seconds are waited for the end of the job, at most 60."""

    wait: Annotated[float, Meta(ge=0)] = 0.0


class JobFrame(Struct, kw_only=True):
    """`data` of a lifecycle frame of /events; `job` is in terminal frames only."""

    type: str
    job_id: str
    created_at: int
    attempt: int
    error: StoredError | None = None
    next_attempt_at: int | None = None
    job: Job | None = None


class JobDeleted(Struct, kw_only=True):
    """Answer of DELETE /v1/jobs/{job_id}."""

    id: str
    deleted: bool
    object: Literal["job.deleted"] = "job.deleted"


class EventItem(Struct, kw_only=True):
    """One frame of /events as JSON: `data` is the frame's document."""

    id: str
    event: str | None
    data: Any


class EventList(Struct, kw_only=True):
    """Frames of /events as JSON."""

    data: list[EventItem]
    has_more: bool
    object: Literal["list"] = "list"


class EventsQuery(Struct, kw_only=True):
    """Query of GET /v1/jobs/{job_id}/events; `limit` counts for JSON only."""

    starting_after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class BandDepth(Struct, kw_only=True):
    """Part of `Queue`."""

    band: Band
    queued: int


class ModelDepth(Struct, kw_only=True):
    """Part of `Queue`; `started_per_minute` counts the attempts of everybody over the last five minutes."""

    model: str
    queued: int
    in_progress: int
    started_per_minute: float


class Queue(Struct, kw_only=True):
    """Unfinished jobs: the caller's own, an administrator's view is of all."""

    depth: int
    """Queued, batches that are held back by limits included."""
    in_progress: int
    oldest_queued_seconds: int
    bands: list[BandDepth]
    models: list[ModelDepth]
    object: Literal["queue"] = "queue"


class JobTombstone(Struct, kw_only=True):
    """What is left of a job whose request and result were removed."""

    id: str
    kind: str
    status: JobStatus
    model: str
    created_at: int
    completed_at: int | None
    removed_at: int
    reason: str
    usage: Usage | None
    object: Literal["job.tombstone"] = "job.tombstone"


def public_id(job_id: str) -> str:
    """Return the id of a job on /v1/jobs."""
    return JOB_PREFIXES[0] + job_id


def alias_of(kind: str, job_id: str) -> str:
    """Return the id of a job on the route that made it."""
    return ALIAS_PREFIX.get(kind, JOB_PREFIXES[0]) + job_id
