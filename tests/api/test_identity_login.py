"""Logging in, passwords, and what slows guessing."""

import asyncio
import time
from pathlib import Path

from redis import Redis
from sqlmodel import col, update

from api.passwords import MAX_FAILURES
from shared.clock import now_ms
from shared.keys.tables import KeyRow
from shared.tables import TABLES
from shared.users.tables import UserRow
from tests.conftest import make_settings
from tests.installation import ADMIN_KEY, Installation, open_installation
from tests.people import (
    INFO,
    KEYS,
    LOGIN,
    PASSWORD,
    USERS,
    add_user,
    bearer,
    changed,
    key_of,
    log_in,
    read,
    refused,
)
from tests.servers import RedisServer
from tests.waiting import eventually

WRONG = (401, "Invalid current password.")
NO_PASSWORD = (404, "Password not set, please contact an administrator.")
TOO_MANY = (429, "Too many failed logins, please try again later.")


async def test_a_login_gives_a_key_for_an_hour(both: Installation) -> None:
    user = await add_user(both)

    response = await log_in(both, " first@example.com ")

    made = await response.json()
    headers = bearer(made["key"])
    assert (response.status, made["token"]) == (200, made["key"])
    assert (await read(both, INFO, headers=headers))["id"] == user["id"]
    key = (await read(both, KEYS, headers=headers))["data"][0]
    assert (key["id"], key["name"]) == (made["id"], "playground")
    assert 3590 <= key["expires"] - time.time() <= 3600


async def test_an_email_is_the_same_in_any_case(both: Installation) -> None:
    user = await add_user(both, "Bob@Example.com")
    older = await add_user(both, "ann@example.com")
    async with both.state.database.transaction() as session:  # as written by an older version
        await session.exec(update(UserRow).where(col(UserRow.id) == older["id"]).values(email="Ann@Example.com"))

    emails = ("BOB@example.com", "ann@example.com")
    bodies = [{"email": email, "role": 2, "password": PASSWORD} for email in emails]
    taken = [await refused(await both.post(USERS, body)) for body in bodies]

    assert user["email"] == "bob@example.com"
    assert taken == [(409, "User already exists.")] * 2
    for email, one in (("BOB@example.com", user), ("ann@example.com", older)):
        made = await (await log_in(both, email)).json()
        assert (await read(both, INFO, headers=bearer(made["key"])))["id"] == one["id"]
        assert [found["id"] for found in (await read(both, f"{USERS}?email={email}"))["data"]] == [one["id"]]
        assert (await read(both, f"/v1/request_logs?user={email}"))["data"] == []


async def test_accounts_that_differ_by_case_alone_go_on(both: Installation) -> None:
    first, second = await add_user(both), await add_user(both, "second@example.com", password="another password")
    async with both.state.database.transaction() as session:  # as an older version allowed
        await session.exec(update(UserRow).where(col(UserRow.id) == second["id"]).values(email="First@Example.com"))

    exact = await log_in(both, "First@Example.com", "another password")
    await changed(both, f"{USERS}/{first['id']}", {"name": "x"})
    moved = await both.patch(f"{USERS}/{second['id']}", {"email": "FIRST@example.com"})

    assert [exact.status, (await log_in(both)).status, moved.status] == [200, 200, 409]


async def test_login_keys_are_a_kind_of_their_own(both: Installation) -> None:
    user = await add_user(both)
    own = await key_of(both, user["id"])
    named = bearer((await (await both.post(KEYS, {"name": "playground"}, headers=own)).json())["key"])

    first, second = [bearer((await (await log_in(both)).json())["key"]) for _ in range(2)]

    statuses = [(await both.get("/v1/models", headers=headers)).status for headers in (own, named, first, second)]
    assert statuses == [200, 200, 401, 200]


async def test_simultaneous_logins_leave_one_key(both: Installation) -> None:
    await add_user(both)

    responses = await asyncio.gather(*(log_in(both) for _ in range(6)))

    assert [response.status for response in responses] == [200] * 6
    assert len(await both.rows(KeyRow, KeyRow.kind == "login")) == 1


