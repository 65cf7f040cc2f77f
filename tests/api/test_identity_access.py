"""Who may do what: models of roles, permissions, scopes of keys; and how fast a change holds."""

import re
from typing import Any

import pytest

from api.__main__ import open_state
from api.endpoints import ENDPOINTS
from shared.clock import now_ms
from shared.keys.tables import KeyRow
from shared.secrets import hash_key
from shared.tables import TABLES
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.conftest import make_settings
from tests.installation import ADMIN_KEY, FIRST_MODELS, Installation, open_installation, serve
from tests.people import (
    AUDIT,
    INFO,
    KEYS,
    ORGANIZATIONS,
    PROVIDERS,
    ROLES,
    ROUTERS,
    TOKENS,
    USERS,
    add_user,
    bearer,
    changed,
    create,
    key_of,
    person,
    read,
    refused,
)
from tests.waiting import eventually

HIDDEN = (404, "Model not found.")
CLOSED = (403, "Insufficient permissions to access the model.")
POOR = (403, "Insufficient rights.")
UNKNOWN = (401, "Invalid API key.")


@pytest.mark.parametrize(
    ("limits", "answer", "is_listed"),
    [
        ({}, HIDDEN, False),
        ({"rpm": 10}, None, True),
        ({"rpm": None}, None, True),
        ({"tpm": 5, "rpd": None}, None, True),
        ({"tpd": 0}, CLOSED, False),
        ({"rpm": 10, "tpd": 0}, CLOSED, False),
        ({"rpm": 0, "rpd": 1, "tpm": None, "tpd": None}, CLOSED, False),
    ],
)
async def test_a_model_that_is_listed_can_be_called_and_the_other_way_round(
    both: Installation, limits: dict[str, int | None], answer: Any, is_listed: bool
) -> None:
    rows = [{"router": 1, "type": kind, "value": value} for kind, value in limits.items()]
    role = await create(both, ROLES, name="r", permissions=["admin"], limits=rows)
    headers = await key_of(both, (await add_user(both, role=role["id"]))["id"])

    called = await both.chat(headers=headers)
    listed = [model["id"] for model in (await read(both, "/v1/models", headers=headers))["data"]]
    shown = {limit["router"] for limit in (await read(both, INFO, headers=headers))["limits"]}

    assert (called.status == 200 if answer is None else await refused(called) == answer) is True
    assert (listed, shown) == ((["simulator"], {1}) if is_listed else ([], set()))
    got = await both.get("/v1/models/simulator", headers=headers)
    assert (got.status == 200) if is_listed else (await refused(got) == HIDDEN)
    if answer == CLOSED:
        assert (await called.json())["error"]["code"] == "model_not_allowed"


async def test_access_comes_before_the_type_of_the_model(sluice: Installation) -> None:
    router = await create(sluice, ROUTERS, name="e", type="text-embeddings-inference")
    await sluice.add_provider(router["id"])
    headers = await key_of(sluice, 2)

    assert await refused(await sluice.chat(model="e", headers=headers)) == HIDDEN
    await sluice.grant(router["id"], rpm=0)
    assert await refused(await sluice.chat(model="e", headers=headers)) == CLOSED
    await sluice.grant(router["id"])
    assert (await sluice.chat(model="e", headers=headers)).status == 422


async def test_the_master_uses_every_model_and_is_recorded(both: Installation) -> None:
    router = await create(both, ROUTERS, name="m", type="text-generation")
    await both.add_provider(router["id"])

    assert [model["id"] for model in (await read(both, "/v1/models"))["data"]] == [*FIRST_MODELS, "m"]
    assert (await both.chat(model="m")).status == 200
    assert [(row.user_id, row.router_name) for row in await both.rows(UsageRecordRow)] == [(0, "m")]
    assert [row.user_id for row in await both.rows(ChargeRow)] == [0]


