"""Names of events, and which of them the change of a job is."""

from typing import Final

from msgspec import Struct

from shared.errors import BadRequestError
from shared.jobs.schemas import CANCELLED, COMPLETED, EXPIRED, FAILED, INCOMPLETE

JOB_STARTED: Final = "job.started"
JOB_RETRY_SCHEDULED: Final = "job.retry_scheduled"
JOB_ENDS: Final = ("job.completed", "job.incomplete", "job.failed", "job.cancelled", "job.expired")
RESPONSE_ENDS: Final = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
BATCH_ENDS: Final = ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")
ENDPOINT_DISABLED: Final = "webhook_endpoint.disabled"
DELIVERY_EXHAUSTED: Final = "webhook_delivery.exhausted"
OPERATIONAL: Final = (ENDPOINT_DISABLED, DELIVERY_EXHAUSTED)
EVENT_TYPES: Final = tuple(
    sorted((*JOB_ENDS, JOB_STARTED, JOB_RETRY_SCHEDULED, *RESPONSE_ENDS, *BATCH_ENDS, *OPERATIONAL))
)
_ELSEWHERE: Final = ("eval.run.", "fine_tuning.job.", "video.", "agent.", "safety.", "realtime.call.incoming")
"""Of OpenAI: accepted, never sent."""


class ResponseView(Struct, frozen=True):
    """What a background response is when its job ends so."""

    event: str
    status: str


RESPONSE_OF: Final = {
    COMPLETED: ResponseView("response.completed", "completed"),
    INCOMPLETE: ResponseView("response.incomplete", "incomplete"),
    FAILED: ResponseView("response.failed", "failed"),
    CANCELLED: ResponseView("response.cancelled", "cancelled"),
    EXPIRED: ResponseView("response.failed", "failed"),
}
"""Status of a job → its response."""


class UnknownEventTypeError(BadRequestError):
    """There is no event of this name."""

    code = "unknown_event_type"

    def __init__(self, name: str, param: str) -> None:
        super().__init__(f"There is no event `{name[:100]}`.", param=param)


def check_event_types(names: list[str], param: str) -> None:
    """Raise `UnknownEventTypeError` for the first name that is none."""
    for name in names:
        if name not in EVENT_TYPES and not name.startswith(_ELSEWHERE):
            raise UnknownEventTypeError(name, param)
