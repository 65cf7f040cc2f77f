"""The body of a try: OpenAI's thin event plus the time as text; with the result of the job if the endpoint wants it."""

from typing import Any, Final

from msgspec import Raw, json
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.clock import now_ms, to_iso
from shared.database import Database
from shared.ids import new_ulid
from shared.jobs.queries import get_result
from shared.unreadable import UNREADABLE
from shared.webhooks.events import BATCH_ENDS, DELIVERY_EXHAUSTED, ENDPOINT_DISABLED, RESPONSE_ENDS
from shared.webhooks.tables import WebhookDeliveryRow

MAX_RESULT_BYTES: Final = 256 * 1024
_WITH_RESULT: Final = frozenset({"job.completed", "job.incomplete", "response.completed", "response.incomplete"})


def render_event(event_id: str, event_type: str, created_ms: int, data: Any, *, is_test: bool = False) -> bytes:
    """Return the bytes that are signed and sent."""
    event = {
        "id": f"evt_{event_id}", "object": "event", "type": event_type, "created_at": created_ms // 1000,
        "timestamp": to_iso(created_ms), "data": data,
    }  # fmt: skip
    return json.encode(event | ({"test": True} if is_test else {}))


async def render_delivery(database: Database, row: WebhookDeliveryRow, *, include_result: bool) -> bytes:
    """Return the body of a delivery."""
    data: Any = Raw(row.data.encode())
    if include_result and row.event_type in _WITH_RESULT and not row.is_test:
        async with database.read() as session:
            data = json.decode(row.data) | await _result(session, row.object_id)
    return render_event(row.event_id, row.event_type, row.created_ms, data, is_test=row.is_test)


async def _result(session: AsyncSession, job_id: str) -> dict[str, Any]:
    """Return the member with the result; sound, results above 256 kB and removed ones are left out."""
    found = await get_result(session, job_id)
    if found is None or len(found.body) > MAX_RESULT_BYTES:
        return {"result_omitted": True}
    if found.content_type.startswith("application/json"):
        try:
            json.decode(found.body)
        except UNREADABLE:
            return {"result_omitted": True}
        return {"result": Raw(found.body)}
    try:
        return {"result": found.body.decode()}
    except UnicodeDecodeError:
        return {"result_omitted": True}


def sample_data(event_type: str) -> dict[str, Any]:
    """Return `data` of a sample of this type, with ids that name nothing."""
    status = event_type.rpartition(".")[2]
    sample: dict[str, Any] = {"id": f"{_prefix(event_type)}{new_ulid()}", "status": status}
    if event_type.startswith("job."):
        sample["status"] = {"started": "in_progress", "retry_scheduled": "queued"}.get(status, status)
        sample |= {
            "kind": "chat.completion", "model": "sample", "batch_id": None, "custom_id": None,
            "result_url": None, "result_expires_at": now_ms() // 1000,
        }  # fmt: skip
    return sample | {"metadata": {}}


def _prefix(event_type: str) -> str:
    operational = {DELIVERY_EXHAUSTED: "whd_", ENDPOINT_DISABLED: "we_"}
    if event_type in operational:
        return operational[event_type]
    return "batch_" if event_type in BATCH_ENDS else "resp_" if event_type in RESPONSE_ENDS else "job_"
