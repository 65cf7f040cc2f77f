"""What travels through the queue: all a worker needs to run and account for a job without reading its row."""

from typing import Final

from msgspec import Struct

from shared.admission.records import Admission, decode_admission
from shared.jobs.schemas import BACKGROUND, BATCH, INTERACTIVE
from shared.jobs.statements import NewJob
from shared.jobs.tables import JobRow

INLINE_BYTES_OF_BAND: Final = (64 * 1024, 4 * 1024, 4 * 1024)
"""A larger request stays in its row, where the worker reads it.  The bands below the first may be deep."""
BAND_NUMBERS: Final = {INTERACTIVE: 0, BACKGROUND: 1, BATCH: 2}


class JobMessage(Struct, array_like=True, frozen=True, kw_only=True):
    """One job.  Fields have the meaning of their column in `jobs`."""

    job_id: str
    kind: str
    endpoint: str
    band: int
    stream: bool
    user_id: int
    organization_id: int | None
    key_id: int | None
    router_id: int
    router_name: str
    model: str
    price_prompt: str
    price_completion: str
    created_ms: int
    request_id: str
    timeout_s: int
    result_ttl_s: int
    traceparent: str | None
    on_worker_lost: str
    inbox: str | None
    """Stream of the api process whose caller waits for the reply."""
    admission: Admission | None
    request: bytes | None
    """None if it has to be read from the row."""
    notify: str | None = None
    """None if no webhook is told; then the three below are None, too."""
    batch_id: str | None = None
    custom_id: str | None = None
    metadata: str | None = None
    background: bool = False
    """A response that was asked for in the background."""
    strict: bool = False
    dialect: str = "openai"
    tracestate: str | None = None

    def __repr__(self) -> str:
        """Return a short form: arq prints the arguments of jobs, and a prompt has no place in a log."""
        return f"JobMessage({self.job_id})"


def message_of(row: JobRow | NewJob, request: bytes | None = None) -> JobMessage:
    """Return the message of a job, stored or about to be; a `request` that is too large is left in its row."""
    told = row.notify is not None
    return JobMessage(
        job_id=row.id,
        kind=row.kind,
        endpoint=row.endpoint,
        band=row.band,
        stream=row.stream,
        user_id=row.user_id,
        organization_id=row.organization_id,
        key_id=row.key_id,
        router_id=row.router_id,
        router_name=row.router_name,
        model=row.model,
        price_prompt=row.price_prompt,
        price_completion=row.price_completion,
        created_ms=row.created_ms,
        request_id=row.request_id,
        timeout_s=row.timeout_s,
        result_ttl_s=row.result_ttl_s,
        traceparent=row.traceparent,
        tracestate=row.tracestate,
        on_worker_lost=row.on_worker_lost,
        inbox=row.inbox,
        admission=decode_admission(row.admission),
        strict=row.strict,
        dialect=row.dialect,
        request=None if request is None or len(request) > INLINE_BYTES_OF_BAND[row.band] else request,
        notify=row.notify,
        background=row.background,
        batch_id=row.batch_id if told else None,
        custom_id=row.custom_id if told else None,
        metadata=(row.metadata if isinstance(row, NewJob) else row.metadata_) if told else None,
    )
