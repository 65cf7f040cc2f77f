"""Jobs that a request needs before its own answer: the vector of a query, the text of a scanned page."""

from typing import Any, cast

from msgspec.structs import replace

from api.answer import DROPPED, answer
from api.call import Call
from api.http import Reply
from api.idempotency import Earlier, find_earlier, key_of_part
from api.prefer import NO_PREFERENCE
from api.replay import replay
from api.respond import submit_bound
from api.stream_forms import chunk_form
from api.submission import Submission
from api.submit import Submitted


async def run_inner(call: Call, submission: Submission, body: bytes, part: str = "") -> bytes:
    """Run a job for the caller and return its answer; raises the errors of any inference route.

    It is admitted, charged and kept like one that he asked for; the headers of the answer tell of the last such job.
    If the request has an idempotency key, one that is sent again gets the answer of the job that the first one made;
    `part` tells jobs of one request with the same body apart.
    """
    inner = replace(call, body=body, received=body, file_id=None, options=None, notice=None, headers={})
    key = None if call.key is None else key_of_part(call.key, f"{submission.kind} {part}", body)
    try:
        found: Submitted | Earlier | None = None if key is None else await find_earlier(inner, key)
        if found is None:
            found = await submit_bound(inner, submission, NO_PREFERENCE, key)
        if isinstance(found, Earlier):
            reply = cast(Reply[Any], await replay(inner, found, NO_PREFERENCE, chunk_form))
        else:
            reply = await answer(inner, found)
    finally:
        inner.headers.pop(DROPPED, None)  # says nothing about the answer
        call.headers.update(inner.headers)
    return reply.body