async def test_the_models_of_the_first_start_are_for_every_role(both: Installation) -> None:
    for user in (1, 2):
        headers = await key_of(both, user)
        assert (await both.chat(headers=headers)).status == 200
    assert (await read(both, f"{ROLES}/2"))["limits"] == [
        {"router": number, "router_id": number, "type": "rpm", "value": None}
        for number, _ in enumerate(FIRST_MODELS, start=1)
    ]


async def test_a_change_holds_for_the_next_request(both: Installation) -> None:
    headers = await person(both)
    role = (await read(both, f"{USERS}/3"))["role"]
    assert await refused(await both.chat(headers=headers)) == HIDDEN

    await changed(both, f"{ROLES}/{role}", {"limits": [{"router": 1, "type": "rpm"}]})
    assert (await both.chat(headers=headers)).status == 200
    await changed(both, f"{ROLES}/{role}", {"limits": [{"router": 1, "type": "rpm", "value": 0}]})
    assert await refused(await both.chat(headers=headers)) == CLOSED
    await changed(both, f"{USERS}/3", {"role": 1})
    assert (await both.chat(headers=headers)).status == 200
    assert (await both.get(USERS, headers=headers)).status == 200
    await changed(both, f"{USERS}/3", {"role": role})
    assert await refused(await both.get(USERS, headers=headers)) == POOR


async def test_a_change_holds_in_another_process_within_a_second(both: Installation) -> None:
    async with open_state(both.state.settings) as state, serve(state) as url:  # as far as memory goes
        headers = await key_of(both, 2)
        assert (await elsewhere(both, url, headers)) == 200
        await changed(both, f"{ROLES}/2", {"limits": [{"router": 1, "type": "rpd", "value": 0}]})
        await eventually(lambda: has_status(both, url, headers, 403), within_s=3)
        await changed(both, f"{ROLES}/2", {"limits": [{"router": 1, "type": "rpd", "value": 5}]})
        await eventually(lambda: has_status(both, url, headers, 200), within_s=3)
        await both.delete(f"{TOKENS}/1")
        await eventually(lambda: has_status(both, url, headers, 401), within_s=3)


async def elsewhere(installation: Installation, url: str, headers: dict[str, str]) -> int:
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Hi"}]}
    async with installation.client.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        return int(response.status)


async def has_status(installation: Installation, url: str, headers: dict[str, str], status: int) -> bool:
    return await elsewhere(installation, url, headers) == status


async def test_a_known_key_costs_no_read_of_the_database(sluice: Installation) -> None:
    headers = await key_of(sluice, 2)
    authorization = headers["Authorization"]
    caller = await sluice.state.keys.authenticate(authorization)

    assert await sluice.state.keys.authenticate(authorization) is caller
    assert caller.limits[1].rpm is None
    other = await sluice.state.keys.authenticate((await key_of(sluice, 2))["Authorization"])
    assert other.limits is caller.limits


async def test_every_operation_refuses_keys_that_are_none(idle: Installation) -> None:
    past = now_ms() - 1000
    async with idle.state.database.transaction() as session:
        session.add(KeyRow(name="x", user_id=1, hash=hash_key("sk-x"), masked="", expires_ms=past, created_ms=past))
    deleted = await key_of(idle, 1)
    await idle.delete(f"{TOKENS}/2")

    for endpoint in ENDPOINTS:
        path = re.sub(r"{\w+(:[^}]+)?}", "1", endpoint.path)
        for headers in (deleted, bearer("sk-x"), bearer("eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.c2ln")):
            if endpoint.right is not None:
                response = await idle.client.request(endpoint.method, path, headers=headers, json={})
                assert await refused(response) == UNKNOWN, path


async def test_another_master_key_leaves_user_keys_alone(
    sluice: Installation, tmp_path: Any, redis_server: Any
) -> None:
    headers = await key_of(sluice, 2)
    stored = "\n".join([repr(row) for table in TABLES for row in await sluice.rows(table)])
    assert headers["Authorization"].removeprefix("Bearer ") not in stored
    assert ADMIN_KEY not in stored

    settings = make_settings(tmp_path, redis_server, admin_key="sk-another-master-key-0123456789")
    async with open_installation(settings, workers=False) as restarted:
        assert (await restarted.get("/v1/models", headers=headers)).status == 200
        assert await refused(await restarted.get("/v1/models")) == UNKNOWN


