"""`Idempotency-Key` of requests that make something else than a job."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

import api.once
from shared.batches.tables import BatchRow
from shared.clock import now_ms
from shared.files.tables import FileRow
from shared.idempotency.tables import IdempotencyKeyRow
from shared.roles.tables import RoleRow
from tests.api.test_files import stored_uploads, upload, uploaded
from tests.api.test_retention import sweep
from tests.batches import BATCHES, CHATS, add_input, chat_line, to_jsonl
from tests.conftest import make_settings
from tests.installation import Installation, open_installation
from tests.people import ROLES, add_user, key_of
from tests.servers import RedisServer

KEY = {"Idempotency-Key": "k-1"}


async def make_role(installation: Installation, name: str = "r", **headers: str) -> Any:
    return await installation.post(ROLES, {"name": name, "limits": []}, headers=KEY | headers)


async def test_the_same_request_gets_the_same_answer(both: Installation) -> None:
    first, second = [await make_role(both) for _ in range(2)]

    assert (first.status, second.status) == (201, 201)
    assert await first.read() == await second.read()
    assert (first.headers.get("Idempotency-Replayed"), second.headers["Idempotency-Replayed"]) == (None, "true")


async def test_many_at_once_make_one_thing(both: Installation) -> None:
    file_id = await add_input(both, to_jsonl(chat_line("a")))
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}

    responses = await asyncio.gather(*(both.post("/v1/batches", body, headers=KEY) for _ in range(20)))

    assert {response.status for response in responses} <= {200, 409}
    assert len({(await one.json())["id"] for one in responses if one.status == 200}) == 1
    in_flight = [one for one in responses if one.status == 409]
    assert all(one.headers["retry-after-ms"] for one in in_flight)
    assert len(await both.rows(BatchRow)) == 1


async def test_another_body_or_path_is_refused(sluice: Installation) -> None:
    await make_role(sluice)

    other = await make_role(sluice, "other")

    assert (other.status, (await other.json())["error"]["code"]) == (422, "idempotency_key_reused")


async def test_a_refused_request_binds_nothing(sluice: Installation) -> None:
    limits = [{"router": 999, "type": "rpm", "value": 1}]
    refused = await sluice.post(ROLES, {"name": "r", "limits": limits}, headers=KEY)

    accepted = await make_role(sluice)

    assert refused.status >= 400
    assert accepted.status == 201


async def test_an_upload_sent_again_is_kept_once(both: Installation) -> None:
    first = await uploaded(both, b"same", headers=KEY)
    again = await uploaded(both, b"same", headers=KEY)
    other = await upload(both, b"other", headers=KEY)

    assert first == again
    assert other.status == 422
    assert len(await both.rows(FileRow)) == 1
    assert len([path async for path in stored_uploads(both)]) == 1


async def test_secrets_are_not_kept_in_clear(sluice: Installation) -> None:
    me = await key_of(sluice, (await add_user(sluice))["id"])

    made = await (await sluice.post("/v1/me/keys", {"name": "k"}, headers=me | KEY)).json()
    again = await (await sluice.post("/v1/me/keys", {"name": "k"}, headers=me | KEY)).json()
    (row,) = await sluice.rows(IdempotencyKeyRow)

    assert made == again
    assert made["key"].encode() not in (row.body or b"")


async def test_a_key_in_flight_is_free_again_after_a_minute(both: Installation) -> None:
    await make_role(both)
    async with both.state.database.transaction() as session:
        await session.exec(update(IdempotencyKeyRow).values(http_status=None, body=None))
    waiting = await make_role(both)
    async with both.state.database.transaction() as session:
        await session.exec(update(IdempotencyKeyRow).values(expires_ms=now_ms()))

    free = await make_role(both, "another")

    assert (waiting.status, (await waiting.json())["error"]["code"]) == (409, "idempotency_in_flight")
    assert free.status == 201


@pytest.mark.parametrize("key", ["", "ä", "x" * 256])
async def test_a_bad_key_is_refused(sluice: Installation, key: str) -> None:
    response = await make_role(sluice, **{"Idempotency-Key": key})

    assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_idempotency_key")


async def test_kept_answers_are_removed_after_a_day(sluice: Installation) -> None:
    await make_role(sluice)
    async with sluice.state.database.transaction() as session:
        await session.exec(update(IdempotencyKeyRow).values(expires_ms=now_ms()))

    await sweep(sluice)

    assert await sluice.rows(IdempotencyKeyRow) == []


async def test_who_comes_second_gets_the_first_answer_although_the_name_is_taken(both: Installation) -> None:
    responses = await asyncio.gather(*(make_role(both) for _ in range(10)))

    assert {response.status for response in responses} == {201}
    assert len({await response.read() for response in responses}) == 1
    assert len(await both.rows(RoleRow, RoleRow.name == "r")) == 1


CREATIONS = {
    "/v1/admin/organizations": {"name": "o"},
    "/v1/admin/roles": {"name": "r", "limits": []},
    "/v1/admin/users": {"email": "u@example.com", "password": "correct horse battery", "role": 2},
    "/v1/admin/routers": {"name": "m", "type": "text-generation"},
    "/v1/admin/providers": {
        "router": 1, "type": "simulator", "model_name": "m", "probe": False, "model_hosting_zone": "FRA",
        "model_total_params": 1, "model_active_params": 1,
    },
    "/v1/admin/tokens": {"name": "k", "user": 2},
    "/v1/me/keys": {"name": "k"},
    "/v1/collections": {"name": "c"},
    "/v1/vector_store": {"name": "s"},
    "/v2/inference": {"label": "s"},
    "/v1/webhook_endpoints": {"name": "w", "url": "https://93.184.215.14/", "event_types": ["batch.completed"]},
    BATCHES: {"requests": [chat_line("a")], "endpoint": CHATS, "completion_window": "24h"},
}  # fmt: skip


@pytest.mark.parametrize("path", CREATIONS)
async def test_what_is_made_and_its_answer_are_one_transaction(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    settings = make_settings(
        tmp_path, redis_server, vector_store_model="simulator-embedding", webhook_allow_literals=True
    )
    async with open_installation(settings) as sluice:
        me = await key_of(sluice, (await add_user(sluice))["id"])
        headers = KEY | ({} if path.startswith("/v1/admin") else me)

        async def lost(*_args: Any) -> None:
            raise OperationalError("INSERT", {}, Exception("server closed the connection"))

        monkeypatch.setattr(api.once, "_keep_response", lost)

        first, second = [await sluice.post(path, CREATIONS[path], headers=headers) for _ in range(2)]

        assert first.status in (200, 201), await first.text()
        assert (second.status, second.headers["Idempotency-Replayed"]) == (first.status, "true")
        assert await first.read() == await second.read()
