"""Vultr's API as its users call it: subscriptions, votes, months, request logs, health."""

import datetime as dt
import json
import uuid
from typing import Any

from sqlmodel import select

from shared.audit.tables import AuditEventRow
from shared.collections.tables import CollectionRow
from shared.conversations.tables import ConversationRow
from shared.documents.tables import ItemRow
from shared.keys.tables import KeyRow
from shared.usage.tables import ChargeRow
from tests.conftest import make_settings
from tests.installation import Installation, open_installation
from tests.people import add_user, bearer, key_of, log_in, read
from tests.servers import RedisServer
from tests.waiting import eventually
from worker.knowledge_sweep import sweep_documents

PATH = "/v2/inference"
CHAT = "/v1/chat/completions"


async def subscribe(sluice: Installation, headers: dict[str, str], label: str = "mine") -> dict[str, Any]:
    """Return a new subscription."""
    response = await sluice.post(PATH, {"label": label}, headers=headers)
    assert response.status == 201, await response.text()
    made: dict[str, Any] = (await response.json())["subscription"]
    return made


async def test_a_subscription_is_created_read_renamed_and_deleted(both: Installation) -> None:
    owner = await key_of(both, 2)
    made = await subscribe(both, owner, " my-inference ")

    assert set(made) == {"id", "date_created", "label", "api_key"}
    assert (made["label"], made["api_key"][:7], str(uuid.UUID(made["id"]))) == ("my-inference", "sk-sub-", made["id"])
    assert dt.datetime.fromisoformat(made["date_created"]).utcoffset() == dt.timedelta()
    assert await read(both, f"{PATH}/{made['id']}", headers=owner) == {"subscription": made}
    assert await read(both, PATH, headers=owner) == {
        "subscriptions": [made], "meta": {"total": 1, "links": {"next": "", "prev": ""}},
    }  # fmt: skip
    renamed = await both.patch(f"{PATH}/{made['id']}", {"label": "other"}, headers=owner)
    assert await renamed.json() == {"subscription": made | {"label": "other"}}
    key = bearer(made["api_key"])
    assert (await both.chat(headers=key)).status == 200
    deleted = await both.delete(f"{PATH}/{made['id']}", headers=owner)
    assert (deleted.status, await deleted.read()) == (204, b"")
    assert (await both.chat(headers=key)).status == 401
    missing = await both.get(f"{PATH}/{made['id']}", headers=owner)
    answer = await missing.json()
    assert (missing.status, answer["error"]["code"]) == (404, "subscription_not_found")
    assert answer["message"] == answer["detail"] == answer["error"]["message"]


async def test_the_master_is_told_that_a_subscription_needs_a_user(sluice: Installation) -> None:
    refused = await sluice.post(PATH, {"label": "mine"})

    assert refused.status == 404
    assert (await refused.json())["detail"] == (
        "The master key belongs to no user; a subscription needs the key of a user."
    )


async def test_a_secret_is_never_stored_in_clear_and_each_look_is_audited(both: Installation) -> None:
    owner = await key_of(both, 2)
    made = await subscribe(both, owner)
    await read(both, PATH, headers=owner)
    await read(both, f"{PATH}/{made['id']}", headers=owner)

    async with both.state.database.read() as session:
        row = (await session.exec(select(KeyRow).where(KeyRow.subscription_id == made["id"]))).one()
    assert made["api_key"] not in str(row.model_dump())
    assert made["api_key"].encode() not in (row.sealed or b"")
    events = [event for event in await both.rows(AuditEventRow) if event.object_type == "subscription"]
    assert sorted(event.action for event in events) == ["subscription.create"] + ["subscription.show"] * 2
    assert all(made["api_key"] not in str(event.model_dump()) for event in events)


async def test_subscriptions_are_shown_to_their_creator_and_to_administrators(both: Installation) -> None:
    other = await key_of(both, (await add_user(both))["id"])
    made = await subscribe(both, await key_of(both, 2))

    assert (await read(both, PATH, headers=other))["subscriptions"] == []
    for method in ("GET", "PATCH", "DELETE"):
        response = await both.client.request(method, f"{PATH}/{made['id']}", json={"label": "x"}, headers=other)
        assert response.status == 404
    assert (await both.get(f"{PATH}/{made['id']}/usage", headers=other)).status == 404
    assert (await read(both, PATH))["subscriptions"] == [made]


