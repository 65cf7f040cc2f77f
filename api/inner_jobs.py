"""Jobs that a request needs before its own answer: the vector of a query, the text of a scanned page."""

from msgspec.structs import replace

from api.answer import DROPPED, answer
from api.call import Call
from api.prefer import NO_PREFERENCE
from api.submission import Submission
from api.submit import submit


async def run_inner(call: Call, submission: Submission, body: bytes) -> bytes:
    """Run a job for the caller and return its answer; raises the errors of any inference route.

    It is admitted, charged and kept like one that he asked for; the headers of the answer tell of the last such job.
    """
    inner = replace(call, body=body, received=body, file_id=None, options=None, notice=None, headers={})
    try:
        reply = await answer(inner, await submit(inner, submission, NO_PREFERENCE, None))
    finally:
        inner.headers.pop(DROPPED, None)  # says nothing about the answer
        call.headers.update(inner.headers)
    return reply.body
