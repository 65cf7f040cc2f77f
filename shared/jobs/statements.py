"""Hot writes on `jobs` and its companions, for the group-commit writer.

Every change of a job is a compare-and-set on its attempt; `expects=1` undoes the whole unit when somebody was faster.
"""

from msgspec import Struct
from msgspec.structs import astuple

from shared.dialects import OPENAI
from shared.group_commit.units import Statement, insert_sql


class NewJob(Struct, kw_only=True):
    """A job to insert; fields are named as their columns, see `shared.jobs.tables`."""

    id: str
    kind: str
    endpoint: str
    status: str
    band: int
    stream: bool
    store: bool | None
    user_id: int
    organization_id: int | None
    key_id: int | None
    router_id: int
    router_name: str
    model: str
    price_prompt: str
    price_completion: str
    priority: int
    cost_estimate: float
    metadata: str | None
    end_user: str | None
    created_ms: int
    not_before_ms: int | None
    expires_ms: int
    timeout_s: int
    result_ttl_s: int
    max_attempts: int
    on_worker_lost: str
    cancel_when_unread: bool
    request_id: str
    client_request_id: str | None
    trace_id: str | None
    traceparent: str | None
    tracestate: str | None = None
    client_address: str | None
    user_agent: str | None
    retry_count: int
    request_headers: str | None
    inbox: str | None
    admission: str | None
    request: bytes
    content_policy: str | None = None
    log_metadata: str | None = None
    dialect: str = OPENAI
    shard: int = 0
    background: bool = False
    batch_id: str | None = None
    custom_id: str | None = None
    held: bool = False
    strict: bool = False
    dropped_params: str | None = None
    idempotency_key: str | None = None
    retry_of: str | None = None
    retried_by: str | None = None
    attempt: int = 0
    version: int = 1
    started_ms: int | None = None
    next_attempt_ms: int | None = None
    cancel_requested_ms: int | None = None
    finished_ms: int | None = None
    result_expires_ms: int | None = None
    error: str | None = None
    usage: str | None = None
    vote: str | None = None
    notify: str | None = None
    """None: `*` if its user has a standing webhook endpoint at this moment, and it is no item of a batch."""


class FinishedJob(Struct, kw_only=True):
    """How a job ended."""

    id: str
    attempt: int
    """The attempt that decides; the change is refused if another one has begun."""
    status: str
    finished_ms: int
    result_expires_ms: int
    error: str | None
    usage: str
    incomplete_reason: str | None = None
    dropped_params: str | None = None


class NewResult(Struct, kw_only=True):
    """What a finished job leaves behind."""

    job_id: str
    content_type: str
    body: bytes
    frames: bytes | None


class NewJobEvent(Struct, kw_only=True):
    """The terminal event of a job."""

    job_id: str
    id: str
    type: str
    created_ms: int


_PLACE = {name: f"${number}" for number, name in enumerate(NewJob.__struct_fields__, 1)}
# asked in the transaction that accepts the job: no endpoint that exists by then is missed, whatever processes know
_NOTIFY = f"""COALESCE({_PLACE["notify"]}, CASE WHEN CAST({_PLACE["batch_id"]} AS TEXT) IS NULL AND EXISTS (
    SELECT 1 FROM webhook_endpoints e WHERE e.user_id = {_PLACE["user_id"]} AND e.object_id IS NULL) THEN '*' END)"""  # noqa: S608  # names from the code
_INSERT_JOB = (
    insert_sql("jobs", NewJob.__struct_fields__).removesuffix(f"{_PLACE['notify']})") + _NOTIFY + ") RETURNING notify"
)
_INSERT_RESULT = insert_sql("job_results", NewResult.__struct_fields__)
_INSERT_EVENT = insert_sql("job_events", NewJobEvent.__struct_fields__)

_START = """
UPDATE jobs SET status = 'in_progress', attempt = attempt + 1, version = version + 1, next_attempt_ms = NULL,
    started_ms = COALESCE(started_ms, $2)
WHERE id = $1 AND finished_ms IS NULL AND cancel_requested_ms IS NULL AND attempt < max_attempts
    AND (started_ms IS NOT NULL OR expires_ms > $2) AND (status = 'queued' OR on_worker_lost = 'retry')
RETURNING attempt, max_attempts, started_ms
"""
_FINISH = """
UPDATE jobs SET status = $3, finished_ms = $4, result_expires_ms = $5, error = $6, usage = $7,
    incomplete_reason = $8, dropped_params = $9, next_attempt_ms = NULL, version = version + 1
WHERE id = $1 AND attempt = $2 AND finished_ms IS NULL
"""
_FINISH_QUEUED = _FINISH.rstrip() + " AND status = 'queued'\n"
_RETRY = """
UPDATE jobs SET status = 'queued', next_attempt_ms = $3, max_attempts = max_attempts + $4, version = version + 1
WHERE id = $1 AND attempt = $2 AND finished_ms IS NULL AND status = 'in_progress'
"""
_NOTE_RETRY = """
UPDATE jobs SET retried_by = $2, version = version + 1 WHERE id = $1 AND retried_by IS NULL AND finished_ms IS NOT NULL
"""
_FORGET_RETRY = "UPDATE jobs SET retried_by = NULL, version = version + 1 WHERE id = $1 AND retried_by = $2"
_REQUEST_CANCEL = """
UPDATE jobs SET cancel_requested_ms = $2, version = version + 1
WHERE id = $1 AND finished_ms IS NULL AND cancel_requested_ms IS NULL
RETURNING id
"""


def insert_job(job: NewJob) -> Statement:
    """Accept a job; returns (notify)."""
    return Statement(_INSERT_JOB, astuple(job))


def start_attempt(job_id: str, now_ms: int) -> Statement:
    """Begin the next attempt; returns (attempt, max_attempts, started_ms).

    Refused if the job is over, is to be cancelled, has no attempt left, came too late for its first start, or lost its
    worker and must not be repeated.
    """
    return Statement(_START, (job_id, now_ms), expects=1)


def finish_job(job: FinishedJob, *, only_queued: bool = False) -> Statement:
    """End a job; with `only_queued`, refused if it has begun."""
    parameters = (
        job.id, job.attempt, job.status, job.finished_ms, job.result_expires_ms, job.error, job.usage,
        job.incomplete_reason,
        job.dropped_params,
    )  # fmt: skip
    return Statement(_FINISH_QUEUED if only_queued else _FINISH, parameters, expects=1)


def retry_job(job_id: str, attempt: int, next_attempt_ms: int, *, does_count: bool) -> Statement:
    """Return a job to the queue; a try that does not count allows one more, since attempts only ever grow."""
    return Statement(_RETRY, (job_id, attempt, next_attempt_ms, 0 if does_count else 1), expects=1)


def note_retry(job_id: str, retried_by: str) -> Statement:
    """Name the job that repeats this one; refused if there is one."""
    return Statement(_NOTE_RETRY, (job_id, retried_by), expects=1)


def forget_retry(job_id: str, retry_id: str) -> Statement:
    """Undo `note_retry`."""
    return Statement(_FORGET_RETRY, (job_id, retry_id))


def request_cancel(job_id: str, now_ms: int) -> Statement:
    """Flag a job to be cancelled; returns (id), nothing if there is no such job or it is over."""
    return Statement(_REQUEST_CANCEL, (job_id, now_ms))


def insert_result(result: NewResult) -> Statement:
    """Keep what a job left behind."""
    return Statement(_INSERT_RESULT, astuple(result))


def insert_event(event: NewJobEvent) -> Statement:
    """Note the terminal event."""
    return Statement(_INSERT_EVENT, astuple(event))
