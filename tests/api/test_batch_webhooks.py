"""Who is told how a batch, its lines, and a background response end."""

from typing import Any

from standardwebhooks import Webhook

from tests.batches import chat_line, ended, make_batch
from tests.installation import Installation
from tests.receivers import Receiver
from tests.waiting import eventually
from tests.webhooks import add_endpoint

BATCH_EVENTS = ("batch.completed", "batch.failed", "batch.cancelled", "batch.expired")


async def test_the_end_of_a_batch_is_told_and_not_that_of_its_lines(told: Installation, receiver: Receiver) -> None:
    endpoint = await add_endpoint(told, receiver, *BATCH_EVENTS, "job.completed")
    batch = await make_batch(told, chat_line("a"), chat_line("b"), metadata={"run": "1"})

    await eventually(lambda: receiver.of_type("batch.completed"))
    done = await ended(told, batch["id"])

    (event,) = receiver.received
    assert event.body["data"] == {"id": batch["id"], "status": "completed", "metadata": {"run": "1"}}
    assert done["status"] == "completed"
    Webhook(endpoint["signing_secret"]).verify(event.raw, event.headers)


async def test_a_refused_batch_is_told(told: Installation, receiver: Receiver) -> None:
    await add_endpoint(told, receiver, *BATCH_EVENTS)

    await make_batch(told, "{")

    await eventually(lambda: receiver.of_type("batch.failed"))


async def test_a_batch_may_bring_a_webhook_of_its_own(told: Installation, receiver: Receiver) -> None:
    batch = await make_batch(told, chat_line("a"), webhook={"url": receiver.url})
    shown = batch["sluice"]["webhook"]

    await eventually(lambda: receiver.received)

    assert [event.type for event in receiver.received] == ["batch.completed"]
    Webhook(shown["secret"]).verify(receiver.received[0].raw, receiver.received[0].headers)
    assert "webhook" not in (await ended(told, batch["id"]))["sluice"]


async def test_lines_are_told_if_the_batch_asks(told: Installation, receiver: Receiver) -> None:
    await add_endpoint(told, receiver, "job.completed")

    batch = await make_batch(told, chat_line("a"), chat_line("b"), item_events=True)
    await eventually(lambda: len(receiver.received) == 2)

    found = {(event.body["data"]["custom_id"], event.body["data"]["batch_id"]) for event in receiver.received}
    assert found == {("a", batch["id"]), ("b", batch["id"])}


async def test_webhooks_that_cannot_be_made_refuse_the_batch(told: Installation) -> None:
    line = [chat_line("a")]
    body: dict[str, Any] = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "requests": line}

    private = await told.post("/v1/batches", body | {"webhook": {"url": "http://10.0.0.1/hooks"}})
    unknown = await told.post("/v1/batches", body | {"webhook_endpoint_ids": ["we_nobody"]})

    assert (private.status, unknown.status) == (400, 404)


async def test_a_background_response_is_told(told: Installation, receiver: Receiver) -> None:
    await add_endpoint(told, receiver, "response.completed")
    await told.post("/v1/responses", {"model": "simulator", "input": "Hello"})

    response = await told.post("/v1/responses", {"model": "simulator", "input": "Hello", "background": True})
    created = await response.json()
    await eventually(lambda: receiver.received)

    assert [event.body["data"]["id"] for event in receiver.received] == [created["id"]]
