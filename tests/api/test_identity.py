"""/v1/admin: organizations, roles and users."""

import json
import time
from decimal import Decimal
from typing import Any

import pytest

from shared.keys.tables import KeyRow
from shared.roles.tables import LimitRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.installation import Installation
from tests.people import (
    ORGANIZATIONS,
    PASSWORD,
    PROVIDERS,
    ROLES,
    ROUTERS,
    USER_ROLE,
    USERS,
    add_user,
    changed,
    create,
    log_in,
    person,
    read,
    refused,
)


async def test_an_organization_is_created_read_changed_listed_and_deleted(both: Installation) -> None:
    created = await create(both, ORGANIZATIONS, name=" acme ", budget=12.5, carbon_budget="0.25")

    path = f"{ORGANIZATIONS}/{created['id']}"
    assert created == {
        "object": "organization", "id": created["id"], "name": "acme", "users": 0, "budget": 12.5,
        "carbon_budget": 0.25, "content_policy": "full", "log_days": None, "shard": 0, "created": created["created"],
        "updated": created["created"],
    }  # fmt: skip
    assert await read(both, path) == created
    await changed(both, path, {"name": "acme 2", "budget": None})
    await add_user(both, organization=created["id"])
    now = await read(both, path)
    assert (now["name"], now["users"], now["budget"], now["carbon_budget"]) == ("acme 2", 1, None, 0.25)
    listed = await read(both, f"{ORGANIZATIONS}?sort_by=name&sort_order=asc")
    assert [one["name"] for one in listed["data"]] == ["acme 2", "default"]
    assert listed | {"data": []} == {"object": "list", "data": [], "total": 2, "offset": 0, "limit": 10}
    assert await refused(await both.delete(path)) == (409, "Delete organization with users is not allowed.")
    await both.delete(f"{USERS}/3")
    assert (await both.delete(path)).status == 204
    assert await refused(await both.get(path)) == (404, "Organization not found.")


async def test_a_role_is_created_read_changed_listed_and_deleted(both: Installation) -> None:
    limits = [{"router_id": 1, "type": "tpd", "value": 5}, {"router": "1", "type": "rpm"}]
    created = await create(both, ROLES, name=" dev ", permissions=["admin", "read_metric", "admin"], limits=limits)

    path = f"{ROLES}/{created['id']}"
    assert created == {
        "object": "role", "id": created["id"], "name": "dev", "permissions": ["admin", "read_metric"],
        "limits": [
            {"router": 1, "router_id": 1, "type": "rpm", "value": None},
            {"router": 1, "router_id": 1, "type": "tpd", "value": 5},
        ],
        "users": 0, "created": created["created"], "updated": created["created"],
    }  # fmt: skip
    assert await read(both, path) == created
    await changed(both, path, {"name": None, "permissions": None, "limits": None})
    assert (await read(both, path)) | {"updated": 0} == created | {"updated": 0}
    await changed(both, path, {"name": "dev 2", "permissions": [], "limits": []})
    now = await read(both, path)
    assert (now["name"], now["permissions"], now["limits"]) == ("dev 2", [], [])
    names = [role["name"] for role in (await read(both, f"{ROLES}?order_by=id&order_direction=desc"))["data"]]
    assert names == ["dev 2", "user", "admin"]
    assert (await both.delete(path)).status == 204
    assert await refused(await both.get(path)) == (404, "Role not found.")


async def test_a_user_is_created_read_changed_listed_and_deleted(both: Installation) -> None:
    expires = int(time.time()) + 3600
    created = await add_user(
        both, " first@example.com ", name=" First ", organization=1, budget="0.1", carbon_budget=3, expires=expires,
        priority=3,
    )  # fmt: skip

    path = f"{USERS}/{created['id']}"
    assert created == {
        "object": "user", "id": created["id"], "email": "first@example.com", "name": "First", "sub": None, "iss": None,
        "role": USER_ROLE, "organization": 1, "budget": 0.1, "carbon_budget": 3, "expires": expires, "priority": 3,
        "created": created["created"], "updated": created["created"],
    }  # fmt: skip
    assert await read(both, path) == created
    await changed(both, path, {"name": "Anna", "role": 1, "email": "anna@example.com", "priority": 0})
    now = await read(both, path)
    assert (now["name"], now["role"], now["email"], now["priority"]) == ("Anna", 1, "anna@example.com", 0)
    assert await read(both, f"{USERS}?email=anna@example.com&role=1") == {
        "object": "list", "data": [now], "total": 1, "offset": 0, "limit": 10,
    }  # fmt: skip
    assert (await both.delete(path)).status == 204
    assert await refused(await both.get(path)) == (404, "User not found.")


