"""Responses as their owners see them: the object in any state, and its events.

The log of a job has what an attempt said; what comes before it and what ended it follow from the job itself, so that
they are the same whoever asks, also for a job that no worker has ever seen.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from msgspec import json

from api.call import Call
from api.frames import follow_frames, read_log
from api.render import error_of, gone, is_gone, usage_of
from api.stream_forms import StreamForm
from shared.clock import to_seconds
from shared.errors import GoneError, StoredError
from shared.jobs.queries import get_light
from shared.jobs.schemas import WITH_RESULT, alias_of
from shared.jobs.statements import NewJob
from shared.jobs.tables import JobRow
from shared.replies.entries import START, Position
from shared.responses.objects import error_event, first_events, last_events, to_response
from shared.responses.queries import get_request_and_answer
from shared.responses.schemas import Response, ResponseEvent, ResponseRequest, ResponseStatus
from shared.responses.to_chat import decode_stored_request

_STATUS_OF: Final[dict[str, ResponseStatus]] = {
    "queued": "queued", "in_progress": "in_progress", "completed": "completed", "incomplete": "incomplete",
    "failed": "failed", "cancelled": "cancelled", "expired": "failed",
}  # fmt: skip
"""State of a job → status of its response."""
_EVENT: Final = json.Decoder(ResponseEvent)


def new_response(request: ResponseRequest, job: NewJob | JobRow) -> Response:
    """Return the response of a job as it was when it was accepted."""
    return to_response(
        request, response_id=alias_of(job.kind, job.id), created_at=job.created_ms // 1000, model=job.model,
        status="queued" if request.background else "in_progress",
    )  # fmt: skip


async def read_response(call: Call, row: JobRow) -> bytes:
    """Return the response of a job as it is now; raises `GoneError`."""
    async with call.state.database.read() as session:
        row = await get_light(session, row.id)
        if is_gone(row):
            raise gone(row)
        request, answer = await get_request_and_answer(session, row.id)
    if row.status in WITH_RESULT and answer is not None:
        return answer
    usage = usage_of(row)
    response = to_response(
        decode_stored_request(request),
        response_id=alias_of(row.kind, row.id),
        created_at=row.created_ms // 1000,
        model=row.model,
        status=_STATUS_OF[row.status],
        completed_at=to_seconds(row.finished_ms),
        usage=usage if usage is not None and usage.total_tokens else None,
        error=error_of(row),
        incomplete_reason=row.incomplete_reason,
    )
    return json.encode(response)


class ResponseForm:
    """Typed events whose ids are their numbers; those up to `after` are left out."""

    continues = True

    def __init__(self, first: Sequence[bytes], *, begins_at_once: bool, after: int = -1) -> None:
        self._first = list(first)
        self._begins_at_once = begins_at_once
        self._after = after
        self._next = 0
        self._has_output = False
        self._is_lost = False
        """Whether the numbers began anew, since Redis lost those that were sent: only the end can still be told."""

    def begin(self) -> bytes:
        """Return the first events, unless a failure before the first output is to be a status code."""
        return self._take_first() if self._begins_at_once else b""

    def chunk(self, _position: Position, data: bytes) -> bytes:
        """Return an event of the log, after the first ones."""
        first, self._has_output = self._take_first(), True
        event = _EVENT.decode(data)
        self._is_lost = self._is_lost or event.sequence_number < self._next
        return first if self._is_lost else first + self._write(event, data)

    async def end(self, call: Call, job_id: str, _error: StoredError | None) -> bytes:
        """Return the events that end the stream."""
        first = self._take_first()
        async with call.state.database.read() as session:
            row = await get_light(session, job_id)
        try:
            over = await read_response(call, row)
        except GoneError as error:  # it was deleted while it was followed
            return first + self._event(error_event(self._next, error.message))
        events = last_events(over, self._next, has_output=self._has_output)
        return first + b"".join([self._event(data) for data in events])

    def _take_first(self) -> bytes:
        first, self._first = self._first, []
        return b"".join([self._event(data) for data in first])

    def _event(self, data: bytes) -> bytes:
        return self._write(_EVENT.decode(data), data)

    def _write(self, event: ResponseEvent, data: bytes) -> bytes:
        self._next = event.sequence_number + 1
        if event.sequence_number <= self._after:
            return b""
        return b"event: %b\nid: %d\ndata: %b\n\n" % (event.type.encode(), event.sequence_number, data)


def response_form(request: ResponseRequest, job: NewJob | JobRow) -> StreamForm:
    """Return the form of the stream that making a response answers with."""
    return ResponseForm(first_events(new_response(request, job)), begins_at_once=bool(request.background))


async def follow_response(call: Call, row: JobRow, after: int) -> AsyncIterator[bytes | None]:
    """Yield the events behind `after` until the response is over; None while there are none.  Raises `GoneError`."""
    async with call.state.database.read() as session:
        row = await get_light(session, row.id)
        if is_gone(row):
            raise gone(row)
        request, _ = await get_request_and_answer(session, row.id)
    asked = decode_stored_request(request)
    form = ResponseForm(first_events(new_response(asked, row)), begins_at_once=True, after=after)
    if first := form.begin():
        yield first
    async for frame in follow_frames(call, row.id, START):
        if frame is None:
            yield None
        elif frame.event is None and (event := form.chunk(frame.position, frame.data)):
            yield event
    if not row.stream:
        for entry in await read_log(call, row.id):
            if event := form.chunk(entry.position, entry.data):
                yield event
    if last := await form.end(call, row.id, None):
        yield last
