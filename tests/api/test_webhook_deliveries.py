"""What receivers get, what becomes of their answers, and what the log tells about it."""

import json
from typing import Any

import pytest
from standardwebhooks import Webhook

from shared.clock import now_ms
from shared.jobs.tables import JobEventRow
from tests.installation import Installation
from tests.people import add_user, key_of
from tests.receivers import Answer, Receiver, hang, reset, says, send_a_gigabyte, serve_receiver
from tests.waiting import eventually
from tests.webhooks import add_endpoint, change_endpoint, deliveries, let_time_pass, read_endpoint, row_of, until
from worker.webhooks.sweep import wake_paused


async def test_the_end_of_a_job_is_told_with_a_signature(told: Installation, receiver: Receiver) -> None:
    endpoint = await add_endpoint(told, receiver)

    answer = await told.chat(metadata={"run": "nightly"})
    job = await told.job(answer.headers["x-job-id"])
    found = (await until(told, endpoint))[0]

    got = receiver.received[0]
    assert Webhook(endpoint["signing_secret"]).verify(got.raw, got.headers) == got.body
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("Sluice/")
    assert got.body["object"] == "event"
    assert (got.body["id"], got.body["type"]) == (got.id, "job.completed")
    assert got.body["created_at"] == job["completed_at"]
    assert got.body["data"] == {
        "id": job["id"], "status": "completed", "kind": "chat.completion", "model": "simulator", "batch_id": None,
        "custom_id": None, "metadata": {"run": "nightly"}, "result_expires_at": job["result_expires_at"],
        "result_url": f"http://127.0.0.1:8080/v1/jobs/{job['id']}/result",
    }  # fmt: skip
    assert (await told.rows(JobEventRow))[0].id == got.id
    assert found["event_id"] == got.id
    attempt = found["attempts"][0]
    assert (attempt["number"], attempt["trigger"], attempt["status_code"]) == (1, "scheduled", 204)
    assert attempt["remote_address"] == "127.0.0.1"
    whole = await (await told.get(f"/v1/webhook_deliveries/{found['id']}")).json()
    assert whole["request_body"].encode() == got.raw
    assert whole["status"] == "delivered"


@pytest.mark.parametrize(
    ("answers", "status", "error_class"),
    [
        (says(200, "thanks"), "delivered", None),
        (says(301, Location="http://127.0.0.1:1/"), "failed", "redirect"),
        (says(500, "oops"), "failed", "http_error"),
        (says(400, webhook_delivery="abort-message"), "aborted", "aborted"),
        (send_a_gigabyte, "delivered", None),
    ],
)
async def test_an_answer_decides_what_becomes_of_a_delivery(
    told: Installation, receiver: Receiver, answers: Answer, status: str, error_class: str | None
) -> None:
    receiver.default = answers
    endpoint = await add_endpoint(told, receiver)

    await told.chat()
    found = (await until(told, endpoint))[0]

    assert (found["status"], found["attempts"][0]["error_class"]) == (status, error_class)
    assert len(receiver.received) == 1
    assert (found["next_attempt_at"] is not None) == (status == "failed")
    assert len(found["attempts"][0]["response_snippet"] or "") <= 8192


async def test_a_receiver_that_hangs_is_given_up(told: Installation, receiver: Receiver) -> None:
    receiver.default = hang
    endpoint = await add_endpoint(told, receiver)

    await told.chat()
    found = (await until(told, endpoint, "failed"))[0]

    assert found["attempts"][0]["error_class"] == "timeout"
    assert 14_000 <= found["attempts"][0]["latency_ms"] < 25_000


async def test_a_broken_connection_is_tried_again_at_once(told: Installation, receiver: Receiver) -> None:
    receiver.script = [reset]
    endpoint = await add_endpoint(told, receiver)

    await told.chat()
    found = (await until(told, endpoint))[0]

    assert found["status"] == "delivered"
    assert [(one["number"], one["error_class"]) for one in found["attempts"]] == [(1, "connect"), (2, None)]
    assert receiver.received[0].id == receiver.received[1].id


