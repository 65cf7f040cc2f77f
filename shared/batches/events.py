"""Events of batches."""

from msgspec import Struct, json
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.batches.schemas import BATCH_PREFIX
from shared.batches.tables import BatchRow
from shared.ids import new_ulid
from shared.webhooks.queries import insert_event
from shared.webhooks.statements import Delivery, NewEvent


class _Trace(Struct):
    """What `origin` says of the trace of the request."""

    traceparent: str | None = None
    tracestate: str | None = None


async def tell_end(session: AsyncSession, row: BatchRow, status: str, now_ms: int) -> list[Delivery]:
    """Make the event in the transaction that ends a batch; returns the deliveries to enqueue after it."""
    data = {
        "id": BATCH_PREFIX + row.id, "status": status,
        "metadata": json.decode(row.metadata_, type=dict[str, str]) if row.metadata_ else {},
    }  # fmt: skip
    trace = json.decode(row.origin or "{}", type=_Trace)
    event = NewEvent(
        id=new_ulid(), type=f"batch.{status}", user_id=row.user_id, object_id=row.id,
        data=json.encode(data).decode(), created_ms=now_ms,
        traceparent=trace.traceparent, tracestate=trace.tracestate,
    )  # fmt: skip
    return await insert_event(session, event, row.notify)
