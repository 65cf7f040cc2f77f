"""Events as statements: batches emit theirs in their own transaction, background responses have two."""

import json
from typing import Any

from msgspec.structs import replace

from shared.clock import now_ms
from shared.ids import new_ulid
from shared.jobs.messages import JobMessage, message_of
from shared.jobs.statements import NewJob, insert_job
from shared.jobs.tables import JobRow
from shared.webhooks.job_events import tell_change, tell_end
from shared.webhooks.queries import insert_event
from shared.webhooks.queue import enqueue_deliveries
from shared.webhooks.statements import EVERYBODY, NewEvent, deliver_event, deliveries_of
from shared.webhooks.tables import WebhookDeliveryRow
from tests.installation import Installation
from tests.receivers import Receiver
from tests.webhooks import add_endpoint, until

URL = "https://host"


async def accepted(sluice: Installation, **members: Any) -> JobMessage:
    """Return the message of a job that was accepted, with other members."""
    answer = await sluice.chat(headers={"Prefer": "respond-async"}, metadata={"a": "b"})
    row = (await sluice.rows(JobRow, JobRow.id == (await answer.json())["id"].removeprefix("job_")))[0]
    return replace(message_of(row), **members)


async def test_a_batch_emits_its_event_in_its_own_transaction(told: Installation, receiver: Receiver) -> None:
    endpoint = await add_endpoint(told, receiver, "batch.completed")
    batch_id = new_ulid()
    data = {"id": f"batch_{batch_id}", "status": "completed", "metadata": {"run": "nightly"}}
    event = NewEvent(
        id=new_ulid(), type="batch.completed", user_id=0, object_id=batch_id, data=json.dumps(data),
        created_ms=now_ms(),
    )  # fmt: skip

    unit = deliver_event(event, EVERYBODY)
    results = await told.state.writer.execute_many(unit)
    enqueue_deliveries(told.state.platform, deliveries_of(unit, results))
    await until(told, endpoint, "delivered")

    got = receiver.received[0]
    assert (got.id, got.body["type"], got.body["data"]) == (f"evt_{event.id}", "batch.completed", data)


async def test_an_event_may_be_part_of_a_session(told: Installation, receiver: Receiver) -> None:
    endpoint = await add_endpoint(told, receiver.url + "/standing", "batch.failed")
    own = await add_endpoint(told, receiver.url + "/own", "batch.failed")
    event = NewEvent(
        id=new_ulid(), type="batch.failed", user_id=0, object_id=new_ulid(), data='{"id":"batch_1"}',
        created_ms=now_ms(),
    )  # fmt: skip

    async with told.state.database.transaction() as session:
        named, bare = endpoint["id"].removeprefix("we_"), own["id"].removeprefix("we_")
        made = await insert_event(session, event, f"{named}+{bare}")
    enqueue_deliveries(told.state.platform, made)
    await until(told, endpoint, "delivered")
    await until(told, own, "delivered")

    assert {one.endpoint_id for one in made} == {named, bare}
    assert [one.id for one in receiver.received] == [f"evt_{event.id}"] * 2


async def test_a_background_response_is_told_beside_its_job(idle_told: Installation, receiver: Receiver) -> None:
    await add_endpoint(idle_told, receiver, "job.expired", "response.failed")
    message = await accepted(idle_told, kind="response", background=True)

    await idle_told.state.writer.execute_many(tell_end(message, new_ulid(), "expired", now_ms(), URL))

    rows = {row.event_type: row for row in await idle_told.rows(WebhookDeliveryRow)}
    assert rows.keys() == {"job.expired", "response.failed"}
    assert json.loads(rows["response.failed"].data) == {
        "id": f"resp_{message.job_id}", "status": "failed", "model": "simulator", "metadata": {"a": "b"},
    }  # fmt: skip
    assert json.loads(rows["job.expired"].data)["status"] == "expired"
    assert rows["job.expired"].event_id != rows["response.failed"].event_id


async def test_other_responses_are_jobs_only(idle_told: Installation, receiver: Receiver) -> None:
    await add_endpoint(idle_told, receiver, "job.completed", "response.completed")
    message = await accepted(idle_told, kind="response")

    await idle_told.state.writer.execute_many(tell_end(message, new_ulid(), "completed", now_ms(), URL))

    assert [row.event_type for row in await idle_told.rows(WebhookDeliveryRow)] == ["job.completed"]


async def test_a_job_nobody_is_told_of_costs_no_statement(idle_told: Installation) -> None:
    message = await accepted(idle_told)

    assert message.notify is None
    assert (message.metadata, message.custom_id, message.batch_id) == (None, None, None)
    assert tell_end(message, new_ulid(), "completed", now_ms(), URL) == []
    assert tell_change(message, "job.started", URL) == []


async def test_items_of_a_batch_are_told_only_if_it_asks(idle_told: Installation, receiver: Receiver) -> None:
    await add_endpoint(idle_told, receiver)
    await accepted(idle_told)
    row = (await idle_told.rows(JobRow))[0]
    values = {name: getattr(row, name) for name in NewJob.__struct_fields__ if name != "metadata"}
    quiet = NewJob(**values | {"id": new_ulid(), "batch_id": new_ulid(), "notify": None}, metadata=None)
    loud = NewJob(**values | {"id": new_ulid(), "batch_id": new_ulid(), "notify": EVERYBODY}, metadata=None)

    results = await idle_told.state.writer.execute_many((insert_job(quiet), insert_job(loud)))

    assert row.notify == EVERYBODY
    assert [result.rows[0][0] for result in results] == [None, EVERYBODY]
