"""Endpoints: who sees them, what may be registered, secrets, and which events go where."""

from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.clock import now_ms
from shared.jobs.tables import JobRow
from shared.webhooks.events import EVENT_TYPES
from shared.webhooks.tables import WebhookDeliveryRow, WebhookEndpointRow
from tests.installation import Installation
from tests.people import add_user, key_of
from tests.receivers import Receiver, says, serve_receiver
from tests.waiting import eventually
from tests.webhooks import ENDPOINTS, add_endpoint, deliveries, read_endpoint, until

ASYNC = {"Prefer": "respond-async"}
CHAT = {"model": "simulator", "messages": [{"role": "user", "content": "Hello"}]}


async def refusal(answer: Any) -> tuple[int, str]:
    return answer.status, (await answer.json())["error"]["code"]


async def submit(sluice: Installation, body: dict[str, Any] | None = None, **members: Any) -> Any:
    """Post a job and return the answer."""
    return await sluice.post("/v1/jobs", {"endpoint": "/v1/chat/completions", "body": CHAT | (body or {})} | members)


async def test_an_endpoint_is_made_changed_listed_and_deleted(told: Installation, receiver: Receiver) -> None:
    made = await add_endpoint(
        told, receiver, "job.completed", "batch.completed", headers={"X-Api-Key": "k", "X-A": "b"}
    )
    path = f"{ENDPOINTS}/{made['id']}"

    assert made["object"] == "webhook_endpoint"
    assert made["event_types"] == ["batch.completed", "job.completed"]
    assert made["headers"] == {"x-api-key": "***", "x-a": "b"}
    assert made["signing_secret_hint"].endswith(made["signing_secret"].rstrip("=")[-4:])
    shown = await (await told.get(path)).json()
    assert shown == {name: value for name, value in made.items() if name != "signing_secret"}
    same = await (await told.post(path, {"name": "test", "headers": {"X-Api-Key": "k", "X-A": "b"}})).json()
    assert same == shown
    other = await (await told.post(path, {"event_types": ["job.failed"], "description": "d", "kinds": ["ocr"]})).json()
    assert (other["event_types"], other["description"], other["kinds"]) == (["job.failed"], "d", ["ocr"])
    newer = await add_endpoint(told, receiver)
    page = await (await told.get(f"{ENDPOINTS}?limit=1")).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([newer["id"]], True)
    page = await (await told.get(f"{ENDPOINTS}?limit=1&after={newer['id']}")).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([made["id"]], False)
    gone = await told.delete(path)
    assert await gone.json() == {"id": made["id"], "object": "webhook_endpoint.deleted", "deleted": True}
    assert (await told.get(path)).status == 404
    row = (await told.rows(WebhookEndpointRow))[0]
    assert newer["signing_secret"].encode() not in row.secrets_sealed


async def test_the_event_types_are_listed(told: Installation) -> None:
    listed = await (await told.get("/v1/webhook_event_types")).json()
    assert listed == {"object": "list", "data": sorted(EVENT_TYPES)}
    assert len(EVENT_TYPES) == 17


