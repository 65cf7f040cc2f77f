"""What goes through to an endpoint that rests after failures: what somebody asks for, which may end the rest."""

from typing import Any

from sqlmodel import update

from shared.clock import now_ms
from shared.webhooks.tables import WebhookDeliveryRow
from tests.installation import Installation
from tests.receivers import Receiver, says
from tests.waiting import eventually
from tests.webhooks import add_endpoint, change_endpoint, deliveries, read_endpoint, row_of, until

PAUSE_S = 400


async def test_a_delivery_that_is_sent_again_is_the_probe_of_a_resting_breaker(
    told: Installation, receiver: Receiver
) -> None:
    endpoint, waiting = await resting(told, receiver)
    before = await read_endpoint(told, endpoint)

    await told.post(f"/v1/webhook_deliveries/{waiting['id']}/redeliver")
    found = await until(told, endpoint, "delivered")

    assert [one["trigger"] for one in found[0]["attempts"]] == ["manual"]
    assert before["resting_until"] == waiting["next_attempt_at"]
    assert (await read_endpoint(told, endpoint))["resting_until"] is None
    assert (await row_of(told, endpoint)).pause_s == 0


async def test_a_probe_by_hand_that_fails_doubles_the_rest(told: Installation, receiver: Receiver) -> None:
    endpoint, waiting = await resting(told, receiver)
    receiver.default = says(500)

    for pause_s in (2 * PAUSE_S, 900):  # by hand it can be tried as often as one likes
        await told.post(f"/v1/webhook_deliveries/{waiting['id']}/redeliver")
        await eventually(lambda pause_s=pause_s: has_pause(told, endpoint, pause_s))

    assert len(receiver.received) == 2
    assert (await read_endpoint(told, endpoint))["resting_until"] > waiting["next_attempt_at"]


async def test_what_is_recovered_ends_a_rest_by_one_probe(told: Installation, receiver: Receiver) -> None:
    endpoint, _ = await resting(told, receiver, deliveries_of=3)
    await change_deliveries_to_exhausted(told)
    receiver.default = says(500)

    answer = await told.post(f"/v1/webhook_endpoints/{endpoint['id']}/recover", {"since": now_ms() // 1000 - 60})
    await eventually(lambda: has_pause(told, endpoint, 2 * PAUSE_S))

    assert (await answer.json())["matched"] == 3
    assert len(receiver.received) == 1


async def test_a_sample_that_arrives_closes_the_breaker(told: Installation, receiver: Receiver) -> None:
    endpoint, waiting = await resting(told, receiver)
    path = f"/v1/webhook_endpoints/{endpoint['id']}/test"

    receiver.script = [says(500)]
    await told.post(path, {"event_type": "job.completed"})
    assert (await read_endpoint(told, endpoint))["resting_until"] is not None
    await told.post(path, {"event_type": "job.completed"})

    found = await until(told, endpoint, "delivered", count=2)
    assert waiting["id"] in {one["id"] for one in found}
    assert (await read_endpoint(told, endpoint))["resting_until"] is None


async def resting(
    sluice: Installation, receiver: Receiver, *, deliveries_of: int = 1
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an endpoint whose breaker rests, and the newest of the deliveries that wait for it."""
    endpoint = await add_endpoint(sluice, receiver)
    until_ms = now_ms() + PAUSE_S * 1000
    await change_endpoint(sluice, endpoint, pause_s=PAUSE_S, open_until_ms=until_ms)
    for _ in range(deliveries_of):
        await sluice.chat()

    async def wait() -> dict[str, Any] | None:
        found = await deliveries(sluice, endpoint)
        are_waiting = all(one["next_attempt_at"] == until_ms // 1000 for one in found)
        return found[0] if len(found) == deliveries_of and are_waiting else None

    return endpoint, await eventually(wait)


async def has_pause(sluice: Installation, endpoint: dict[str, Any], pause_s: int) -> bool:
    return (await row_of(sluice, endpoint)).pause_s == pause_s


async def change_deliveries_to_exhausted(sluice: Installation) -> None:
    async with sluice.state.database.transaction() as session:
        await session.exec(update(WebhookDeliveryRow).values(status="exhausted", due_ms=None))
