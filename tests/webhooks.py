"""Make webhook endpoints through the API, look at their deliveries, and let time pass."""

from typing import Any

from sqlmodel import col, update

from shared.clock import now_ms
from shared.webhooks.tables import WebhookDeliveryRow, WebhookEndpointRow
from tests.installation import Installation
from tests.receivers import EVENTS, Receiver
from tests.waiting import eventually

ENDPOINTS = "/v1/webhook_endpoints"
LOOPBACK = {
    "webhook_allow_http": True, "webhook_allow_literals": True, "webhook_allow_networks": "127.0.0.1/32",
}  # fmt: skip
"""Settings under which webhooks may go to a receiver of the test."""
OVER = ("delivered", "failed", "exhausted", "aborted", "paused")


async def add_endpoint(sluice: Installation, receiver: Receiver | str, *events: str, **members: Any) -> dict[str, Any]:
    """Create an endpoint and return it with its secret."""
    headers = members.pop("as_", {})
    url = receiver if isinstance(receiver, str) else receiver.url
    body = {"name": "test", "url": url, "event_types": list(events) or EVENTS} | members
    answer = await sluice.post(ENDPOINTS, body, headers=headers)
    assert answer.status == 200, await answer.text()
    created: dict[str, Any] = await answer.json()
    return created


async def deliveries(sluice: Installation, endpoint: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    """Return the log of an endpoint, newest first."""
    answer = await sluice.get(f"{ENDPOINTS}/{endpoint['id']}/deliveries", params=query)
    assert answer.status == 200, await answer.text()
    found: list[dict[str, Any]] = (await answer.json())["data"]
    return found


async def until(sluice: Installation, endpoint: dict[str, Any], *statuses: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many deliveries of the endpoint are in one of the states; returns these."""

    async def are_there() -> list[dict[str, Any]]:
        found = [one for one in await deliveries(sluice, endpoint, limit=100) if one["status"] in (statuses or OVER)]
        return found if len(found) >= count else []

    found: list[dict[str, Any]] = await eventually(are_there, within_s=40)
    return found


async def let_time_pass(sluice: Installation) -> None:
    """Make every delivery due that waits, and end every pause of a breaker."""
    now = now_ms()
    async with sluice.state.database.transaction() as session:
        waiting = col(WebhookDeliveryRow.status).in_(("pending", "failed"))
        await session.exec(update(WebhookDeliveryRow).where(waiting).values(due_ms=now))
        paused = col(WebhookEndpointRow.open_until_ms).is_not(None)
        await session.exec(update(WebhookEndpointRow).where(paused).values(open_until_ms=now))


async def change_endpoint(sluice: Installation, endpoint: dict[str, Any], **values: object) -> None:
    """Write columns of an endpoint, as if time had passed."""
    async with sluice.state.database.transaction() as session:
        of_it = col(WebhookEndpointRow.id) == endpoint["id"].removeprefix("we_")
        await session.exec(update(WebhookEndpointRow).where(of_it).values(**values))


async def read_endpoint(sluice: Installation, endpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the endpoint as it is now."""
    found: dict[str, Any] = await (await sluice.get(f"{ENDPOINTS}/{endpoint['id']}")).json()
    return found


async def row_of(sluice: Installation, endpoint: dict[str, Any]) -> WebhookEndpointRow:
    """Return the row of the endpoint."""
    rows = await sluice.rows(WebhookEndpointRow, WebhookEndpointRow.id == endpoint["id"].removeprefix("we_"))
    found: WebhookEndpointRow = rows[0]
    return found
