"""GET /v1/request_logs: filters, pages, bodies, files."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from shared.clock import now_ms
from shared.ids import oldest_ulid
from shared.jobs.tables import JobRow
from shared.request_logs.tables import RequestLogRow
from shared.settings import DAY_S
from tests.api.test_retention import sweep
from tests.batches import chat_line, ended, make_batch
from tests.conftest import make_settings
from tests.installation import Installation, open_installation
from tests.people import ORGANIZATIONS, add_user, changed, create, key_of
from tests.servers import RedisServer

LOGS = "/v1/request_logs"


async def logs(installation: Installation, **options: Any) -> list[Any]:
    headers = options.pop("headers", {})
    response = await installation.client.get(LOGS, headers=installation.headers | headers, params=options)
    assert response.status == 200, await response.text()
    return list((await response.json())["data"])


async def test_an_attempt_is_told_with_what_it_cost(both: Installation) -> None:
    await both.add_model("known", model_total_params=70, model_active_params=70)
    response = await both.chat(model="known", metadata={"run": "nightly"})

    (row,) = await logs(both)

    assert (row["object"], row["status"], row["attempt"], row["http_status"]) == ("request_log", "completed", 1, 200)
    assert (row["job_id"], row["model"]) == (response.headers["x-job-id"], "known")
    assert row["request_id"] == response.headers["x-request-id"]
    assert (row["endpoint"], row["method"], row["streamed"]) == ("/v1/chat/completions", "POST", False)
    assert row["prompt_tokens"] > 0
    assert row["impacts"]["kWh"] > 0
    assert row["metadata"] == {"run": "nightly"}
    assert row["latency_ms"] >= 0


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["refused", "failed", "completed", "completed"]),
        ({"status": "completed"}, ["completed", "completed"]),
        ([("status", "failed"), ("status", "refused")], ["refused", "failed"]),
        ({"model": "simulator"}, ["failed", "completed", "completed"]),
        ({"endpoint": "/v1/embeddings"}, ["refused"]),
        ({"error_code": "model_not_found"}, ["refused"]),
        ({"http_status": "400"}, ["failed"]),
        ({"streamed": "true"}, ["completed"]),
        ({"metadata[k]": "v"}, ["completed"]),
        ({"metadata[k]": "w"}, []),
        ({"min_tokens": "1"}, ["completed", "completed"]),
        ({"min_cost": "0.5"}, []),
        ({"min_cost": "0.0000004"}, []),
        ({"max_latency_ms": "600000", "min_latency_ms": "0"}, ["refused", "failed", "completed", "completed"]),
        ({"created_after": "1", "created_before": "99999999999"}, ["refused", "failed", "completed", "completed"]),
        ({"created_before": "1"}, []),
        ({"created_after": "99999999999"}, []),
        ({"user_id": "77"}, []),
        ({"provider_id": "1"}, ["failed", "completed", "completed"]),
        ({"job_id": "job_" + "0" * 26, "batch_id": "batch_" + "0" * 26}, []),
        ({"min_tokens": "0", "max_tokens": "0"}, ["refused", "failed"]),
        ({"min_cost": "0", "max_cost": "0.000001"}, ["refused", "failed", "completed", "completed"]),
        ({"vote": "up"}, []),
        ({"order": "asc"}, ["completed", "completed", "failed", "refused"]),
    ],
)
async def test_rows_are_found_by_filters(sluice: Installation, filters: Any, expected: list[str]) -> None:
    await sluice.chat(metadata={"k": "v"})
    await (await sluice.chat(stream=True)).read()
    await sluice.chat(simulator={"fail": "400"})
    await sluice.post("/v1/embeddings", {"model": "nobody", "input": "x"})

    response = await sluice.get(LOGS, params=filters)

    assert [row["status"] for row in (await response.json())["data"]] == expected


@pytest.mark.parametrize("tokens", [1, 3, 7])
async def test_a_row_is_found_by_its_own_cost(sluice: Installation, tokens: int) -> None:
    await sluice.add_model("paid", prices=(1.1, 1.1))
    await sluice.chat(model="paid", simulator={"tokens": tokens})
    (row,) = (await (await sluice.get(LOGS)).json())["data"]

    part = 4e-7
    bounds = {
        "min_cost": (row["cost"], row["cost"] + part), "max_cost": (row["cost"], row["cost"] - part)
    }  # fmt: skip
    for name, (exact, beside) in bounds.items():
        for value, count in ((exact, 1), (beside, 0)):
            found = await (await sluice.get(LOGS, params={name: value})).json()
            assert len(found["data"]) == count


@pytest.mark.parametrize(
    "query",
    ["nothing=1", "http_status=abc", "http_status=700", "status=done", "limit=0", "limit=1001", "min_cost=-1",
     "streamed=perhaps", "vote=sideways", "order=up", "user_id=x", "created_after=yesterday", "min_cost=inf",
     "min_cost=nan", "min_cost=1e308", "min_cost=1e400", "max_cost=-1",
     "created_after=100&created_before=50", "min_latency_ms=10&max_latency_ms=5", "min_tokens=2&max_tokens=1",
     "min_cost=2&max_cost=1", "job_id=zzz", "batch_id=zzz", "metadata[]=x", "metadata[a=x", "metadata=x",
     "metadata[a]=1&metadata[a]=2", "model=a&model=b"],
)  # fmt: skip
async def test_impossible_filters_are_refused(sluice: Installation, query: str) -> None:
    response = await sluice.get(f"{LOGS}?{query}")

    assert (response.status, (await response.json())["error"]["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/jobs?bogus=1", None),
        ("/v1/jobs?model=a&model=b", "model"),
        ("/v1/jobs?created_after=10&created_before=5", "created_before"),
        ("/v1/admin/audit?created_after=1", None),
        ("/v1/admin/audit?start_time=10&end_time=5", "end_time"),
        ("/v1/me/usage?start_time=10&end_time=5", "end_time"),
        ("/v1/usage/report?bogus=1", None),
        ("/v1/request_logs/rlog_x?include=bogus", "include.0"),
        ("/v1/request_logs/rlog_x?include=request,bogus", "include.0"),
        ("/v1/request_logs/rlog_x?bogus=1", None),
    ],
)
async def test_other_lists_refuse_what_they_cannot_look_for(sluice: Installation, path: str, param: str | None) -> None:
    response = await sluice.get(path)

    error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (422, "invalid_request", param)


async def test_lists_of_openai_pass_over_what_they_do_not_know(sluice: Installation) -> None:
    paths = ("/v1/files?bogus=1", "/v1/batches?limit=1&limit=2", "/v1/chat/completions?metadata[a]=1&metadata[a]=2")

    assert [(await sluice.get(path)).status for path in paths] == [200, 200, 200]


async def test_pages_follow_each_other(both: Installation) -> None:
    for _ in range(5):
        await both.chat()

    first = await (await both.get(f"{LOGS}?limit=3")).json()
    second = await (await both.get(f"{LOGS}?limit=3&after={first['last_id']}")).json()
    wrong = await both.get(f"{LOGS}?after=rlog_nobody")

    ids = [row["id"] for row in first["data"] + second["data"]]
    assert (len(set(ids)), first["has_more"], second["has_more"]) == (5, True, False)
    assert ids == sorted(ids, reverse=True)
    assert (wrong.status, (await wrong.json())["error"]["code"]) == (400, "invalid_cursor")


async def test_a_running_attempt_is_listed(sluice: Installation) -> None:
    from tests.waiting import eventually  # noqa: PLC0415

    await sluice.chat(simulator={"delay_ms": 5000}, headers={"Prefer": "respond-async"})

    await eventually(lambda: logs(sluice, status="in_progress"))
    (row,) = await logs(sluice, status="in_progress")
    assert (row["http_status"], row["latency_ms"], row["impacts"]) == (None, None, None)


async def test_users_see_their_own_rows_only(both: Installation) -> None:
    users = [await add_user(both, f"{name}@example.com") for name in ("one", "two")]
    mine, other = [await key_of(both, user["id"]) for user in users]
    await both.chat(headers=mine)

    (row,) = await logs(both)

    assert [one["id"] for one in await logs(both, headers=mine)] == [row["id"]]
    assert await logs(both, headers=other) == []
    assert (await both.client.get(f"{LOGS}/{row['id']}", headers=other)).status == 404
    assert await logs(both, headers=other, user_id=str(row["user_id"])) == []


async def test_bodies_are_shown_on_request(both: Installation) -> None:
    await both.chat("A question")
    await both.post("/v1/chat/completions", {"model": "nobody", "messages": [{"role": "user", "content": "lost"}]})
    refused, answered = await logs(both)

    plain = await (await both.get(f"{LOGS}/{answered['id']}")).json()
    full = await (await both.get(f"{LOGS}/{answered['id']}?include=request,response")).json()
    other = await (await both.get(f"{LOGS}/{refused['id']}?include=request&include=response")).json()

    assert "request" not in plain
    assert full["request"]["messages"][0]["content"] == "A question"
    assert full["response"]["object"] == "chat.completion"
    assert full["request_headers"]["authorization"] == "***"
    assert other["request"]["messages"][0]["content"] == "lost"
    assert other["response"]["code"] == "model_not_found"


@pytest.mark.parametrize(("policy", "headers"), [("metadata", True), ("none", False)])
async def test_an_organization_decides_what_is_kept(both: Installation, policy: str, headers: bool) -> None:
    organization = await create(both, ORGANIZATIONS, name="o", content_policy=policy)
    user = await add_user(both, organization=organization["id"])
    me = await key_of(both, user["id"])
    await both.chat(headers=me)
    await both.post("/v1/embeddings", {"model": "nobody", "input": "secret"}, headers=me)

    rows = [await (await both.get(f"{LOGS}/{row['id']}?include=request,response")).json() for row in await logs(both)]

    assert [row["request"] for row in rows] == [None, None]
    assert [row["response"] for row in rows] == [None, None]
    assert [row["request_headers"] is not None for row in rows] == [headers, headers]
    assert [row["user_agent"] is not None for row in rows] == [headers, headers]
    old = await (await both.post("/v1/requests", {"period": 15})).json()
    assert {(one["request_body"], one["response_body"]) for one in old["requests"]} == {("", "")}


@pytest.mark.parametrize("policy", ["metadata", "none"])
async def test_a_policy_that_is_loosened_is_for_later_requests(both: Installation, policy: str) -> None:
    organization = await create(both, ORGANIZATIONS, name="o", content_policy=policy)
    me = await key_of(both, (await add_user(both, organization=organization["id"]))["id"])
    failed = await both.chat("secret", simulator={"fail": "400"}, headers=me)
    await both.post("/v1/embeddings", {"model": "nobody", "input": "secret"}, headers=me)

    await changed(both, f"{ORGANIZATIONS}/{organization['id']}", {"content_policy": "full"})
    await both.post(f"/v1/jobs/{failed.headers['x-job-id']}/retry", {}, headers=me)
    later = await both.chat("open", headers=me)

    rows = [await (await both.get(f"{LOGS}/{row['id']}?include=request,response")).json() for row in await logs(both)]
    shown = [row["job_id"] for row in rows if row["request"] is not None or row["response"] is not None]
    assert (shown, len(rows)) == ([later.headers["x-job-id"]], 4)
    old = await (await both.post("/v1/requests", {"period": 15})).text()
    assert ("secret" in old, "open" in old) == (False, True)


async def test_lines_of_a_batch_keep_the_policy_they_came_under(both: Installation) -> None:
    organization = await create(both, ORGANIZATIONS, name="o", content_policy="none")
    me = await key_of(both, (await add_user(both, organization=organization["id"]))["id"])
    batch = await make_batch(both, chat_line("a", "secret", body={"simulator": {"fail": "400"}}), headers=me)
    await ended(both, batch["id"])

    await changed(both, f"{ORGANIZATIONS}/{organization['id']}", {"content_policy": "full"})
    again = await both.post(f"/v1/batches/{batch['id']}/retry", {"statuses": ["failed"]}, headers=me)
    await ended(both, (await again.json())["id"])

    rows = [await (await both.get(f"{LOGS}/{row['id']}?include=request,response")).json() for row in await logs(both)]
    assert [(row["request"], row["response"]) for row in rows] == [(None, None), (None, None)]


async def test_a_policy_that_is_tightened_is_for_earlier_requests_too(both: Installation) -> None:
    organization = await create(both, ORGANIZATIONS, name="o")
    me = await key_of(both, (await add_user(both, organization=organization["id"]))["id"])
    await both.chat("secret", headers=me)

    await changed(both, f"{ORGANIZATIONS}/{organization['id']}", {"content_policy": "metadata"})

    (row,) = await logs(both)
    found = await (await both.get(f"{LOGS}/{row['id']}?include=request,response")).json()
    assert (found["request"], found["response"], found["request_headers"] is None) == (None, None, False)


@pytest.mark.parametrize("policy", ["full", "metadata", "none"])
async def test_bodies_whose_policy_nobody_noted_are_not_shown(both: Installation, policy: str) -> None:
    organization = await create(both, ORGANIZATIONS, name="o", content_policy=policy)
    me = await key_of(both, (await add_user(both, organization=organization["id"]))["id"])
    await both.chat("secret", headers=me)
    await both.chat("of nobody")
    await changed(both, f"{ORGANIZATIONS}/{organization['id']}", {"content_policy": "full"})
    async with both.state.database.transaction() as session:
        for table in (RequestLogRow, JobRow):
            await session.exec(update(table).values(content_policy=None))

    free, old = [await (await both.get(f"{LOGS}/{row['id']}?include=request")).json() for row in await logs(both)]

    assert free["request"]["messages"][0]["content"] == "of nobody"
    assert (old["request"], old["request_headers"] is None) == (None, policy == "none")


async def test_named_members_are_never_shown(tmp_path: Path, redis_server: RedisServer) -> None:
    async with open_installation(make_settings(tmp_path, redis_server, redacted_fields="content, ssn")) as sluice:
        await sluice.chat("My secret")
        await sluice.post("/v1/embeddings", {"model": "nobody", "input": "x", "ssn": "078-05"})
        rows = [
            await (await sluice.get(f"{LOGS}/{row['id']}?include=request,response")).json()
            for row in await logs(sluice)
        ]
        old = await (await sluice.post("/v1/requests", {"period": 15})).text()

    assert rows[0]["request"]["ssn"] == "***"
    assert rows[1]["request"]["messages"] == [{"role": "user", "content": "***"}]
    assert rows[1]["response"]["choices"][0]["message"]["content"] == "***"
    assert "My secret" not in old
    assert "078-05" not in old


async def test_named_members_are_not_shown_of_metadata_either(tmp_path: Path, redis_server: RedisServer) -> None:
    async with open_installation(make_settings(tmp_path, redis_server, redacted_fields="ssn")) as sluice:
        await sluice.chat(metadata={"ssn": "078-05", "run": "a"})
        (stored,) = await sluice.rows(RequestLogRow)
        (job,) = await sluice.rows(JobRow)
        listed = await logs(sluice)
        whole = await (await sluice.get(f"{LOGS}/{listed[0]['id']}?include=request")).json()
        files = [
            await (await sluice.get(LOGS, headers={"Accept": media_type})).read()
            for media_type in ("application/x-ndjson", "text/csv", "application/vnd.apache.parquet")
        ]
        filtered = [
            await sluice.get(f"{LOGS}?metadata[ssn]=078-05", headers={"Accept": accept})
            for accept in ("application/json", "text/csv")
        ]
        other = await logs(sluice, **{"metadata[run]": "a"})

    assert json.loads(stored.metadata_ or "") == {"ssn": "***", "run": "a"}
    assert json.loads(job.metadata_ or "") == {"ssn": "078-05", "run": "a"}, "its owner gets it back"
    assert listed[0]["metadata"] == whole["metadata"] == {"ssn": "***", "run": "a"}
    assert whole["request"]["metadata"] == {"ssn": "***", "run": "a"}
    assert [b"078-05" in file for file in files] == [False, False, False]
    assert [response.status for response in filtered] == [422, 422]
    assert len(other) == 1


async def test_an_organization_may_keep_its_rows_for_a_shorter_time(both: Installation) -> None:
    organization = await create(both, ORGANIZATIONS, name="o", log_days=1)
    me = await key_of(both, (await add_user(both, organization=organization["id"]))["id"])
    old = oldest_ulid(now_ms() - 2 * DAY_S * 1000)
    for headers in (me, {}):
        await both.chat(headers=headers)
    async with both.state.database.transaction() as session:
        for number, row in enumerate(await both.rows(RequestLogRow)):
            moved = update(RequestLogRow).where(col(RequestLogRow.id) == row.id).values(id=old[:-1] + str(number))
            await session.exec(moved)

    await sweep(both)

    assert [row.organization_id for row in await both.rows(RequestLogRow)] == [None]


async def test_rows_are_found_by_names_and_tell_them(both: Installation) -> None:
    organization = await create(both, ORGANIZATIONS, name="acme")
    user = await add_user(both, "ada@example.com", organization=organization["id"])
    owner = await key_of(both, user["id"], name="nightly")
    job = (await both.chat(headers=owner)).headers["x-job-id"]
    await both.chat()

    for name, value in {"user": "ada@example.com", "organization": "acme", "key": "nightly"}.items():
        for headers in (both.headers, owner):
            (row,) = await logs(both, headers=headers, **{name: value})
            assert row["job_id"] == job
            told = (row["user_email"], row["organization_name"], row["key_name"])
            assert told == ("ada@example.com", "acme", "nightly")
            shown = await (await both.get(f"{LOGS}/{row['id']}", headers=headers)).json()
            assert (shown["user_email"], shown["organization_name"], shown["key_name"]) == told
        assert len(await logs(both, **{name: str(row[f"{name}_id"])})) == 1
    (row,) = await logs(both, user="master")
    assert (row["user_email"], row["organization_name"], row["key_name"]) == ("master", None, None)
    assert len(await logs(both, provider_model=row["provider_model"])) == 2
    file = await both.get(f"{LOGS}?user=ada@example.com", headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line)["job_id"] for line in (await file.text()).splitlines()] == [job]


@pytest.mark.parametrize("query", ["user=eve@example.com", "user=master", "organization=rival", "key=theirs", "key="])
@pytest.mark.parametrize("path", [LOGS, "/v1/usage/report"])
async def test_nobody_learns_of_others_by_their_names(sluice: Installation, path: str, query: str) -> None:
    rival = await create(sluice, ORGANIZATIONS, name="rival")
    await key_of(sluice, (await add_user(sluice, "eve@example.com", organization=rival["id"]))["id"], name="theirs")
    own = await key_of(sluice, (await add_user(sluice, "ada@example.com"))["id"])

    for asked in (query, query.partition("=")[0] + "=nobody"):
        response = await sluice.get(f"{path}?{asked}", headers=own)
        error = (await response.json())["detail"][0]
        assert (response.status, error["loc"]) == (422, ["query", query.partition("=")[0]])
