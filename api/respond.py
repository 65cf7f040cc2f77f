"""An inference request from its job to its answer: make the job, or find the one that was made before, and answer."""

from collections.abc import Callable
from typing import Any, Final, cast

from api.answer import answer, answer_stream
from api.call import Call
from api.http import EventStream, Reply
from api.idempotency import IDEMPOTENCY_ERRORS, WAIT, Earlier, find_earlier, key_of
from api.keyless import find_unanswered, note_searched
from api.prefer import NO_PREFERENCE, Prefer, parse_prefer
from api.replay import replay
from api.stream_forms import StreamForm, chunk_form
from api.submission import Submission
from api.submit import DUPLICATE, INFERENCE_ERRORS, Submitted, submit
from api.web_search import WebSearchFailedError, WebSearchUnavailableError
from shared.audio.voices import VoiceNotFoundError
from shared.chat.checks import ToolsNotSupportedError, UnsupportedParameterError
from shared.collections.errors import SEARCH_ERRORS
from shared.errors import ContextLengthError, GoneError, StorageUnavailableError
from shared.files.errors import FileTooLargeError, UnsupportedFileTypeError, UploadGoneError, UploadNotFoundError
from shared.idempotency.statements import NewIdempotencyKey
from shared.jobs.statements import NewJob
from shared.jobs.tables import JobRow
from shared.responses.errors import CREATE_ERRORS
from shared.ssrf import UrlNotAllowedError

ERRORS: Final = (*INFERENCE_ERRORS, *IDEMPOTENCY_ERRORS, GoneError)
"""Of every route that makes a job."""
ANY_ROUTE: Final = (
    *ERRORS, UnsupportedParameterError, ToolsNotSupportedError,
    ContextLengthError, FileTooLargeError, UnsupportedFileTypeError, UrlNotAllowedError, VoiceNotFoundError,
    *CREATE_ERRORS, *SEARCH_ERRORS, UploadNotFoundError, UploadGoneError, WebSearchUnavailableError,
    WebSearchFailedError,
)  # fmt: skip
"""Of a job of whichever route."""


async def respond(call: Call, submission: Submission) -> Reply[Any]:
    """Return the answer of a route that does not stream."""
    return cast(Reply[Any], await respond_or_stream(call, submission))


async def respond_or_stream(
    call: Call, submission: Submission, form_of: Callable[[NewJob | JobRow], StreamForm] = chunk_form
) -> Reply[Any] | EventStream[Any]:
    """Make the job and return its answer, or that of the job which a request with this idempotency key made before."""
    prefer = preference_of(call)
    found = await submit_once(call, submission, prefer)
    if isinstance(found, Earlier):
        if found.is_keyless:
            prefer = Prefer(wait_s=found.row.timeout_s if prefer.wait_s is None else prefer.wait_s)
        return await replay(call, found, prefer, form_of)
    if submission.stream and found.waiter is not None:
        return answer_stream(call, found, form_of(found.job))
    return await answer(call, found)


async def submit_once(call: Call, submission: Submission, prefer: Prefer) -> Submitted | Earlier:
    """Make the job, or return the one that this request, or one with its idempotency key, made before."""
    key = key_of(call, submission.endpoint if call.options is None else "/v1/jobs", prefer)
    if key is not None and (earlier := await find_earlier(call, key)) is not None:
        return earlier
    if key is None and prefer.waits and (row := await find_unanswered(call, submission.endpoint)) is not None:
        return Earlier(row, WAIT, is_keyless=True)
    has_searched = submission.search is not None
    if submission.search is not None:
        submission = await submission.search(call)
    found = await submit_bound(call, submission, prefer, key)
    if has_searched and key is None and isinstance(found, Submitted):
        await note_searched(call, submission.endpoint, found.job.id)
    return found


async def submit_bound(
    call: Call, submission: Submission, prefer: Prefer, key: NewIdempotencyKey | None
) -> Submitted | Earlier:
    """Make the job and bind the key to it, or return the job that a request of the same moment bound it to."""
    try:
        return await submit(call, submission, prefer, key)
    except DUPLICATE as error:
        if key is None or (earlier := await find_earlier(call, key)) is None:
            raise StorageUnavailableError from error
        return earlier


def preference_of(call: Call) -> Prefer:
    """Return how the caller wants to be answered."""
    header = call.request.headers.getall("Prefer", None)
    prefer = NO_PREFERENCE if header is None else parse_prefer(header)
    return prefer if call.options is None else Prefer(respond_async=True, is_strict=prefer.is_strict)
