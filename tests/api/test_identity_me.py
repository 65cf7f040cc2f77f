"""/v1/me: one's own account, keys and usage."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from shared.clock import now_ms
from shared.keys.tables import KeyRow
from shared.roles.schemas import PERMISSIONS
from shared.secrets import hash_key
from shared.usage.tables import UsageRecordRow
from tests.conftest import make_settings
from tests.installation import FIRST_MODELS, Installation, open_installation
from tests.people import (
    INFO,
    KEYS,
    ROLES,
    TOKENS,
    USAGE,
    USER_ROLE,
    USERS,
    add_user,
    bearer,
    changed,
    create,
    key_of,
    read,
    refused,
)
from tests.providers import ScriptedProvider, says, usage
from tests.servers import RedisServer
from tests.waiting import eventually

DAY = 86_400


async def test_one_sees_one_s_account(both: Installation) -> None:
    await create(both, "/v1/admin/routers", name="m", type="text-generation")
    await create(both, "/v1/admin/routers", name="n", type="text-generation")
    rows = [(1, "rpm", 5), (1, "tpd", None), (2, "rpm", 9), (2, "tpd", 0)]
    limits = [{"router": router, "type": kind, "value": value} for router, kind, value in rows]
    role = await create(both, ROLES, name="r", permissions=["read_metric"], limits=limits)
    user = await add_user(both, name="First", role=role["id"], organization=1, budget=2.5, carbon_budget=7, priority=2)

    info = await read(both, INFO, headers=await key_of(both, user["id"]))

    assert info == {
        "object": "userInfo", "id": user["id"], "email": "first@example.com", "name": "First", "organization": 1,
        "budget": 2.5, "carbon_budget": 7, "carbon_budget_remaining": 7, "permissions": ["read_metric"],
        "limits": [
            {"router": 1, "router_id": 1, "type": "rpm", "value": 5, "model": "simulator"},
            {"router": 1, "router_id": 1, "type": "tpd", "value": None, "model": "simulator"},
        ],
        "expires": None, "priority": 2, "created": user["created"], "updated": user["updated"],
    }  # fmt: skip


async def test_the_master_has_an_account_without_a_row(both: Installation) -> None:
    info = await read(both, INFO)

    kinds = ("rpm", "rpd", "tpm", "tpd")
    assert info == {
        "object": "userInfo", "id": 0, "email": "master", "name": "master", "organization": 0, "budget": None,
        "carbon_budget": None, "carbon_budget_remaining": None,
        "permissions": list(PERMISSIONS),
        "limits": [
            {"router": number, "router_id": number, "type": kind, "value": None, "model": model}
            for number, model in enumerate(FIRST_MODELS, start=1)
            for kind in kinds
        ],
        "expires": None, "priority": 0, "created": 0, "updated": 0,
    }  # fmt: skip
    assert await refused(await both.patch(INFO, {"name": "x"})) == (404, "User not found.")
    assert await refused(await both.post(KEYS, {"name": "k"})) == (404, "User not found.")
    assert (await read(both, KEYS))["data"] == []


async def test_nothing_but_name_email_and_password_is_one_s_own_to_change(both: Installation) -> None:
    expires = int(time.time()) + DAY
    user = await add_user(both, organization=1, budget=5, carbon_budget=6, expires=expires, priority=1)
    headers = await key_of(both, user["id"])
    before = await read(both, f"{USERS}/{user['id']}")

    mine: dict[str, Any] = {"budget": 10**6, "carbon_budget": None, "role": 1, "role_id": 1, "priority": 9, "id": 1}
    mine |= {"expires": None, "organization": None, "permissions": ["admin"], "limits": [], "budget_micros": 10**12}
    mine |= {"sub": "x", "iss": "x", "user": 1, "user_id": 1, "created": 0, "expires_ms": None, "role_ids": [1]}
    await changed(both, INFO, mine, headers=headers)
    await changed(both, INFO, dict.fromkeys(mine), headers=headers)
    await changed(both, INFO, {"name": " x "}, headers=headers)

    assert await read(both, f"{USERS}/{user['id']}") | {"updated": 0} == before | {"updated": 0, "name": "x"}


async def test_rules_of_one_s_own_account(both: Installation) -> None:
    user = await add_user(both)
    await add_user(both, "second@example.com")
    headers = await key_of(both, user["id"])

    for body in ({"name": " "}, {"email": " "}, {"email": "x"}, {"password": "short"}, {"email": f"{'a' * 250}@b.cd"}):
        assert (await both.patch(INFO, body, headers=headers)).status == 422, body
    reserved = await both.patch(INFO, {"email": "master"}, headers=headers)
    assert await refused(reserved) == (403, "Reserved email.")
    taken = await both.patch(INFO, {"email": "second@example.com"}, headers=headers)
    assert await refused(taken) == (409, "User already exists.")
    await changed(both, INFO, {"email": " first@example.org "}, headers=headers)
    assert (await read(both, INFO, headers=headers))["email"] == "first@example.org"


async def test_keys_of_one_s_own(both: Installation) -> None:
    user = await add_user(both)
    headers = await key_of(both, user["id"])
    expires = int(time.time()) + DAY
    body = {"name": " laptop ", "expires": expires, "scopes": ["jobs", "inference", "jobs"]}
    response = await both.post(KEYS, body, headers=headers)

    made = await response.json()
    assert (response.status, made["key"]) == (201, made["token"])
    key = await read(both, f"{KEYS}/{made['id']}", headers=headers)
    assert key == {
        "object": "key", "id": made["id"], "name": "laptop", "token": f"{made['key'][:8]}...{made['key'][-8:]}",
        "expires": expires, "scopes": ["inference", "jobs"], "dialect": None, "last_used_at": None,
        "created": key["created"],
    }  # fmt: skip
    page = await read(both, f"{KEYS}?order_by=name&order_direction=desc&limit=1", headers=headers)
    assert (page["data"], page["total"]) == ([key], 2)
    assert (await both.delete(f"{KEYS}/{made['id']}", headers=headers)).status == 204
    assert await refused(await both.get(f"{KEYS}/{made['id']}", headers=headers)) == (404, "Token not found.")
    for body in ({"name": " "}, {}, {"name": "k", "expires": 1}, {"name": "k", "scopes": ["root"]}):
        assert (await both.post(KEYS, body, headers=headers)).status == 422, body


async def test_a_key_may_delete_itself(both: Installation) -> None:
    user = await add_user(both)
    headers = await key_of(both, user["id"])

    assert (await both.delete(f"{KEYS}/1", headers=headers)).status == 204
    assert await refused(await both.get(INFO, headers=headers)) == (401, "Invalid API key.")


async def test_keys_of_others_are_not_found(both: Installation) -> None:
    user = await add_user(both)
    headers = await key_of(both, user["id"])
    other = await create(both, TOKENS, name="other", user=1)

    path = f"{KEYS}/{other['id']}"
    for response in (await both.get(path, headers=headers), await both.delete(path, headers=headers)):
        assert await refused(response) == (404, "Token not found.")
    assert (await read(both, KEYS, headers=headers))["total"] == 1
    assert (await both.get("/v1/models", headers=bearer(other["key"]))).status == 200


async def test_expired_keys_can_be_seen_and_removed(both: Installation) -> None:
    past = now_ms() - 1000
    async with both.state.database.transaction() as session:
        session.add(KeyRow(name="old", user_id=2, hash=hash_key("x"), masked="...", expires_ms=past, created_ms=past))
    headers = await key_of(both, 2)

    assert (await read(both, KEYS, headers=headers))["data"][0]["expires"] == past // 1000
    assert (await both.delete(f"{KEYS}/1", headers=headers)).status == 204


async def test_an_administrator_deletes_any_key_by_its_id(both: Installation) -> None:
    headers = await key_of(both, 2)

    assert (await both.delete(f"{TOKENS}/1")).status == 204
    assert (await both.get(INFO, headers=headers)).status == 401


async def test_keys_may_have_a_longest_validity(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> None:
    settings = make_settings(tmp_path, redis_server, database_url=prepared_url, key_max_expiration_days=30)
    async with open_installation(settings, workers=False) as sluice:
        headers = await key_of(sluice, 2)
        now = int(time.time())
        for path, body, options in (
            (TOKENS, {"name": "k", "user": 2}, {}),
            (KEYS, {"name": "k"}, {"headers": headers}),
        ):
            response = await sluice.post(path, body | {"expires": now + 31 * DAY}, **options)
            text = "Token expiration timestamp cannot be greater than 30 days from now."
            assert await refused(response) == (400, text)
            assert (await response.json())["error"]["code"] == "expiration_too_far"
            for expires, expected in ((None, now + 30 * DAY), (now + 29 * DAY, now + 29 * DAY)):
                made = await (await sluice.post(path, body | {"expires": expires}, **options)).json()
                found = (await read(sluice, f"{TOKENS}/{made['id']}"))["expires"]
                assert abs(found - expected) <= 5


async def test_the_last_use_of_a_key_is_noted_once_a_minute(both: Installation) -> None:
    headers = await key_of(both, 2)
    assert (await read(both, f"{TOKENS}/1"))["last_used_at"] is None
    revision = both.state.directory.revision

    await both.get("/v1/models", headers=headers)
    first = await eventually(lambda: last_used(both))
    await asyncio.sleep(1.1)
    await both.get("/v1/models", headers=headers)
    await both.state.last_used._write()

    assert abs(first - time.time()) < 10
    assert (await both.rows(KeyRow))[0].last_used_ms // 1000 == first
    assert both.state.directory.revision == revision
    both.state.last_used.note(1, now_ms() + 59_000 + 1000)
    await both.state.last_used._write()
    assert (await both.rows(KeyRow))[0].last_used_ms // 1000 > first


async def last_used(installation: Installation) -> Any:
    return (await read(installation, f"{TOKENS}/1"))["last_used_at"]


async def test_one_sees_one_s_usage(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = says("Hi", reported=usage(1000, 500))
    await both.add_model("m", provider.url, prices=(0.5, 2), model_total_params=70)
    headers = await key_of(both, 2)
    await both.chat(model="m")
    await both.chat(model="m", headers=headers)
    await both.chat(model="m", headers=headers, stream=True)
    await both.chat(headers=headers, simulator={"fail": "400"})

    page = await read(both, USAGE, headers=headers)

    assert page | {"data": []} == {"object": "list", "data": [], "total": 2, "offset": 0, "limit": 10}
    record = page["data"][1]
    carbon = record["usage"].pop("carbon")
    impacts = record["usage"].pop("impacts")
    metrics = record["usage"].pop("metrics")
    assert record == {
        "object": "me.usage", "model": "m", "key": "k", "endpoint": "/v1/chat/completions", "method": "POST",
        "status": 200, "created": record["created"],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500, "cost": 0.0015},
    }  # fmt: skip
    assert carbon["kWh"]["min"] < impacts["kWh"] < carbon["kWh"]["max"]
    assert (metrics["latency"] >= 0, metrics["ttft"]) == (True, None)
    assert page["data"][0]["usage"]["metrics"]["ttft"] is not None
    assert page["data"][0]["created"] >= record["created"]
    assert (await read(both, USAGE))["total"] == 1


async def test_usage_is_filtered_by_time_and_endpoint(both: Installation) -> None:
    headers = await key_of(both, 2)
    await both.chat(headers=headers)
    at = (await both.rows(UsageRecordRow))[0].created_ms // 1000

    for query, total in (
        (f"start_time={at}&end_time={at}", 1),
        (f"start_time={at + 1}", 0),
        (f"end_time={at - 1}", 0),
        ("endpoint=/v1/chat/completions", 1),
        ("endpoint=/v1/embeddings", 0),
    ):
        assert (await read(both, f"{USAGE}?{query}", headers=headers))["total"] == total, query
    for query in ("endpoint=/v1/jobs", "start_time=x", "limit=0", "offset=-1", "end_time=-1"):
        assert (await both.get(f"{USAGE}?{query}", headers=headers)).status == 422, query


async def test_a_restated_record_counts_in_its_last_form(both: Installation) -> None:
    await both.chat()
    row = (await both.rows(UsageRecordRow))[0]
    async with both.state.database.transaction() as session:
        session.add(UsageRecordRow(**(row.model_dump() | {"id": "z", "supersedes": row.id, "prompt_tokens": 77})))

    page = await read(both, USAGE)

    assert (page["total"], [one["usage"]["prompt_tokens"] for one in page["data"]]) == (1, [77])


@pytest.mark.parametrize("body", [{"name": "k", "user": USER_ROLE, "expires": 2**41}, {"name": "x" * 256, "user": 2}])
async def test_keys_beyond_all_bounds_are_422(sluice: Installation, body: dict[str, Any]) -> None:
    assert (await sluice.post(TOKENS, body)).status == 422