async def test_a_subscription_key_reaches_neither_account_nor_administration(both: Installation) -> None:
    made = await subscribe(both, await key_of(both, 1))  # an administrator's
    key = bearer(made["api_key"])

    for method, path in (
        ("GET", PATH), ("POST", PATH), ("GET", f"{PATH}/{made['id']}"), ("DELETE", f"{PATH}/{made['id']}"),
        ("GET", "/v1/admin/users"), ("POST", "/v1/me/keys"), ("PATCH", "/v1/me/info"),
    ):  # fmt: skip
        response = await both.client.request(method, path, json={"label": "x", "name": "x"}, headers=key)
        assert (response.status, (await response.json())["error"]["code"]) == (403, "permission_denied"), path
    login = await (await log_in(both, (await add_user(both))["email"])).json()
    assert (await both.get(PATH, headers=bearer(login["key"]))).status == 200


async def test_what_a_subscription_has_is_its_own_and_goes_with_it(
    database_url: str, tmp_path: Any, redis_server: RedisServer
) -> None:
    settings = make_settings(
        tmp_path, redis_server, database_url=database_url, vector_store_model="simulator-embedding"
    )
    async with open_installation(settings) as sluice:
        owner = await key_of(sluice, 2)
        made, other = await subscribe(sluice, owner), await subscribe(sluice, owner, "other")
        keys = [owner, bearer(made["api_key"]), bearer(other["api_key"])]
        for key in keys:
            created = await sluice.post("/v1/vector_store", {"name": "Notes"}, headers=key)
            assert (await created.json())["collection"]["id"] == "notes"
        added = await sluice.post("/v1/vector_store/notes/items", {"content": "mine"}, headers=keys[1])
        assert added.status == 201, await added.text()
        await sluice.post(f"{PATH}/{made['id']}/conversations", {}, headers=owner)
        items = [len((await read(sluice, "/v1/vector_store/notes/items", headers=key))["items"]) for key in keys]

        mine = (await read(sluice, "/v1/me/keys?limit=100", headers=owner))["data"]
        [token] = [one for one in mine if one["name"] == "mine"]
        assert (await sluice.delete(f"/v1/me/keys/{token['id']}", headers=owner)).status == 204
        assert sluice.runtime is not None
        await sweep_documents(sluice.runtime)

        assert items == [0, 1, 0]
        assert await sluice.rows(ConversationRow) == []
        assert [row.owner_key_id == 0 for row in await sluice.rows(CollectionRow)] == [True, False]
        assert await sluice.rows(ItemRow) == []


async def test_a_label_is_checked(sluice: Installation) -> None:
    owner = await key_of(sluice, 2)
    for body in ({}, {"label": ""}, {"label": "   "}, {"label": "x" * 129}, {"label": 5}):
        response = await sluice.post(PATH, body, headers=owner)
        assert (response.status, (await response.json())["detail"][0]["loc"]) == (422, ["body", "label"]), body
    assert (await sluice.post(PATH, {"label": "x" * 128}, headers=owner)).status == 201
    for query in ("per_page=0", "per_page=501"):
        assert (await sluice.get(f"{PATH}?{query}", headers=owner)).status == 422
    refused = await sluice.get(f"{PATH}?cursor=x", headers=owner)
    assert (refused.status, (await refused.json())["error"]["code"]) == (400, "invalid_cursor")


