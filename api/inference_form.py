"""How a streamed inference looks: events of one form, the error among them, and nothing behind the last."""

from msgspec import json

from api.call import Call
from api.stream_forms import StreamForm, replayed
from shared.clock import now_ms
from shared.errors import StoredError
from shared.facades.inflection.schemas import InferenceEvent
from shared.jobs.statements import NewJob
from shared.jobs.tables import JobRow
from shared.replies.entries import Position


class InferenceForm:
    """Data lines alone: clients parse each of them as the same object."""

    continues = False

    def __init__(self) -> None:
        self._sent = 0

    def begin(self) -> bytes:
        """Return nothing: a failure before the first event is a status code."""
        return b""

    def chunk(self, _position: Position, data: bytes) -> bytes:
        """Return the event."""
        self._sent += 1
        return b"data: %b\n\n" % data

    async def end(self, _call: Call, _job_id: str, error: StoredError | None) -> bytes:
        """Return nothing, or an event with the error."""
        if error is None:
            return b""
        event = InferenceEvent(
            created=now_ms() / 1000, idx=self._sent, text="", tool_calls=None, error=replayed(error).error(),
            detail=error.message,
        )  # fmt: skip
        return b"data: " + json.encode(event) + b"\n\n"


def inference_form(_job: NewJob | JobRow) -> StreamForm:
    """Return the form of a streamed inference."""
    return InferenceForm()