async def test_the_master_logs_in_with_its_key(both: Installation) -> None:
    response = await log_in(both, "master", ADMIN_KEY)

    assert (response.status, await response.json()) == (200, {"id": 0, "key": ADMIN_KEY, "token": ADMIN_KEY})
    assert await refused(await log_in(both, "master", "x" * 20)) == WRONG


async def test_unknown_emails_and_wrong_passwords_are_answered_alike(both: Installation) -> None:
    await add_user(both)
    await log_in(both)  # everything is warm

    started = time.process_time()
    unknown = await log_in(both, "nobody@example.com")
    between = time.process_time()
    wrong = await log_in(both, password="wrong horse battery")
    ended = time.process_time()

    assert await refused(unknown) == await refused(wrong) == WRONG
    assert (await unknown.json())["error"]["code"] == "invalid_password"
    assert unknown.headers.keys() == wrong.headers.keys()
    assert 0.3 < (between - started) / (ended - between) < 3  # both hash: that is nearly all of the work


async def test_an_account_without_password_cannot_log_in(both: Installation) -> None:
    assert await refused(await log_in(both, "user", "anything")) == NO_PASSWORD


async def test_whole_passwords_count_and_are_not_trimmed(both: Installation) -> None:
    long = "x" * 72
    for number, (password, others) in enumerate(
        {f"{long}a": [f"{long}b", long], "  pass word 1 ": ["pass word 1", "  pass word 1"]}.items()
    ):
        await add_user(both, f"u{number}@b", password=password)
        assert (await log_in(both, f"u{number}@b", password)).status == 200
        for other in others:
            assert (await log_in(both, f"u{number}@b", other)).status == 401


async def test_guessing_a_password_is_slowed(both: Installation, redis_server: RedisServer) -> None:
    await add_user(both)
    for _ in range(MAX_FAILURES):
        assert await refused(await log_in(both, password="wrong")) == WRONG

    response = await log_in(both)

    assert await refused(response) == TOO_MANY
    assert (await response.json())["error"]["code"] == "rate_limit_exceeded"
    assert (response.headers["retry-after"], response.headers["x-should-retry"]) == ("120", "false")
    with Redis(unix_socket_path=str(redis_server.socket)) as redis:
        keys = list(redis.scan_iter("sluice:logins:*"))
        assert len(keys) == 2
        assert all(0 < redis.ttl(key) <= 900 for key in keys)


async def test_guessing_many_emails_from_one_address_is_slowed(sluice: Installation) -> None:
    await add_user(sluice)
    for number in range(MAX_FAILURES):
        assert await refused(await log_in(sluice, f"u{number}@example.com")) == WRONG

    assert await refused(await log_in(sluice)) == TOO_MANY


async def test_guessing_at_once_does_not_help(sluice: Installation) -> None:
    await add_user(sluice)

    responses = await asyncio.gather(*(log_in(sluice, password=f"wrong {n}") for n in range(3 * MAX_FAILURES)))

    assert sorted(response.status for response in responses) == [401] * MAX_FAILURES + [429] * 2 * MAX_FAILURES


async def test_the_right_password_does_not_count(sluice: Installation) -> None:
    await add_user(sluice)
    for _ in range(MAX_FAILURES + 2):
        assert (await log_in(sluice)).status == 200
    for _ in range(MAX_FAILURES):
        assert await refused(await log_in(sluice, password="wrong")) == WRONG


async def test_without_redis_nobody_logs_in(tmp_path: Path, own_redis: RedisServer) -> None:
    async with open_installation(make_settings(tmp_path, own_redis), workers=False) as sluice:
        await add_user(sluice)
        own_redis.kill()
        await eventually(lambda: not sluice.state.inbox.is_connected)

        assert (await log_in(sluice)).status == 503
        own_redis.start()
        await eventually(lambda: sluice.state.inbox.is_connected)
        assert (await log_in(sluice)).status == 200


async def test_hashing_does_not_stop_the_process(sluice: Installation) -> None:
    await add_user(sluice)
    logins = asyncio.gather(*(log_in(sluice) for _ in range(10)))
    answered = 0
    while not logins.done():
        assert (await sluice.client.get("/v1/models", headers=sluice.headers)).status == 200
        answered += 1

    assert {response.status for response in await logins} == {200}
    assert answered > 10