async def test_an_endpoint_is_its_owners_and_administrators(told: Installation, receiver: Receiver) -> None:
    owner = await key_of(told, (await add_user(told, "a@example.com"))["id"])
    stranger = await key_of(told, (await add_user(told, "b@example.com"))["id"])
    made = await add_endpoint(told, receiver, as_=owner)
    await told.chat(headers=owner)
    delivery = (await until(told, made, "delivered"))[0]
    path, log = f"{ENDPOINTS}/{made['id']}", f"/v1/webhook_deliveries/{delivery['id']}"

    await told.chat(headers=stranger)
    await told.chat()

    for method, where, body in (
        ("GET", path, None), ("POST", path, {"name": "x"}), ("DELETE", path, None), ("POST", f"{path}/enable", None),
        ("POST", f"{path}/disable", None), ("POST", f"{path}/rotate_secret", {}), ("GET", f"{path}/deliveries", None),
        ("POST", f"{path}/test", {"event_type": "job.completed"}), ("POST", f"{path}/recover", {"since": 0}),
        ("GET", log, None), ("POST", f"{log}/redeliver", None),
    ):  # fmt: skip
        answer = await told.client.request(method, where, json=body, headers=stranger)
        assert answer.status in (404, 422 if where.endswith("recover") else 404), (method, where)
    assert (await (await told.get(ENDPOINTS, headers=stranger)).json())["data"] == []
    assert [one["id"] for one in (await (await told.get(ENDPOINTS)).json())["data"]] == [made["id"]]
    assert (await told.get(path)).status == (await told.get(log, headers=owner)).status == 200
    foreign = await told.post(
        "/v1/jobs",
        {"endpoint": "/v1/chat/completions", "body": CHAT, "webhook_endpoint_ids": [made["id"]]},
        headers=stranger,
    )
    assert foreign.status == 404
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"event_types": ["job.done"]}, "unknown_event_type"),
        ({"event_types": []}, "invalid_request"),
        ({"url": "ftp://127.0.0.1/"}, "webhook_url_not_allowed"),
        ({"url": "http://user:pass@127.0.0.1:8000/"}, "webhook_url_not_allowed"),
        ({"url": "http://@127.0.0.1:8000/"}, "webhook_url_not_allowed"),
        ({"url": "http://127.0.0.1:25/"}, "webhook_url_not_allowed"),
        ({"url": "http://10.0.0.1/"}, "webhook_url_not_allowed"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "webhook_url_not_allowed"),
        ({"url": "http://127.0.0.1/" + "x" * 2048}, "webhook_url_not_allowed"),
        ({"url": "http://127.0.0.1/ a"}, "webhook_url_not_allowed"),
        ({"url": "http:///path"}, "webhook_url_not_allowed"),
        ({"url": "nonsense"}, "webhook_url_not_allowed"),
        ({"url": "http://no-such-host.invalid/"}, "webhook_url_not_allowed"),
        ({"headers": {"Webhook-Id": "1"}}, "webhook_header_not_allowed"),
        ({"headers": {"Host": "inner"}}, "webhook_header_not_allowed"),
        ({"headers": {"X-A": "b\r\nX-C: d"}}, "invalid_request"),
        ({"headers": {f"X-{number}": "" for number in range(11)}}, "invalid_request"),
        ({"name": ""}, "invalid_request"),
    ],
)
async def test_what_cannot_be_an_endpoint_is_refused(
    told: Installation, receiver: Receiver, members: dict[str, Any], code: str
) -> None:
    answer = await told.post(ENDPOINTS, {"name": "n", "url": receiver.url, "event_types": ["job.completed"]} | members)

    assert await refusal(answer) == (422 if code == "invalid_request" else 400, code)
    assert await told.rows(WebhookEndpointRow) == []


async def test_without_settings_only_public_names_over_https_may_be_registered(sluice: Installation) -> None:
    for url in (
        "http://example.com/", "https://127.0.0.1/", "https://localhost/", "https://0x7f000001/", "https://2130706433/",
        "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://0.0.0.0/", "https://127.1/", "https://8.8.8.8/",
    ):  # fmt: skip
        answer = await sluice.post(ENDPOINTS, {"name": "n", "url": url, "event_types": ["job.completed"]})
        assert await refusal(answer) == (400, "webhook_url_not_allowed"), url