async def test_the_first_users_stay_readable(both: Installation) -> None:
    assert [user["email"] for user in (await read(both, USERS))["data"]] == ["admin", "user"]
    await changed(both, f"{USERS}/2", {"name": "x", "password": PASSWORD})
    assert (await log_in(both, "user")).status == 200


async def test_absent_is_not_null(both: Installation) -> None:
    expires = int(time.time()) + 3600
    user = await add_user(both, organization=1, budget=5, carbon_budget=7, expires=expires)
    path, names = f"{USERS}/{user['id']}", ("organization", "budget", "carbon_budget", "expires")

    await changed(both, path, {"name": "x"})
    kept = await read(both, path)
    await changed(both, path, dict.fromkeys(names))
    cleared = await read(both, path)
    await changed(both, path, dict.fromkeys(("name", "email", "role", "priority", "password")))

    assert [kept[name] for name in names] == [1, 5, 7, expires]
    assert [cleared[name] for name in names] == [None] * 4
    assert (await read(both, path)) | {"updated": 0} == cleared | {"updated": 0}


@pytest.mark.parametrize("amount", ["0", "0.000001", "0.1", "123456789.123457", "999999999.999999", "1000000000"])
async def test_budgets_do_not_drift(sluice: Installation, amount: str) -> None:
    user = await add_user(sluice, budget=float(amount), carbon_budget=amount)

    text = await (await sluice.get(f"{USERS}/{user['id']}")).text()
    found = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    assert found["budget"] == Decimal(amount)
    assert found["carbon_budget"] == Decimal(amount).quantize(Decimal("0.001"))


async def test_rules_of_users_are_422(both: Installation) -> None:
    user = await add_user(both)
    good = {"email": "second@example.com", "password": PASSWORD, "role": USER_ROLE}
    bad: list[tuple[str, Any]] = [
        ("email", text) for text in ("", " ", "second", "@b", "a@", "a b@c", f"{'a' * 250}@b.cd")
    ]
    bad += [("password", "short"), ("password", "x" * 11), ("password", "x" * 1025), ("password", 5)]
    bad += [("budget", value) for value in (-1, -0.000001, "x", "nan", "inf", "1e10", 1e308, True)]
    bad += [("carbon_budget", -1), ("priority", -1), ("priority", 2**31), ("expires", 1), ("expires", 2**41)]
    bad += [("name", " "), ("name", ""), ("expires", int(time.time())), ("role", "x"), ("organization", "x")]
    for name, value in bad:
        for response in (
            await both.post(USERS, good | {name: value}),
            await both.patch(f"{USERS}/{user['id']}", {name: value}),
        ):
            assert response.status == 422, (name, value)
            assert (await response.json())["detail"][0]["loc"] == ["body", name]
    for name in good:
        assert (await both.post(USERS, {key: value for key, value in good.items() if key != name})).status == 422
    assert (await read(both, USERS))["total"] == 3