async def test_administration_is_for_administrators(both: Installation) -> None:
    plain, admin = await person(both, "provide_models", "read_metric"), await person(both, "admin", email="a@b")

    for noun in (ORGANIZATIONS, ROLES, USERS, TOKENS, AUDIT):
        verbs = [("GET", noun)] if noun == AUDIT else [("GET", noun), ("POST", noun), ("GET", f"{noun}/1")]
        verbs += [] if noun in (AUDIT, TOKENS) else [("PATCH", f"{noun}/1")]
        verbs += [] if noun == AUDIT else [("DELETE", f"{noun}/1")]
        for method, path in verbs:
            assert await refused(await both.client.request(method, path, headers=plain, json={})) == POOR, path
        assert (await both.get(noun, headers=admin)).status == 200
    response = await both.patch(f"{ROUTERS}/1", {}, headers=plain)
    assert await refused(response) == (403, "User has no admin rights.")


async def test_a_provider_is_changed_by_its_maker_and_by_administrators(both: Installation) -> None:
    first, second = await person(both, "admin"), await person(both, "provide_models", email="second@b")
    body = {"router": 1, "type": "openai", "url": "http://127.0.0.1:9/", "model_name": "m", "key": "k" * 30}
    body["probe"] = False
    theirs = await (await both.post(PROVIDERS, body, headers=first)).json()
    path = f"{PROVIDERS}/{theirs['id']}"
    plain = await key_of(both, 2)

    assert await refused(await both.patch(path, {"timeout": 5}, headers=plain)) == POOR
    missing = (404, f"Model provider {theirs['id']} not found.")
    assert await refused(await both.patch(path, {"timeout": 5}, headers=second)) == missing
    assert await refused(await both.patch(f"{PROVIDERS}/99", {}, headers=second)) == (
        404,
        "Model provider 99 not found.",
    )
    await changed(both, path, {"timeout": 5}, headers=first)
    await changed(both, f"{ROLES}/{(await read(both, f'{USERS}/3'))['role']}", {"permissions": ["provide_models"]})
    await changed(both, path, {"model_hosting_zone": "FRA"}, headers=first)
    assert await refused(await both.get(PROVIDERS, headers=first)) == (403, "User has no admin rights.")
    now = await read(both, path)
    assert (now["timeout"], now["model_hosting_zone"], now["key"]) == (5, "FRA", theirs["key"])


async def test_a_provider_is_changed(both: Installation) -> None:
    embedding = await create(both, ROUTERS, name="e", type="text-embeddings-inference")
    other = await create(both, ROUTERS, name="m", type="text-generation")
    body = {"router": 1, "type": "vllm", "url": "http://h/", "model_name": "m", "qos_metric": "ttft", "qos_limit": 5}
    made = await create(both, PROVIDERS, **body)
    path = f"{PROVIDERS}/{made['id']}"

    await changed(
        both, path, {"router_id": other["id"], "url": "http://H/v1", "key": "k" * 30, "timeout": None, "probe": False}
    )
    now = await read(both, path)
    assert (now["router_id"], now["url"], now["key"]) == (other["id"], "http://H/", "kkkkkkkk...kkkkkkkk")
    assert (now["timeout"], now["qos_metric"], now["qos_limit"]) == (300, "ttft", 5)
    await changed(both, path, {"qos_metric": None, "key": None, "probe": False})
    now = await read(both, path)
    assert (now["qos_metric"], now["qos_limit"], now["key"]) == (None, None, None)
    same = await create(both, PROVIDERS, **(body | {"url": "http://H/"}))
    for change, status in (
        ({"router": 99}, 404), ({"router": other["id"]}, 409), ({"qos_limit": None}, 422), ({"timeout": 0}, 422),
        ({"model_hosting_zone": "ZZZ"}, 422), ({"model_active_params": 2, "model_total_params": 1}, 422),
        ({"router": 1, "router_id": 2}, 422), ({"url": "ftp://h"}, 422), ({"model_name": " "}, 422),
    ):  # fmt: skip
        assert (await both.patch(f"{PROVIDERS}/{same['id']}", change)).status == status, change
    await changed(both, path, {"router": embedding["id"]})  # vllm may serve embeddings in the table of types


