"""An inference request from its job to its answer: make the job, or find the one that was made before, and answer."""

import sqlite3
from collections.abc import Callable
from typing import Any, Final, cast

import asyncpg

from api.answer import answer, answer_stream
from api.call import Call
from api.http import EventStream, Reply
from api.idempotency import IDEMPOTENCY_ERRORS, Earlier, find_earlier, key_of
from api.prefer import NO_PREFERENCE, Prefer, parse_prefer
from api.replay import replay
from api.stream_forms import StreamForm, chunk_form
from api.submit import INFERENCE_ERRORS, Submission, Submitted, submit
from shared.errors import GoneError, StorageUnavailableError
from shared.jobs.statements import NewJob
from shared.jobs.tables import JobRow

ERRORS: Final = (*INFERENCE_ERRORS, *IDEMPOTENCY_ERRORS, GoneError)
"""Of every route that makes a job."""
_DUPLICATE: Final = (sqlite3.IntegrityError, asyncpg.UniqueViolationError)


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
        return await replay(call, found, prefer, form_of)
    if submission.stream and found.waiter is not None:
        return answer_stream(call, found, form_of(found.job))
    return await answer(call, found)


async def submit_once(call: Call, submission: Submission, prefer: Prefer) -> Submitted | Earlier:
    """Make the job, or return the one which a request with this idempotency key made before."""
    key = key_of(call, submission.endpoint if call.options is None else "/v1/jobs", prefer)
    if key is not None and (earlier := await find_earlier(call, key)) is not None:
        return earlier
    try:
        return await submit(call, submission, prefer, key)
    except _DUPLICATE as error:  # of the key: a request of the same moment was first
        if key is None or (earlier := await find_earlier(call, key)) is None:
            raise StorageUnavailableError from error
        return earlier


def preference_of(call: Call) -> Prefer:
    """Return how the caller wants to be answered."""
    if call.options is not None:
        return Prefer(respond_async=True)
    header = call.request.headers.getall("Prefer", None)
    return NO_PREFERENCE if header is None else parse_prefer(header)