async def test_a_rotated_secret_signs_beside_the_old_one_until_the_overlap_ends(
    told: Installation, receiver: Receiver
) -> None:
    made = await add_endpoint(told, receiver)
    path = f"{ENDPOINTS}/{made['id']}/rotate_secret"
    old = made["signing_secret"]

    rotated = await (await told.post(path, {"keep_old_secret_active_for_24_hours": True})).json()
    await told.chat()
    await until(told, made, "delivered")
    new = rotated["signing_secret"]
    both = receiver.received[0]
    assert new != old
    for secret in (old, new):
        Webhook(secret).verify(both.raw, both.headers)
    assert both.headers["webhook-signature"].count(",") == 2

    last = (await (await told.post(path, {})).json())["signing_secret"]
    await told.chat()
    await until(told, made, "delivered", count=2)
    alone = receiver.received[1]
    Webhook(last).verify(alone.raw, alone.headers)
    for secret in (old, new):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(alone.raw, alone.headers)
    assert (await told.post(path, {"overlap_seconds": 604_801})).status == 422


async def test_an_overlap_ends(told: Installation, receiver: Receiver) -> None:
    made = await add_endpoint(told, receiver)
    rotated = await told.post(f"{ENDPOINTS}/{made['id']}/rotate_secret", {"overlap_seconds": 1})
    ends_ms = now_ms() + 1000
    await eventually(lambda: now_ms() > ends_ms)

    await told.chat()
    await until(told, made, "delivered")

    got = receiver.received[0]
    Webhook((await rotated.json())["signing_secret"]).verify(got.raw, got.headers)
    assert got.headers["webhook-signature"].count(",") == 1


async def test_a_sample_is_sent_at_once_and_logged(told: Installation, receiver: Receiver) -> None:
    made = await add_endpoint(told, receiver)
    path = f"{ENDPOINTS}/{made['id']}/test"
    receiver.script = [says(204), says(500)]

    taken = await (await told.post(path, {"event_type": "batch.completed"})).json()
    refused = await (await told.post(path, {"event_type": "job.failed"})).json()

    assert taken == {
        "object": "webhook_endpoint.test", "webhook_endpoint_id": made["id"], "event_type": "batch.completed",
        "status_code": 204, "success": True,
    }  # fmt: skip
    assert (refused["status_code"], refused["success"]) == (500, True)
    sample = Webhook(made["signing_secret"]).verify(receiver.received[0].raw, receiver.received[0].headers)
    assert (sample["test"], sample["type"], sample["data"]["id"][:6]) == (True, "batch.completed", "batch_")
    log = await deliveries(told, made)
    assert [(one["status"], one["attempts"][0]["trigger"]) for one in log] == [
        ("aborted", "test"),
        ("delivered", "test"),
    ]
    assert await refusal(await told.post(path, {"event_type": "nonsense"})) == (400, "unknown_event_type")


async def test_a_sample_to_nobody_fails(told: Installation) -> None:
    made = await add_endpoint(told, "http://127.0.0.1:1025/hooks")

    answer = await told.post(f"{ENDPOINTS}/{made['id']}/test", {"event_type": "job.failed"})

    assert await refusal(answer) == (400, "webhook_test_failed")
    assert (await deliveries(told, made))[0]["attempts"][0]["error_class"] == "connect"


async def test_an_owner_disables_and_enables(told: Installation, receiver: Receiver) -> None:
    made = await add_endpoint(told, receiver)
    path = f"{ENDPOINTS}/{made['id']}"

    first = await (await told.post(f"{path}/disable")).json()
    again = await (await told.post(f"{path}/disable")).json()
    await told.chat()
    await until(told, made, "paused")
    assert receiver.received == []
    await told.post(f"{path}/enable")
    await until(told, made, "delivered")

    assert (first["status"], first["disabled_reason"]) == ("disabled", "disabled by its owner")
    assert again == first