async def test_changing_one_s_password_needs_the_current_one(both: Installation) -> None:
    user = await add_user(both)
    headers, new = await key_of(both, user["id"]), "another password"

    for body in ({"password": new}, {"password": new, "current_password": "wrong"}):
        assert await refused(await both.patch(INFO, body, headers=headers)) == WRONG
    assert ((await log_in(both)).status, (await log_in(both, password=new)).status) == (200, 401)
    await changed(both, INFO, {"password": new, "current_password": PASSWORD}, headers=headers)
    assert ((await log_in(both)).status, (await log_in(both, password=new)).status) == (401, 200)


async def test_a_new_password_ends_the_logins_of_the_old_one(both: Installation) -> None:
    await add_user(both)
    stolen = bearer((await (await log_in(both)).json())["key"])

    await changed(both, f"{USERS}/3", {"password": "another password"})
    assert (await both.get(INFO, headers=stolen)).status == 401
    mine = bearer((await (await log_in(both, password="another password")).json())["key"])
    await changed(both, INFO, {"password": PASSWORD, "current_password": "another password"}, headers=mine)
    assert (await both.get(INFO, headers=mine)).status == 200


async def test_the_first_password_of_an_account_is_free(both: Installation) -> None:
    headers = await key_of(both, 2)

    response = await both.patch(INFO, {"password": PASSWORD, "current_password": "x"}, headers=headers)
    assert await refused(response) == NO_PASSWORD
    assert (await response.json())["error"]["code"] == "password_not_set"
    await changed(both, INFO, {"password": PASSWORD}, headers=headers)
    assert (await log_in(both, "user")).status == 200


async def test_an_expired_account_sees_only_itself(both: Installation) -> None:
    user = await add_user(both)
    headers = await key_of(both, user["id"])
    async with both.state.database.transaction() as session:
        row = await session.get(UserRow, user["id"])
        assert row is not None
        row.expires_ms = now_ms() - 1000
    await changed(both, f"{USERS}/1", {"name": "x"})  # something else: everything is read anew

    text = "Your account has expired. Please contact support to renew your account."
    for path in ("/v1/models", "/v1/jobs", KEYS, "/v1/me/usage", "/v1/admin/users"):
        response = await both.get(path, headers=headers)
        assert await refused(response) == (403, text)
        assert (await response.json())["error"]["code"] == "account_expired"
    assert await refused(await both.chat(headers=headers)) == (403, text)
    assert (await read(both, INFO, headers=headers))["id"] == user["id"]
    await changed(both, INFO, {"name": "y"}, headers=headers)


async def test_passwords_are_nowhere_in_clear(both: Installation) -> None:
    user = await add_user(both)
    await log_in(both)
    headers = await key_of(both, user["id"])
    await changed(both, INFO, {"password": "another password", "current_password": PASSWORD}, headers=headers)

    stored = "\n".join([repr(row) for table in TABLES for row in await both.rows(table)])
    assert "$argon2id$" in stored
    assert PASSWORD not in stored
    assert "another password" not in stored
    shown = await (await both.get(f"{USERS}/{user['id']}")).text() + await (await both.get("/v1/admin/audit")).text()
    assert "argon2" not in shown


async def test_rules_of_a_login_are_422(sluice: Installation) -> None:
    for body in (
        {},
        {"email": "a@b"},
        {"password": "x"},
        {"email": " ", "password": "x"},
        {"email": "a@b", "password": ""},
    ):
        assert (await sluice.client.post(LOGIN, json=body)).status == 422, body
    assert (await sluice.client.post(LOGIN, data=b"{")).status == 400


async def test_the_duration_of_a_login_is_a_setting(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = make_settings(tmp_path, redis_server, login_key_duration_s=1)
    async with open_installation(settings, workers=False) as sluice:
        await add_user(sluice)
        headers = bearer((await (await log_in(sluice)).json())["key"])
        assert (await sluice.get(INFO, headers=headers)).status == 200
        await asyncio.sleep(1.0)
        assert await refused(await sluice.get(INFO, headers=headers)) == (401, "Invalid API key.")