async def test_rules_of_roles_and_organizations_are_422(both: Installation) -> None:
    limit = {"router": 1, "type": "rpm"}
    double = await both.post(ROLES, {"name": "r", "limits": [limit, limit | {"value": 1}]})
    assert (double.status, (await double.json())["detail"][0]["msg"]) == (422, "Duplicate limit found: (1, rpm).")
    bad: list[dict[str, Any]] = [{"limits": [limit | {"value": -1}]}, {"limits": [{"type": "rpm"}]}, {"name": " "}]
    bad += [{"limits": [limit | {"type": "RPM"}]}, {"permissions": ["root"]}, {"limits": [limit | {"router_id": 2}]}]
    for body in bad:
        assert (await both.post(ROLES, {"name": "r"} | body)).status == 422, body
        assert (await both.patch(f"{ROLES}/2", body)).status == 422, body
    for body in ({"name": ""}, {"name": "  "}, {"budget": -1}, {"carbon_budget": "-0.1"}, {"name": "a\x00"}):
        assert (await both.post(ORGANIZATIONS, {"name": "o"} | body)).status == 422, body
        assert (await both.patch(f"{ORGANIZATIONS}/1", body)).status == 422, body


async def test_what_is_named_must_exist(both: Installation) -> None:
    user = await add_user(both)
    for body, text in (({"role": 99}, "Role not found."), ({"organization": 99}, "Organization not found.")):
        new = {"email": "b@b", "password": PASSWORD, "role": USER_ROLE} | body
        assert await refused(await both.post(USERS, new)) == (404, text)
        assert await refused(await both.patch(f"{USERS}/{user['id']}", body)) == (404, text)
    for noun, text in (
        (USERS, "User not found."),
        (ROLES, "Role not found."),
        (ORGANIZATIONS, "Organization not found."),
    ):
        for number in (0, -1, 99):
            assert await refused(await both.get(f"{noun}/{number}")) == (404, text)
            assert await refused(await both.patch(f"{noun}/{number}", {"name": "x"})) == (404, text)
            assert await refused(await both.delete(f"{noun}/{number}")) == (404, text)
    assert await refused(await both.get(f"{USERS}?email=nobody@b")) == (404, "User not found.")
    assert (await read(both, f"{USERS}?role=99"))["data"] == (await read(both, f"{USERS}?organization=9"))["data"] == []


async def test_a_role_is_written_whole_or_not_at_all(both: Installation) -> None:
    unknown = [{"router": 1, "type": "rpm", "value": 5}, {"router": 99, "type": "rpm"}]
    missing = (404, "Model router 99 not found.")

    assert await refused(await both.post(ROLES, {"name": "new", "limits": unknown})) == missing
    assert await refused(await both.patch(f"{ROLES}/2", {"name": "other", "limits": unknown})) == missing

    role = await create(both, ROLES, name="new")
    assert (await read(both, f"{ROLES}/2"))["name"] == "user"
    assert (await read(both, f"{ROLES}/2"))["limits"][0]["value"] is None
    assert role["limits"] == []


async def test_a_taken_name_or_email_is_a_409(both: Installation) -> None:
    role, organization = await create(both, ROLES, name="r"), await create(both, ORGANIZATIONS, name="o")
    user = await add_user(both)
    router = await create(both, ROUTERS, name="m", type="text-generation")
    body = {"email": "user@b", "password": PASSWORD, "role": 2}
    await add_user(both, "user@b")

    taken = "Organization name already taken. Please, choose another one."
    for response, text in (
        (await both.post(ROLES, {"name": " r "}), "Role already exists."),
        (await both.patch(f"{ROLES}/{role['id']}", {"name": "user"}), "Role already exists."),
        (await both.post(ORGANIZATIONS, {"name": "o"}), "Organization already exists."),
        (await both.patch(f"{ORGANIZATIONS}/{organization['id']}", {"name": "default"}), taken),
        (await both.post(USERS, body), "User already exists."),
        (await both.patch(f"{USERS}/{user['id']}", {"email": "user@b"}), "User already exists."),
        (await both.patch(f"{USERS}/{user['id']}", {"email": "user@b", "password": PASSWORD}), "User already exists."),
        (await both.patch(f"{ROUTERS}/{router['id']}", {"name": "simulator"}), "Router simulator already exists."),
    ):
        assert await refused(response) == (409, text)
    await changed(both, f"{ROLES}/{role['id']}", {"name": "r"})
    await changed(both, f"{USERS}/{user['id']}", {"email": "first@example.com"})