async def test_a_receiver_may_ask_for_time(told: Installation, receiver: Receiver) -> None:
    receiver.script = [says(429, retry_after="3600")]
    endpoint = await add_endpoint(told, receiver)

    await told.chat()
    found = (await until(told, endpoint, "failed"))[0]

    assert found["next_attempt_at"] - found["attempts"][0]["started_at"] >= 3600
    await let_time_pass(told)
    assert (await until(told, endpoint, "delivered"))[0]["id"] == found["id"]


async def test_a_failed_delivery_is_tried_again_after_five_seconds(told: Installation, receiver: Receiver) -> None:
    receiver.script = [says(500)]
    endpoint = await add_endpoint(told, receiver)

    await told.chat()
    found = (await until(told, endpoint, "delivered"))[0]

    assert [one["status_code"] for one in found["attempts"]] == [500, 204]
    first, second = (one["started_at"] for one in found["attempts"])
    assert second - first >= 3
    assert [one.id for one in receiver.received] == [found["event_id"]] * 2
    stamps = [one.headers["webhook-timestamp"] for one in receiver.received]
    assert stamps[0] != stamps[1]


async def test_ten_tries_exhaust_a_delivery_and_another_endpoint_is_told(
    told: Installation, receiver: Receiver
) -> None:
    receiver.default = says(503)
    endpoint = await add_endpoint(told, receiver)
    async with serve_receiver() as other:
        watcher = await add_endpoint(told, other, "webhook_delivery.exhausted")
        await told.chat()

        gaps = []
        for number in range(1, 10):
            found = (await until_tried(told, endpoint, number))[0]
            gaps.append(found["next_attempt_at"] - found["attempts"][-1]["started_at"])
            await let_time_pass(told)
        exhausted = (await until(told, endpoint, "exhausted"))[0]
        await until(told, watcher, "delivered")

    schedule = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert all(0.9 * wanted - 1 <= gap <= 1.1 * wanted + 2 for gap, wanted in zip(gaps, schedule, strict=True)), gaps
    assert len(exhausted["attempts"]) == 10
    assert exhausted["next_attempt_at"] is None
    event = other.received[0].body
    assert event["type"] == "webhook_delivery.exhausted"
    assert event["data"]["id"] == exhausted["id"]


async def until_tried(sluice: Installation, endpoint: dict[str, Any], tries: int) -> list[dict[str, Any]]:
    async def are_tried() -> list[dict[str, Any]]:
        found = await deliveries(sluice, endpoint)
        return found if found and found[0]["status"] == "failed" and len(found[0]["attempts"]) == tries else []

    found: list[dict[str, Any]] = await eventually(are_tried, within_s=20)
    return found


async def test_the_breaker_opens_after_five_failures_and_one_probe_closes_it(
    told: Installation, receiver: Receiver
) -> None:
    receiver.default = says(500)
    endpoint = await add_endpoint(told, receiver)
    for _ in range(5):
        await told.chat()
    await until(told, endpoint, "failed", count=5)
    await eventually(lambda: is_open(told, endpoint, 60))
    tried = len(receiver.received)

    await told.chat()
    waiting = await eventually(lambda: postponed(told, endpoint))
    assert len(receiver.received) == tried

    await let_time_pass(told)  # half-open: the probe fails, the pause doubles
    await eventually(lambda: is_open(told, endpoint, 120))
    assert len(receiver.received) == tried + 1

    receiver.default = says(204)
    await let_time_pass(told)
    await eventually(lambda: is_open(told, endpoint, 0))
    await let_time_pass(told)
    found = await until(told, endpoint, "delivered", count=6)
    assert waiting["id"] in {one["id"] for one in found}


async def test_enabling_ends_a_pause_of_the_breaker(told: Installation, receiver: Receiver) -> None:
    endpoint = await add_endpoint(told, receiver)
    await change_endpoint(told, endpoint, pause_s=900, open_until_ms=now_ms() + 900_000)
    await told.chat()
    await eventually(lambda: postponed(told, endpoint))

    await told.post(f"/v1/webhook_endpoints/{endpoint['id']}/enable")

    await until(told, endpoint, "delivered")
    assert (await row_of(told, endpoint)).pause_s == 0


