"""GET /v1/admin/audit: every administrative change is written down with it."""

import time
from typing import Any

import pytest

from shared.audit.tables import AuditEventRow
from tests.installation import Installation
from tests.people import (
    AUDIT,
    INFO,
    KEYS,
    ORGANIZATIONS,
    PASSWORD,
    PROVIDERS,
    ROLES,
    ROUTERS,
    TOKENS,
    USERS,
    add_user,
    changed,
    create,
    key_of,
    person,
    read,
)

SECRET = "sk-upstream-secret-0123456789abcdef"


async def actions(installation: Installation, query: str = "") -> list[str]:
    page = await read(installation, f"{AUDIT}?limit=100{query}")
    return [event["action"] for event in page["data"]][::-1]


async def test_every_change_is_an_event(both: Installation) -> None:
    organization = await create(both, ORGANIZATIONS, name="o")
    await changed(both, f"{ORGANIZATIONS}/{organization['id']}", {"name": "p"})
    await both.delete(f"{ORGANIZATIONS}/{organization['id']}")
    role = await create(both, ROLES, name="r")
    await changed(both, f"{ROLES}/{role['id']}", {"limits": [{"router": 1, "type": "rpm"}]})
    await both.delete(f"{ROLES}/{role['id']}")
    user = await add_user(both)
    await changed(both, f"{USERS}/{user['id']}", {"password": PASSWORD})
    token = await create(both, TOKENS, name="k", user=user["id"])
    await both.delete(f"{TOKENS}/{token['id']}")
    headers = await key_of(both, user["id"])
    key = await (await both.post(KEYS, {"name": "k"}, headers=headers)).json()
    await both.delete(f"{KEYS}/{key['id']}", headers=headers)
    await changed(both, INFO, {"name": "x"}, headers=headers)
    await both.delete(f"{USERS}/{user['id']}")
    router = await create(both, ROUTERS, name="m", type="text-generation")
    await both.patch(f"{ROUTERS}/{router['id']}", {"name": "n"})
    provider = await both.add_provider(router["id"])
    await changed(both, f"{PROVIDERS}/{provider['id']}", {"timeout": 5})
    await both.delete(f"{PROVIDERS}/{provider['id']}")
    await both.delete(f"{ROUTERS}/{router['id']}")

    whole = [f"{noun}.{verb}" for noun in ("organization", "role") for verb in ("create", "update", "delete")]
    whole += ["user.create", "user.password", "user.update", "token.create", "token.delete", "token.create"]
    whole += ["token.create", "token.delete", "user.update", "user.delete", "router.create", "router.update"]
    whole += ["provider.create", "provider.update", "provider.delete", "router.delete"]
    assert sorted(await actions(both)) == sorted(whole)


async def test_an_event_tells_who_what_and_how_it_was(both: Installation) -> None:
    headers = await person(both, "admin")
    response = await both.patch(f"{USERS}/2", {"budget": 5}, headers=headers)

    page = await read(both, f"{AUDIT}?limit=1")

    event = page["data"][0]
    before, after = event.pop("before"), event.pop("after")
    assert page["total"] == 4
    assert event == {
        "object": "audit_event", "id": event["id"], "actor": 3, "actor_email": "first@example.com", "key": 1,
        "action": "user.update", "object_type": "user", "object_id": "2",
        "request_id": response.headers["x-request-id"], "client_address": "127.0.0.1", "created": event["created"],
    }  # fmt: skip
    assert (before["budget"], after["budget"]) == (None, 5)
    assert {name for name in after if before[name] != after[name]} <= {"budget", "updated"}


async def test_secrets_are_masked(both: Installation) -> None:
    user = await add_user(both, password="a very secret password")
    await changed(both, f"{USERS}/{user['id']}", {"password": "another secret one"})
    token = await create(both, TOKENS, name="k", user=user["id"])
    await both.add_model("m", "http://127.0.0.1:9/", key=SECRET)

    events = (await read(both, f"{AUDIT}?limit=100"))["data"]

    text = repr(events) + repr(await both.rows(AuditEventRow))
    for secret in ("a very secret password", "another secret one", token["key"], SECRET, "argon2"):
        assert secret not in text
    password = next(event for event in events if event["action"] == "user.password")
    assert (password["before"], password["after"]) == ({"password": "***"}, {"password": "***"})
    assert (
        next(event for event in events if event["action"] == "provider.create")["after"]["key"] == "sk-upstr...89abcdef"
    )


async def test_what_was_refused_is_no_event(both: Installation) -> None:
    await both.post(ROLES, {"name": "user"})
    await both.patch(f"{ROLES}/2", {"name": "x", "limits": [{"router": 99, "type": "rpm"}]})
    await both.delete(f"{ROLES}/2")
    await both.patch(f"{USERS}/2", {"email": "master"})

    assert await actions(both) == []


async def test_events_are_filtered_and_paged_newest_first(both: Installation) -> None:
    headers = await person(both, "admin")
    for number in range(3):
        await both.post(ORGANIZATIONS, {"name": f"o{number}"}, headers=headers)
    now = int(time.time())

    for query, total in {
        "actor=3": 3, "actor=0": 3, "object_type=organization": 3, "object_type=organization&object_id=2": 1,
        "object_type=role": 1, f"start_time={now - 60}": 6, f"start_time={now + 60}": 0, f"end_time={now - 60}": 0,
        f"start_time={now - 60}&end_time={now}&actor=3": 3, "object_id=x": 0,
    }.items():  # fmt: skip
        assert (await read(both, f"{AUDIT}?{query}"))["total"] == total, query
    page = await read(both, f"{AUDIT}?object_type=organization&limit=2&offset=1")
    assert [event["after"]["name"] for event in page["data"]] == ["o1", "o0"]
    assert (page["total"], page["offset"], page["limit"]) == (3, 1, 2)


@pytest.mark.parametrize("query", ["actor=x", "limit=0", "offset=-1", "start_time=x", f"end_time={2**60}"])
async def test_bad_filters_are_422(sluice: Installation, query: str) -> None:
    assert (await sluice.get(f"{AUDIT}?{query}")).status == 422


async def test_an_event_outlives_its_actor(both: Installation) -> None:
    headers = await person(both, "admin")
    await both.post(ORGANIZATIONS, {"name": "o"}, headers=headers)
    await both.delete(f"{USERS}/3")

    event: dict[str, Any] = (await read(both, f"{AUDIT}?object_type=organization"))["data"][0]

    assert (event["actor"], event["actor_email"]) == (3, "first@example.com")