async def test_a_router_is_changed(both: Installation) -> None:
    made = await create(both, ROUTERS, name="a", type="text-generation", aliases=["b", "c"])
    await both.add_provider(made["id"])
    path = f"{ROUTERS}/{made['id']}"

    response = await both.patch(path, {"name": "b", "cost_prompt_tokens": "0.5"})
    now = await response.json()
    assert response.status == 200
    assert (now["name"], now["aliases"], now["cost_prompt_tokens"], now["providers"]) == ("b", ["c"], 0.5, 1)
    assert (await both.chat(model="b")).status == (await both.chat(model="c")).status == 200
    assert (await both.chat(model="a")).status == 404
    for body, answer in (
        ({"aliases": ["x", "simulator"]}, (409, "Following aliases already exist: '['simulator']'")),
        ({"name": "simulator"}, (409, "Router simulator already exists.")),
    ):
        assert await refused(await both.patch(path, body)) == answer
    assert (await both.patch(path, {"type": None, "aliases": None, "name": None})).status == 200
    assert await (await both.patch(path, {"aliases": []})).json() == await read(both, path)
    assert (await read(both, path))["aliases"] == []
    assert await refused(await both.patch(f"{ROUTERS}/99", {})) == (404, "Model router 99 not found.")
    assert (await both.patch(path, {"cost_completion_tokens": -1})).status == 422


async def test_a_router_s_type_cannot_contradict_its_providers(both: Installation) -> None:
    router = await create(both, ROUTERS, name="e", type="text-embeddings-inference")
    await create(both, PROVIDERS, router=router["id"], type="tei", url="http://127.0.0.1:9/", model_name="m")

    response = await both.patch(f"{ROUTERS}/{router['id']}", {"type": "text-generation"})

    assert await refused(response) == (400, "Invalid model provider type tei for text-generation router.")
    assert (await both.patch(f"{ROUTERS}/{router['id']}", {"type": "text-classification"})).status == 200


async def test_a_key_reaches_only_its_scopes(both: Installation) -> None:
    user = await add_user(both, role=1)
    reach: dict[str, tuple[str, str]] = {
        "inference": ("POST", "/v1/chat/completions"), "jobs": ("GET", "/v1/jobs"), "admin": ("GET", USERS),
    }  # fmt: skip
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Hi"}]}
    for scopes in (["inference"], ["jobs"], ["admin"], ["inference", "jobs"], ["collections"], []):
        headers = await key_of(both, user["id"], scopes=scopes)
        for scope, (method, path) in reach.items():
            response = await both.client.request(method, path, headers=headers, json=body)
            assert response.status == 200 if scope in scopes else await refused(response) == POOR, (scopes, scope)
        for path in ("/v1/models", INFO, KEYS):
            assert (await both.get(path, headers=headers)).status == 200
    assert (await both.get(USERS, headers=await key_of(both, user["id"], scopes=None))).status == 200


async def test_a_key_with_scopes_cannot_give_itself_more(both: Installation) -> None:
    user = await add_user(both, role=1)
    headers = await key_of(both, user["id"], scopes=["inference", "jobs", "collections"])

    for method, path in (("POST", KEYS), ("DELETE", f"{KEYS}/1"), ("PATCH", INFO)):
        response = await both.client.request(method, path, headers=headers, json={"name": "x"})
        assert await refused(response) == POOR
    await both.chat()
    assert (await read(both, "/v1/jobs", headers=headers))["data"] == []
    assert (await read(both, INFO, headers=headers))["permissions"] == []