async def test_half_of_the_last_twenty_tries_open_the_breaker(told: Installation, receiver: Receiver) -> None:
    receiver.script = [says(500)]
    endpoint = await add_endpoint(told, receiver)
    await change_endpoint(told, endpoint, recent=0b0101_0101_0101_0101_0100, recent_count=20)

    await told.chat()

    await eventually(lambda: is_open(told, endpoint, 60))


async def is_open(sluice: Installation, endpoint: dict[str, Any], pause_s: int) -> bool:
    return (await row_of(sluice, endpoint)).pause_s == pause_s


async def postponed(sluice: Installation, endpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Return the newest delivery once it waits for the breaker."""
    newest = (await deliveries(sluice, endpoint))[0]
    until_ms = (await row_of(sluice, endpoint)).open_until_ms or 0
    return newest if newest["next_attempt_at"] == until_ms // 1000 else None


async def test_410_disables_an_endpoint_and_enabling_goes_on_with_what_was_paused(
    told: Installation, receiver: Receiver
) -> None:
    receiver.script = [says(410)]
    endpoint = await add_endpoint(told, receiver)
    async with serve_receiver() as other:
        watcher = await add_endpoint(told, other, "webhook_endpoint.disabled")
        await told.chat()
        await until(told, watcher, "delivered")
        event = other.received[0].body

    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    found = await (await told.get(path)).json()
    assert (found["status"], found["disabled_reason"]) == ("disabled", "the receiver answered 410")
    assert event["data"]["id"] == endpoint["id"]
    await told.chat()
    paused = await until(told, endpoint, "paused", count=2)
    assert len(receiver.received) == 1
    assert [one["id"] for one in await deliveries(told, endpoint, status="paused")] == [one["id"] for one in paused]
    assert (await told.post(f"/v1/webhook_deliveries/{paused[0]['id']}/redeliver")).status == 409
    assert (await told.post(f"{path}/recover", {"since": 0})).status == 422

    enabled = await (await told.post(f"{path}/enable")).json()
    await let_time_pass(told)
    await until(told, endpoint, "delivered", count=2)

    assert (enabled["status"], enabled["disabled_reason"]) == ("enabled", None)
    assert {one.id for one in receiver.received} == {one["event_id"] for one in paused}


async def test_five_days_of_nothing_but_failures_disable_an_endpoint(told: Installation, receiver: Receiver) -> None:
    receiver.default = says(500)
    endpoint = await add_endpoint(told, receiver)
    await change_endpoint(told, endpoint, failing_since_ms=now_ms() - 5 * 86_400_000)

    await told.chat()
    await until(told, endpoint, "paused")

    assert (await read_endpoint(told, endpoint))["disabled_reason"] == "nothing but failures for five days"


async def test_a_delivery_is_sent_again_with_the_same_event(told: Installation, receiver: Receiver) -> None:
    endpoint = await add_endpoint(told, receiver)
    await told.chat()
    found = (await until(told, endpoint, "delivered"))[0]

    again = await told.post(f"/v1/webhook_deliveries/{found['id']}/redeliver")
    await eventually(lambda: len(receiver.received) == 2)
    after = (await until(told, endpoint, "delivered"))[0]

    assert (again.status, (await again.json())["status"]) == (202, "pending")
    assert receiver.received[0].raw == receiver.received[1].raw
    assert receiver.received[0].id == receiver.received[1].id
    assert [one["trigger"] for one in after["attempts"]] == ["scheduled", "manual"]


async def test_what_was_lost_in_a_window_is_recovered(told: Installation, receiver: Receiver) -> None:
    receiver.default = says(400, webhook_delivery="abort-message")
    endpoint = await add_endpoint(told, receiver)
    for _ in range(3):
        await told.chat()
    lost = await until(told, endpoint, "aborted", count=3)
    receiver.default = says(204)
    path = f"/v1/webhook_endpoints/{endpoint['id']}/recover"

    none = await told.post(path, {"since": lost[0]["created_at"] - 60})
    answer = await told.post(path, {"since": lost[0]["created_at"] - 60, "until": None, "statuses": ["aborted"]})
    found = await until(told, endpoint, "delivered", count=3)

    assert (await none.json())["matched"] == 0
    assert answer.status == 202
    assert await answer.json() == {
        "object": "webhook_recovery", "webhook_endpoint_id": endpoint["id"], "matched": 3
    }  # fmt: skip
    assert {one["id"] for one in found} == {one["id"] for one in lost}
    assert {one["attempts"][-1]["trigger"] for one in found} == {"recover"}


async def test_at_most_ten_tries_of_an_endpoint_are_under_way(told: Installation, receiver: Receiver) -> None:
    receiver.default = hang
    endpoint = await add_endpoint(told, receiver)
    for _ in range(14):
        await told.chat()

    await eventually(lambda: receiver.running == 10)
    async with serve_receiver() as other:
        quick = await add_endpoint(told, other)
        await told.chat()
        await until(told, quick, "delivered")  # a slow endpoint does not hold up another one

    assert receiver.most == 10
    assert len([one for one in await deliveries(told, endpoint) if one["status"] == "pending"]) == 5


async def test_a_result_is_sent_along_if_it_is_small(told: Installation, receiver: Receiver) -> None:
    endpoint = await add_endpoint(told, receiver, include_result=True)

    small = await (await told.chat(simulator={"text": "short"})).json()
    await told.chat(simulator={"text": "x" * 300_000})
    await until(told, endpoint, "delivered", count=2)

    data = {one.body["data"].get("result_omitted"): one.body["data"] for one in receiver.received}
    assert data[None]["result"] == small
    assert "result" not in data[True]
    assert all(len(one.raw) < 300_000 for one in receiver.received)


async def test_a_result_in_a_delivery_is_shown_to_its_owner_only(told: Installation, receiver: Receiver) -> None:
    owner = await key_of(told, (await add_user(told))["id"])
    endpoint = await add_endpoint(told, receiver, "job.completed", include_result=True, as_=owner)
    await told.chat(headers=owner, simulator={"text": "between us"})
    (delivery,) = await until(told, endpoint, "delivered")

    path = f"/v1/webhook_deliveries/{delivery['id']}"
    own, others = [await (await told.get(path, headers=headers)).json() for headers in (owner, told.headers)]

    assert ("between us" in own["request_body"], "between us" in others["request_body"]) == (True, False)
    assert json.loads(others["request_body"])["type"] == "job.completed"


async def test_headers_of_the_endpoint_are_sent_along(told: Installation, receiver: Receiver) -> None:
    endpoint = await add_endpoint(told, receiver, headers={"X-Team": "blue", "Authorization": "Bearer secret"})

    await told.chat()
    await until(told, endpoint, "delivered")

    headers = receiver.received[0].headers
    assert (headers["x-team"], headers["authorization"]) == ("blue", "Bearer secret")
    assert json.dumps(endpoint).count("Bearer secret") == 0


async def test_what_was_paused_while_its_endpoint_was_enabled_goes_on(told: Installation, receiver: Receiver) -> None:
    endpoint = await add_endpoint(told, receiver)
    await change_endpoint(told, endpoint, status="disabled")
    await told.chat()
    await until(told, endpoint, "paused")
    await change_endpoint(told, endpoint, status="enabled")  # unlike the API, it looks at no delivery

    assert told.runtime is not None
    await wake_paused(told.runtime)

    await until(told, endpoint, "delivered")


async def test_a_secret_that_cannot_be_read_is_told_and_mended_by_a_new_one(
    told: Installation, receiver: Receiver
) -> None:
    endpoint = await add_endpoint(told, receiver, headers={"X-A": "b"})
    await change_endpoint(told, endpoint, secrets_sealed=b"x" * 40, headers_sealed=b"y" * 40)

    await told.chat()
    failed = (await until(told, endpoint, "failed"))[0]
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    assert (await (await told.get(path)).json())["headers"] == {}
    assert (await told.post(path, {"headers": None})).status == 200
    secret = (await (await told.post(f"{path}/rotate_secret", {})).json())["signing_secret"]
    await let_time_pass(told)
    await until(told, endpoint, "delivered")

    assert failed["attempts"][0]["error"] == "the secret cannot be read"
    Webhook(secret).verify(receiver.received[0].raw, receiver.received[0].headers)