async def test_endpoints_get_what_they_subscribe_to(told: Installation, receiver: Receiver) -> None:
    failures = await add_endpoint(told, receiver.url + "/failures", "job.failed")
    chats = await add_endpoint(told, receiver.url + "/chats", "job.completed", kinds=["chat.completion"])
    changes = await add_endpoint(told, receiver.url + "/changes", "job.started", "job.retry_scheduled")

    embedded = await told.post("/v1/embeddings", {"model": "simulator-embedding", "input": "a"})
    assert embedded.status == 200
    await told.chat(simulator={"fail": "400"})
    await told.chat(simulator={"fail": "500", "fail_attempts": 1})
    await until(told, failures, "delivered")
    await until(told, chats, "delivered")
    await until(told, changes, "delivered", count=5)

    assert [one.type for one in receiver.received if one.path.endswith("/failures")] == ["job.failed"]
    assert [one.body["data"]["kind"] for one in receiver.received if one.path.endswith("/chats")] == ["chat.completion"]
    found = sorted(one.type for one in receiver.received if one.path.endswith("/changes"))
    assert found == ["job.retry_scheduled", *["job.started"] * 4]
    retry = receiver.of_type("job.retry_scheduled")[0].body["data"]
    assert (retry["status"], retry["result_expires_at"]) == ("queued", None)


async def test_jobs_that_never_started_are_told_of(idle_told: Installation, receiver: Receiver) -> None:
    made = await add_endpoint(idle_told, receiver)
    cancelled = await (await idle_told.chat(headers=ASYNC)).json()

    await idle_told.post(f"/v1/jobs/{cancelled['id']}/cancel")

    found = await deliveries(idle_told, made)
    assert [(one["event_type"], one["status"]) for one in found] == [("job.cancelled", "pending")]


