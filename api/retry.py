"""Send a job that did not succeed again: a new job with the same request, settings and metadata."""

from typing import Any, Final

from msgspec import Raw, json
from msgspec.structs import replace

from api.answer import answer
from api.call import Call
from api.http import REQUESTS, Endpoint, Reply
from api.idempotency import refuse_withdrawn
from api.own_jobs import find_own_job
from api.prefer import Prefer
from api.render import metadata_of, to_job
from api.state import state_of
from api.submit import submit
from shared.errors import ConflictError, StorageUnavailableError
from shared.files.store import FileGoneError, FileStoreError
from shared.group_commit.units import StaleError
from shared.ids import new_ulid
from shared.jobs.queries import get_request
from shared.jobs.schemas import (
    AUDIO_TRANSCRIPTION,
    CANCELLED,
    CHAT_COMPLETION,
    EMBEDDING,
    EXPIRED,
    FAILED,
    OCR,
    RERANK,
    CreateJobRequest,
    public_id,
)
from shared.jobs.tables import JobRow
from shared.ocr.documents import STORED, with_url
from shared.ocr.schemas import OcrRequest

_RAG: Final = frozenset({"/v1/chat/completions/RAG", "/v1/chat/completions/rag"})
_RETRYABLE: Final = frozenset({FAILED, CANCELLED, EXPIRED})
_ROUTES: Final = {
    CHAT_COMPLETION: "/v1/chat/completions", EMBEDDING: "/v1/embeddings", RERANK: "/v1/rerank", OCR: "/v1/ocr",
}  # fmt: skip
"""Kind → route that takes the requests of its jobs, also of those that another route made: searches, RAG chats."""


class JobNotRetryableError(ConflictError):
    """The job runs, or has succeeded."""

    code = "job_not_retryable"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"x-should-retry": "false"})


async def retry(call: Call, row: JobRow) -> Reply[Any]:
    """Return the new job, or the one that an earlier retry made.

    Raises `JobNotRetryableError`, and what the job's own route raises.
    """
    if row.retried_by is not None:
        return await _earlier(call, row)
    if row.status not in _RETRYABLE:
        raise JobNotRetryableError(f"The job is {row.status}.")
    endpoint = _find_endpoint(call, row)
    if endpoint is None:  # what it was to fill is gone
        raise JobNotRetryableError("Ingestions are sent again on their own route.")
    call.options, call.dialect = _options(row), row.dialect
    call.state = state_of(call.state, call.caller.shard)
    request = await _read(call, row, endpoint)
    if endpoint.prepare is None:
        raise TypeError(f"{endpoint.path} makes no jobs")
    submission = await endpoint.prepare(call, request)
    try:
        submission = replace(submission, endpoint=row.endpoint)
        submitted = await submit(call, submission, Prefer(respond_async=True, is_strict=row.strict), None, retry_of=row)
    except StaleError:  # another request was first
        return await _earlier(call, await find_own_job(call, public_id(row.id)))
    return await answer(call, submitted)


def _find_endpoint(call: Call, row: JobRow) -> Endpoint | None:
    """Return the route that takes the stored request; None if there is none."""
    requests = call.request.app[REQUESTS]
    is_own = row.endpoint in requests and row.endpoint not in _RAG
    return requests.get(row.endpoint if is_own else _ROUTES.get(row.kind, ""))


async def _earlier(call: Call, row: JobRow) -> Reply[Any]:
    later = await find_own_job(call, public_id(row.retried_by or ""))
    await refuse_withdrawn(call, later)
    return Reply(body=json.encode(to_job(later)))


def _options(row: JobRow) -> CreateJobRequest:
    """Return the settings of the job, as if they were asked for again."""
    return CreateJobRequest(
        endpoint=row.endpoint, body=Raw(b"{}"), metadata=metadata_of(row), priority=row.priority,
        start_timeout=max((row.expires_ms - max(row.created_ms, row.not_before_ms or 0)) // 1000, 1),
        timeout=row.timeout_s, max_attempts=row.max_attempts, result_ttl=row.result_ttl_s,
        on_worker_lost="fail" if row.on_worker_lost == "fail" else "retry",
    )  # fmt: skip


async def _read(call: Call, row: JobRow, endpoint: Endpoint) -> Any:
    """Return the request as its route takes it, whatever was kept apart of it put back."""
    async with call.state.database.read() as session:
        call.body, call.is_stored = await get_request(session, row.id), True
    try:
        if row.kind == OCR:
            await _put_document_back(call, row)
        elif row.kind == AUDIO_TRANSCRIPTION:
            call.file_id = new_ulid()
            await call.state.files.copy(row.id, call.file_id)
    except (FileGoneError, FileStoreError) as error:
        raise StorageUnavailableError from error
    return json.decode(call.body, type=endpoint.body or endpoint.form, strict=False)


async def _put_document_back(call: Call, row: JobRow) -> None:
    document = json.decode(call.body, type=OcrRequest).document
    if (document.url or "").startswith(STORED):
        text = b"".join([chunk async for chunk in (await call.state.files.open(row.id)).chunks])
        call.body = with_url(call.body, document, json.decode(b'"%b"' % text, type=str))