async def test_pages_lead_forwards_and_back(sluice: Installation) -> None:
    owner = await key_of(sluice, 2)
    for number in range(5):
        await subscribe(sluice, owner, f"s{number}")

    first = await read(sluice, f"{PATH}?per_page=2", headers=owner)
    second = await read(sluice, f"{PATH}?per_page=2&cursor={first['meta']['links']['next']}", headers=owner)
    third = await read(sluice, f"{PATH}?per_page=2&cursor={second['meta']['links']['next']}", headers=owner)
    back = await read(sluice, f"{PATH}?per_page=2&cursor={third['meta']['links']['prev']}", headers=owner)

    labels = [[one["label"] for one in page["subscriptions"]] for page in (first, second, third, back)]
    assert labels == [["s0", "s1"], ["s2", "s3"], ["s4"], ["s2", "s3"]]
    assert (first["meta"]["links"]["prev"], third["meta"]["links"]["next"], first["meta"]["total"]) == ("", "", 5)
    assert [one["label"] for one in (await read(sluice, f"{PATH}?label=s3", headers=owner))["subscriptions"]] == ["s3"]


async def test_lists_may_be_masked(tmp_path: Any, redis_server: RedisServer) -> None:
    async with open_installation(make_settings(tmp_path, redis_server, mask_subscription_keys=True)) as sluice:
        owner = await key_of(sluice, 2)
        made = await subscribe(sluice, owner)

        shown = (await read(sluice, PATH, headers=owner))["subscriptions"][0]["api_key"]
        assert shown == f"{made['api_key'][:8]}...{made['api_key'][-8:]}"
        assert (await read(sluice, f"{PATH}/{made['id']}", headers=owner))["subscription"] == made


async def test_usage_is_that_of_the_subscription_and_adds_up_to_the_ledger(both: Installation) -> None:
    await both.add_model("priced", prices=(0.55, 2.2))
    owner = await key_of(both, 2)
    made, other = await subscribe(both, owner), await subscribe(both, owner, "other")
    key = bearer(made["api_key"])

    await both.chat(model="priced", simulator={"tokens": 40}, headers=key)
    await both.chat(model="priced", headers=owner)
    speech = {"model": "simulator-speech", "input": "Trains leave.", "voice": "alloy"}
    assert (await both.post("/v1/audio/speech", speech, headers=key)).status == 200

    charges = [row for row in await both.rows(ChargeRow) if row.kind == "chat.completion"]
    charged = next(row for row in charges if row.completion_tokens == 40)
    usage = (await read(both, f"{PATH}/{made['id']}/usage", headers=owner))["usage"]
    assert usage["chat_by_model"] == {
        "current_month": [
            {
                "model": "priced", "tokens": 40, "input_tokens": charged.prompt_tokens, "output_price": 2,
                "input_price": 1,
            }
        ],
        "previous_month": [],
    }  # fmt: skip
    assert round((usage["chat"]["cost"] + usage["chat"]["input_cost"]) * 10**6) == charged.amount_micros
    assert usage["audio"] == {"tts_characters": 13, "tts_sm_characters": 0}
    empty = (await read(both, f"{PATH}/{other['id']}/usage", headers=owner))["usage"]
    assert (empty["chat_by_model"]["current_month"], empty["chat"]["cost"]) == ([], 0)
    own = (await read(both, "/v1/usage", headers=key))["current_month"]
    assert (own["requests"], own["tts"]) == (2, 13)
    assert (await read(both, "/v1/usage", headers=owner))["current_month"]["requests"] == 3


async def test_characters_of_small_models_are_counted_apart(both: Installation) -> None:
    routers = (await read(both, "/v1/admin/routers?limit=100"))["data"]
    speaks = next(router["id"] for router in routers if router["name"] == "simulator-speech")
    await both.patch(f"/v1/admin/routers/{speaks}", {"small": True})

    await both.post("/v1/audio/speech", {"model": "simulator-speech", "input": "Hello", "voice": "alloy"})

    month = (await read(both, "/v1/usage"))["current_month"]
    assert (month["tts"], month["tts_sm"]) == (0, 5)


async def test_a_subscription_has_the_defaults_of_vultr_and_its_form_of_models(sluice: Installation) -> None:
    key = bearer((await subscribe(sluice, await key_of(sluice, 2)))["api_key"])

    response = await sluice.chat(top_k=101, headers=key)
    models = (await read(sluice, "/v1/models", headers=key))["data"]
    ordinary = (await read(sluice, "/v1/models"))["data"]

    assert (response.status, (await response.json())["message"]) == (422, "Expected a number from 0 to 100")
    assert all(dt.datetime.fromisoformat(model["created"]).year >= 2026 for model in models)
    assert all(isinstance(model["created"], int) for model in ordinary)
    assert (await read(sluice, "/vultr/v1/models/simulator"))["created"] == models[0]["created"]


