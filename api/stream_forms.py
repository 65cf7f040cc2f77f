"""How the stream of a route looks on the wire."""

from typing import Protocol

from api.call import Call
from api.error_bodies import error_body
from shared.errors import ApiError, ReplayedError, StoredError
from shared.jobs.statements import NewJob
from shared.jobs.tables import JobRow
from shared.replies.entries import Position

RETRY_AFTER_S = 2


class StreamForm(Protocol):
    """The form of one stream; it may count its events."""

    continues: bool
    """Whether the output of a later attempt may follow that of an earlier one."""

    def begin(self) -> bytes:
        """Return the events that are sent before there is any output."""
        ...

    def chunk(self, position: Position, data: bytes) -> bytes:
        """Return the event of one piece of output."""
        ...

    async def end(self, call: Call, job_id: str, error: StoredError | None) -> bytes:
        """Return the events by which the stream of a job ends that is over; `error` is None if it has a result."""
        ...


class ChunkForm:
    """Chunks, then `[DONE]`; the id of each event is a cursor of /v1/jobs/{job_id}/events."""

    continues = False

    def begin(self) -> bytes:
        """Return nothing: a failure before the first chunk is a status code."""
        return b""

    def chunk(self, position: Position, data: bytes) -> bytes:
        """Return the event."""
        return b"id: %d-%d\ndata: %b\n\n" % (*position, data)

    async def end(self, call: Call, _job_id: str, error: StoredError | None) -> bytes:
        """Return `[DONE]`, or the error."""
        return b"data: [DONE]\n\n" if error is None else error_event(replayed(error), call.dialect)


def chunk_form(_job: NewJob | JobRow) -> StreamForm:
    """Return the form of a stream of chunks."""
    return ChunkForm()


def error_event(error: ApiError, dialect: str) -> bytes:
    """Return the event by which a stream of chunks ends that has begun."""
    return b"data: " + error_body(error, dialect) + b"\n\n"


def replayed(error: StoredError) -> ReplayedError:
    """Return the error of a job for the caller who waited for it; Sluice has tried again already."""
    headers = {"x-should-retry": "false"}
    if error.status in (429, 503):
        headers["retry-after"] = str(RETRY_AFTER_S)
    return ReplayedError(error, headers=headers)
