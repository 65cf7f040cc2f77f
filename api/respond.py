"""An inference request from its job to its answer: make the job, or find the one that was made before, and answer."""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import asyncpg

from api.answer import answer, answer_stream
from api.call import Call
from api.http import EventStream, Reply
from api.idempotency import IDEMPOTENCY_ERRORS, find_earlier, key_of
from api.prefer import NO_PREFERENCE, Prefer, parse_prefer
from api.replay import replay
from api.submit import INFERENCE_ERRORS, Submission, submit
from shared.errors import GoneError, StorageUnavailableError

ERRORS: Final = (*INFERENCE_ERRORS, *IDEMPOTENCY_ERRORS, GoneError)
"""Of every route that makes a job."""
_DUPLICATE: Final = (sqlite3.IntegrityError, asyncpg.UniqueViolationError)


async def respond(call: Call, submission: Submission) -> Reply[Any]:
    """Return the answer of a route that does not stream."""
    return cast(Reply[Any], await respond_or_stream(call, submission))


async def respond_or_stream(
    call: Call, submission: Submission, prepare: Callable[[], Awaitable[Submission]] | None = None
) -> Reply[Any] | EventStream[Any]:
    """Make the job and return its answer, or that of the job which a request with this idempotency key made before.

    `prepare` is awaited before a job is made, and returns the submission to make it of.
    """
    prefer = _preference(call)
    key = key_of(call, submission.endpoint if call.options is None else "/v1/jobs", prefer)
    if key is not None and (earlier := await find_earlier(call, key)) is not None:
        return await replay(call, earlier, prefer)
    if prepare is not None:
        submission = await prepare()
    try:
        submitted = await submit(call, submission, prefer, key)
    except _DUPLICATE as error:  # of the key: a request of the same moment was first
        if key is None or (earlier := await find_earlier(call, key)) is None:
            raise StorageUnavailableError from error
        return await replay(call, earlier, prefer)
    if submission.stream and submitted.waiter is not None:
        return answer_stream(call, submitted)
    return await answer(call, submitted)


def _preference(call: Call) -> Prefer:
    if call.options is not None:
        return Prefer(respond_async=True)
    header = call.request.headers.getall("Prefer", None)
    return NO_PREFERENCE if header is None else parse_prefer(header)