async def test_expired_jobs_are_told_of(told: Installation, receiver: Receiver) -> None:
    made = await add_endpoint(told, receiver)

    answer = await submit(told, not_before=now_ms() // 1000 + 3600, start_timeout=7200)
    job_id = (await answer.json())["id"].removeprefix("job_")
    async with told.state.database.transaction() as session:
        row = await session.get_one(JobRow, job_id)
        row.expires_ms = now_ms() - 1
        session.add(row)
    await until(told, made, "delivered")

    assert receiver.received[0].body["data"]["status"] == "expired"


async def test_a_job_brings_its_own_webhook(told: Installation, receiver: Receiver) -> None:
    standing = await add_endpoint(told, receiver.url + "/standing")

    answer = await submit(told, webhook={"url": receiver.url + "/own", "include_result": True}, metadata={"a": "b"})
    job = await answer.json()
    own = {"id": job["webhook"]["endpoint_id"]}
    await until(told, own, "delivered")
    await until(told, standing, "delivered")

    assert answer.status == 202
    got = next(one for one in receiver.received if one.path == "/hooks/own")
    event = Webhook(job["webhook"]["secret"]).verify(got.raw, got.headers)
    assert event["data"]["metadata"] == {"a": "b"}
    assert event["data"]["result"]["object"] == "chat.completion"
    assert "webhook" not in await told.job(job["id"])
    assert [one["id"] for one in (await (await told.get(ENDPOINTS)).json())["data"]] == [standing["id"]]
    await told.chat()
    await until(told, standing, "delivered", count=2)
    assert len(await deliveries(told, own)) == 1


async def test_a_secret_of_ones_own_is_not_shown(told: Installation, receiver: Receiver) -> None:
    secret = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"

    job = await (
        await submit(told, webhook={"url": receiver.url, "secret": secret, "events": ["job.completed"]})
    ).json()
    await until(told, {"id": job["webhook"]["endpoint_id"]}, "delivered")

    assert job["webhook"]["secret"] is None
    Webhook(secret).verify(receiver.received[0].raw, receiver.received[0].headers)


@pytest.mark.parametrize(
    ("webhook", "status", "code"),
    [
        ({"url": "http://192.168.0.1/"}, 400, "webhook_url_not_allowed"),
        ({"events": ["nonsense"]}, 400, "unknown_event_type"),
        ({"secret": "short"}, 422, "invalid_request"),
        ({"secret": "whsec_!!!"}, 422, "invalid_request"),
    ],
)
async def test_a_webhook_that_cannot_be_is_refused_with_its_job(
    told: Installation, receiver: Receiver, webhook: dict[str, Any], status: int, code: str
) -> None:
    answer = await submit(told, webhook={"url": receiver.url} | webhook)

    assert await refusal(answer) == (status, code)
    assert await told.rows(JobRow) == []
    assert await told.rows(WebhookEndpointRow) == []


async def test_a_job_names_its_endpoints(told: Installation, receiver: Receiver) -> None:
    named = await add_endpoint(told, receiver.url + "/named")
    other = await add_endpoint(told, receiver.url + "/other")

    await submit(told, webhook_endpoint_ids=[named["id"]])
    await until(told, named, "delivered")

    assert await deliveries(told, other) == []
    assert (await submit(told, webhook_endpoint_ids=["we_nonsense"])).status == 404


async def test_a_deleted_endpoint_gets_nothing_more(told: Installation, receiver: Receiver) -> None:
    receiver.default = says(500)
    made = await add_endpoint(told, receiver)
    await told.chat()
    failed = (await until(told, made, "failed"))[0]

    await told.delete(f"{ENDPOINTS}/{made['id']}")
    async with told.state.database.transaction() as session:
        row = await session.get_one(WebhookDeliveryRow, failed["id"].removeprefix("whd_"))
        row.due_ms = now_ms()
        session.add(row)

    async def is_abandoned() -> bool:
        return (await told.rows(WebhookDeliveryRow))[0].status == "aborted"

    await eventually(is_abandoned)
    assert len(receiver.received) == 1
    assert (await told.get(f"/v1/webhook_deliveries/{failed['id']}")).status == 404


async def test_the_log_is_filtered_and_paged(told: Installation, receiver: Receiver) -> None:
    made = await add_endpoint(told, receiver)
    for _ in range(3):
        await told.chat()
    await told.chat(simulator={"fail": "400"})
    everything = await until(told, made, "delivered", count=4)

    assert len(await deliveries(told, made, event_type="job.failed")) == 1
    assert len(await deliveries(told, made, status="delivered", limit=2)) == 2
    assert await deliveries(told, made, status="exhausted") == []
    rest = await deliveries(told, made, after=everything[1]["id"])
    assert [one["id"] for one in rest] == [one["id"] for one in everything[2:]]
    assert await deliveries(told, made, created_before=everything[-1]["created_at"] - 1) == []
    assert all("request_body" not in one for one in everything)
    assert (await told.get(f"{ENDPOINTS}/{made['id']}/deliveries?after=job_1")).status == 400


async def test_who_has_no_endpoint_has_no_deliveries(told: Installation, receiver: Receiver) -> None:
    stranger = await key_of(told, (await add_user(told, "b@example.com"))["id"])
    async with serve_receiver() as other:
        await add_endpoint(told, other, as_=stranger)
        await told.chat()

    assert [row.notify for row in await told.rows(JobRow)] == [None]
    assert await told.rows(WebhookDeliveryRow) == []
    assert (await read_endpoint(told, {"id": "we_nonsense"}))["error"]["code"] == "not_found"
    assert receiver.received == []


async def test_only_its_owner_changes_where_and_what_an_endpoint_sends(told: Installation, receiver: Receiver) -> None:
    owner = await key_of(told, (await add_user(told))["id"])
    path = f"{ENDPOINTS}/{(await add_endpoint(told, receiver, as_=owner))['id']}"

    for change in ({"url": receiver.url + "/x"}, {"include_result": True}, {"headers": {"X-A": "b"}}):
        statuses = [(await told.post(path, change, headers=headers)).status for headers in (told.headers, owner)]
        assert statuses == [403, 200]
    assert (await told.post(f"{path}/rotate_secret", {})).status == 403
    assert (await told.post(path, {"description": "of ada"})).status == 200
    assert (await told.post(f"{path}/disable", {})).status == 200
