"""Events of endpoints themselves, for the other endpoints of their owner."""

from typing import Final

from msgspec import json

from shared.group_commit.units import Unit
from shared.ids import new_ulid
from shared.webhooks.events import ENDPOINT_DISABLED
from shared.webhooks.statements import EVERYBODY, NewEvent, deliver_event, disable

BY_OWNER: Final = "disabled by its owner"
"""The one reason that is no failure."""


def disable_endpoint(endpoint_id: str, user_id: int, reason: str, now_ms: int) -> Unit:
    """Return the transaction that disables an endpoint and tells the others; refused if it is disabled already."""
    data = {"id": f"we_{endpoint_id}", "status": "disabled", "disabled_reason": reason}
    event = NewEvent(
        id=new_ulid(), type=ENDPOINT_DISABLED, user_id=user_id, object_id=endpoint_id,
        data=json.encode(data).decode(), created_ms=now_ms,
    )  # fmt: skip
    return (*deliver_event(event, EVERYBODY, but=endpoint_id), disable(endpoint_id, reason, now_ms))