ROUTES = (
    "POST /v1/chat/completions", "POST /v1/chat/completions/RAG", "POST /v1/chat/completions/rag",
    "GET /v1/chat/completions/x", "POST /v1/chat/completions/x", "POST /v1/chat/completions/x/rate",
    "POST /v1/audio/speech", "GET /v1/audio/voices", "GET /v1/audio/models", "POST /v1/embeddings",
    "GET /v1/vector_store", "POST /v1/vector_store", "GET /v1/vector_store/x", "PUT /v1/vector_store/x",
    "DELETE /v1/vector_store/x", "POST /v1/vector_store/x/search", "GET /v1/vector_store/x/items",
    "POST /v1/vector_store/x/items", "GET /v1/vector_store/x/items/y", "PUT /v1/vector_store/x/items/y",
    "DELETE /v1/vector_store/x/items/y", "GET /v1/vector_store/x/files", "POST /v1/vector_store/x/files",
    "GET /v1/vector_store/x/files/y", "DELETE /v1/vector_store/x/files/y", "GET /v1/models", "GET /v1/models/a/b",
    "GET /v1/chat/models", "GET /v1/usage", "POST /v1/requests", "GET /v1/health", "GET /v2/inference",
    "POST /v2/inference", "GET /v2/inference/x", "PATCH /v2/inference/x", "DELETE /v2/inference/x",
    "GET /v2/inference/x/usage",
)  # fmt: skip
"""Of the contract, section 2."""


async def test_every_route_is_served_under_the_mount_too(sluice: Installation) -> None:
    for route in ROUTES:
        method, _, path = route.partition(" ")
        plain, mounted = [
            await sluice.client.request(method, mount + path, json={}, headers=sluice.headers)
            for mount in ("", "/vultr")
        ]

        text = await mounted.text()
        assert mounted.status == plain.status != 405, (route, text)
        assert '"Not Found"' not in text, route
        if mounted.status >= 400:
            answer = json.loads(text)
            assert answer["message"] == answer["error"]["message"], route


async def test_a_vote_and_the_requests_of_the_last_minutes(sluice: Installation) -> None:
    key = bearer((await subscribe(sluice, await key_of(sluice, 2)))["api_key"])
    made = await (await sluice.chat(headers=key)).json()

    vote = await sluice.post(f"{CHAT}/{made['id']}", {"vote": "UP"}, headers=key)
    listed = await sluice.post("/vultr/v1/requests", {"period": 15, "endpoint": "chat/completions"}, headers=key)

    assert (vote.status, await vote.read()) == (204, b"")
    assert (await read(sluice, f"{CHAT}/{made['id']}", headers=key))["vote"] == "up"
    entry = (await listed.json())["requests"][0]
    assert (entry["response_code"], entry["job_id"]) == (200, "job_" + made["id"].removeprefix("chatcmpl-"))
    assert json.loads(entry["request_headers"])["authorization"] == "***"
    refused = await sluice.post("/vultr/v1/requests", {"period": 20}, headers=key)
    assert refused.status == 422


async def test_health_tells_of_all_parts(both: Installation) -> None:
    async def is_well() -> bool:
        both.state.cluster._looked_ms = 0
        return (await read(both, "/v1/health"))["status"] == "ok"

    await eventually(is_well)

    found = await read(both, "/vultr/v1/health")
    assert found["components"] == dict.fromkeys(("database", "redis", "workers", "providers"), "ok")
    assert (await both.client.get("/v1/health")).status == 401


async def test_an_installation_without_workers_is_not_well(idle: Installation) -> None:
    response = await idle.get("/v1/health")

    found = await response.json()
    assert (response.status, found["status"]) == (200, "degraded")
    assert found["components"]["workers"] == "down"