async def test_the_master_s_email_is_reserved(both: Installation) -> None:
    body = {"email": " master ", "password": PASSWORD, "role": USER_ROLE}
    user = await add_user(both)

    assert await refused(await both.post(USERS, body)) == (403, "Reserved email.")
    assert await refused(await both.patch(f"{USERS}/{user['id']}", {"email": "master"})) == (403, "Reserved email.")


async def test_what_has_users_is_not_deleted(both: Installation) -> None:
    role = await create(both, ROLES, name="r", limits=[{"router": 1, "type": "rpm"}])
    await add_user(both, role=role["id"])

    response = await both.delete(f"{ROLES}/{role['id']}")

    assert await refused(response) == (409, "Delete role with users is not allowed.")
    assert (await response.json())["error"]["code"] == "in_use"
    assert len(await both.rows(LimitRow, LimitRow.role_id == role["id"])) == 1
    assert (await both.delete(f"{USERS}/3")).status == (await both.delete(f"{ROLES}/{role['id']}")).status == 204
    assert await both.rows(LimitRow, LimitRow.role_id == role["id"]) == []


async def test_limits_end_with_their_router(both: Installation) -> None:
    await both.add_model("public")
    assert len(await both.rows(LimitRow, LimitRow.router_id == 2)) == 2

    await both.delete(f"{ROUTERS}/2")

    assert await both.rows(LimitRow, LimitRow.router_id == 2) == []


async def test_deleting_a_user_breaks_no_one_else_s_models(both: Installation) -> None:
    first = await person(both, "admin")
    router = await (await both.post(ROUTERS, {"name": "m", "type": "text-generation"}, headers=first)).json()
    body = {"router": router["id"], "type": "simulator", "model_name": "m"}
    provider = await (await both.post(PROVIDERS, body, headers=first)).json()
    await both.grant(router["id"])
    assert (router["user_id"], provider["user_id"]) == (3, 3)
    assert (await both.chat(model="m", headers=first)).status == 200

    assert (await both.delete(f"{USERS}/3")).status == 204

    assert await refused(await both.get("/v1/models", headers=first)) == (401, "Invalid API key.")
    assert (await both.chat(model="m")).status == 200
    assert (await read(both, f"{ROUTERS}/{router['id']}"))["user_id"] == 0
    assert (await read(both, f"{PROVIDERS}/{provider['id']}"))["user_id"] == 0
    assert await both.rows(KeyRow) == []
    assert len(await both.rows(UsageRecordRow, UsageRecordRow.user_id == 3)) == 1
    assert len(await both.rows(ChargeRow, ChargeRow.user_id == 3)) == 1


async def test_lists_have_both_spellings_and_pages(both: Installation) -> None:
    for number in range(3):
        await add_user(both, f"u{number}@b", name="same")

    page = await read(both, f"{USERS}?order_by=email&order_direction=desc&limit=2&offset=1")
    assert [user["email"] for user in page["data"]] == ["u2@b", "u1@b"]
    assert (page["total"], page["offset"], page["limit"]) == (5, 1, 2)
    for noun in (USERS, ROLES, ORGANIZATIONS):
        for query in ("limit=0", "limit=101", "offset=-1", "order_by=id&sort_by=name", "order_by=model_name"):
            assert (await both.get(f"{noun}?{query}")).status == 422, (noun, query)
        for field in ("id", "name", "created", "updated"):
            assert (await both.get(f"{noun}?sort_by={field}")).status == 200


async def test_an_administrator_may_set_a_password_but_not_with_a_wrong_current_one(both: Installation) -> None:
    user = await add_user(both)
    path, new = f"{USERS}/{user['id']}", "another password"

    wrong = await both.patch(path, {"password": new, "current_password": "wrong"})
    assert await refused(wrong) == (401, "Invalid current password.")
    bare = await both.patch(f"{USERS}/1", {"current_password": "wrong"})
    assert await refused(bare) == (404, "Password not set, please contact an administrator.")
    assert (await log_in(both)).status == 200
    await changed(both, path, {"password": new})
    assert ((await log_in(both)).status, (await log_in(both, password=new)).status) == (401, 200)
