"""/v1/batches: thousands of requests in one file."""

import json
from typing import Any

import pytest

from shared.batches.items import MAX_LINE, item_id, line_of
from shared.batches.tables import BatchRow
from shared.ids import new_ulid
from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.batches import (
    BATCHES,
    add_input,
    chat_line,
    ended,
    get_batch,
    lines_of,
    make_batch,
    send_batch,
    to_jsonl,
)
from tests.installation import Installation
from tests.people import add_user, key_of
from tests.providers import ScriptedProvider, fails
from tests.waiting import eventually


async def test_every_line_is_answered_once_in_the_order_of_the_input(both: Installation) -> None:
    batch = await make_batch(both, *(chat_line(f"r{n}", f"Say {n}") for n in range(30)), metadata={"run": "nightly"})
    assert (batch["status"], batch["object"], batch["output_file_id"]) == ("validating", "batch", None)

    done = await ended(both, batch["id"])

    assert done["status"] == "completed"
    assert done["request_counts"] == {"total": 30, "completed": 30, "failed": 0}
    assert (done["metadata"], done["model"], done["error_file_id"]) == ({"run": "nightly"}, "simulator", None)
    lines = await lines_of(both, done["output_file_id"])
    assert [line["custom_id"] for line in lines] == [f"r{n}" for n in range(30)]
    assert all(line["response"]["body"]["object"] == "chat.completion" for line in lines)
    assert all(line["response"]["status_code"] == 200 and line["error"] is None for line in lines)
    charges = await both.rows(ChargeRow)
    assert sum(charge.prompt_tokens for charge in charges) == done["usage"]["input_tokens"] > 0
    assert sum(charge.completion_tokens for charge in charges) == done["usage"]["output_tokens"] > 0
    output = await (await both.get(f"/v1/files/{done['output_file_id']}")).json()
    assert (output["purpose"], output["filename"]) == ("batch_output", f"{batch['id']}_output.jsonl")


async def test_failed_lines_stand_in_the_error_file(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("scripted", provider.url)
    provider.default = fails(400, "The prompt is too long.")

    batch = await make_batch(both, chat_line("good"), chat_line("bad", body={"model": "scripted"}), chat_line("fine"))
    done = await ended(both, batch["id"])

    assert (done["status"], done["model"]) == ("completed", None)
    assert done["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert [line["custom_id"] for line in await lines_of(both, done["output_file_id"])] == ["good", "fine"]
    (error,) = await lines_of(both, done["error_file_id"])
    assert (error["custom_id"], error["error"], error["response"]["status_code"]) == ("bad", None, 400)
    assert error["response"]["body"]["error"]["message"] == "The prompt is too long."


async def test_a_line_is_a_job_with_several_names(sluice: Installation) -> None:
    batch = await make_batch(sluice, chat_line("a", body={"metadata": {"k": "v"}}))
    done = await ended(sluice, batch["id"])
    (line,) = await lines_of(sluice, done["output_file_id"])

    job = await sluice.job(line["id"])
    listed = await (await sluice.get(f"/v1/jobs?batch_id={batch['id']}")).json()

    assert (job["batch_id"], job["custom_id"], job["band"]) == (batch["id"], "a", "batch")
    assert (job["metadata"], job["status"]) == ({"k": "v"}, "completed")
    assert line["id"] in job["aliases"]
    assert [one["id"] for one in listed["data"]] == [job["id"]]


async def test_blank_lines_bom_and_crlf_are_accepted(sluice: Installation) -> None:
    data = b"\xef\xbb\xbf" + to_jsonl(chat_line("a"), "", "   ", chat_line("b")).replace(b"\n", b"\r\n") + b"\r\n\r\n"
    batch = await (await send_batch(sluice, data)).json()

    done = await ended(sluice, batch["id"])
    items = await (await sluice.get(f"{BATCHES}/{batch['id']}/requests")).json()

    assert done["request_counts"]["completed"] == 2
    assert [(item["line"], item["custom_id"]) for item in items["data"]] == [(1, "a"), (4, "b")]


GOOD = chat_line("good")


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        ("{broken", "invalid_json_line", None),
        ("[1]", "invalid_json_line", None),
        ('"text"', "invalid_json_line", None),
        ({"custom_id": "x", "method": "POST", "url": "/v1/chat/completions"}, "missing_required_parameter", "body"),
        (chat_line(""), "invalid_custom_id", "custom_id"),
        (chat_line("x" * 513), "invalid_custom_id", "custom_id"),
        (GOOD | {"custom_id": 7}, "invalid_custom_id", "custom_id"),
        (GOOD, "duplicate_custom_id", "custom_id"),
        (chat_line("x", method="GET"), "invalid_method", "method"),
        (chat_line("x", url="/v1/embeddings"), "url_mismatch", "url"),
        (chat_line("x", url="https://example.com/v1/chat/completions"), "url_mismatch", "url"),
        (chat_line("x", body={"messages": 7}), "invalid_request", "body.messages"),
        (chat_line("x", body={"temperature": 9}), "invalid_request", "body.temperature"),
        (chat_line("x", body={"stream": True}), "invalid_request", "body.stream"),
        (chat_line("x", body={"model": "nobody"}), "model_not_found", "body.model"),
        (chat_line("x", body={"model": "simulator-rerank"}), "invalid_request", "body.model"),
        ("[" * 500 + "]" * 500, "invalid_json_line", None),
    ],
)
async def test_one_bad_line_and_nothing_runs(
    sluice: Installation, line: dict[str, Any] | str, code: str, param: str | None
) -> None:
    batch = await make_batch(sluice, GOOD, "", line, chat_line("last"))

    failed = await ended(sluice, batch["id"])

    assert (failed["status"], failed["output_file_id"], failed["error_file_id"]) == ("failed", None, None)
    (error,) = failed["errors"]["data"]
    assert (error["code"], error["param"], error["line"]) == (code, param, 3)
    assert await sluice.rows(JobRow) == []
    file = await (await sluice.get(f"/v1/files/{batch['input_file_id']}")).json()
    assert file["status"] == "error"
    assert file["status_details"].startswith("Line 3: ")


async def test_bytes_that_are_no_text_are_a_fault_of_their_line(sluice: Installation) -> None:
    response = await send_batch(
        sluice, to_jsonl(chat_line("a"), chat_line("b", "no text")).replace(b"no text", b"\xff")
    )

    done = await ended(sluice, (await response.json())["id"])

    assert done["status"] == "failed"
    (error,) = done["errors"]["data"]
    assert (error["code"], error["line"]) == ("invalid_json_line", 2)


async def test_at_most_a_hundred_errors_are_listed(sluice: Installation) -> None:
    batch = await make_batch(sluice, *("{" for _ in range(150)))

    failed = await ended(sluice, batch["id"])

    assert [error["line"] for error in failed["errors"]["data"]] == list(range(1, 101))


@pytest.mark.parametrize("data", [b" ", b"\n\n\r\n"])
async def test_an_input_without_lines_is_refused(sluice: Installation, data: bytes) -> None:
    batch = await (await send_batch(sluice, data)).json()

    failed = await ended(sluice, batch["id"])

    assert [error["code"] for error in failed["errors"]["data"]] == ["empty_batch"]


@pytest.mark.parametrize(
    ("members", "status", "code"),
    [
        ({"endpoint": "/v1/models"}, 400, "unsupported_endpoint"),
        ({"endpoint": "/v1/audio/speech"}, 400, "unsupported_endpoint"),
        ({"completion_window": "2h"}, 400, "invalid_completion_window"),
        ({"input_file_id": "file-nobody"}, 404, "file_not_found"),
        ({"input_file_id": None}, 422, "invalid_request"),
        ({"requests": [GOOD]}, 422, "invalid_request"),
        ({"metadata": {"k": "v" * 513}}, 422, "invalid_request"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_a_batch_is_refused(
    sluice: Installation, members: dict[str, Any], status: int, code: str
) -> None:
    response = await send_batch(sluice, to_jsonl(GOOD), **members)

    assert (response.status, (await response.json())["error"]["code"]) == (status, code)
    assert await sluice.rows(BatchRow) == []


async def test_a_file_of_another_purpose_is_refused(sluice: Installation) -> None:
    file_id = await add_input(sluice, b"{}")
    async with sluice.state.database.transaction() as session:
        from shared.files.tables import FileRow  # noqa: PLC0415

        (await session.get_one(FileRow, file_id.removeprefix("file-"))).purpose = "user_data"

    response = await sluice.post(
        BATCHES, {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    )

    assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_input_file")


async def test_inline_requests_are_checked_before_the_answer(both: Installation) -> None:
    body = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}

    refused = await both.post(BATCHES, body | {"requests": [GOOD, GOOD]})
    accepted = await both.post(BATCHES, body | {"requests": [GOOD, chat_line("other")]})

    answer = await refused.json()
    assert (refused.status, answer["error"]["code"]) == (400, "invalid_batch")
    assert [(error["code"], error["line"]) for error in answer["errors"]["data"]] == [("duplicate_custom_id", 2)]
    done = await ended(both, (await accepted.json())["id"])
    assert (done["status"], done["request_counts"]["completed"]) == ("completed", 2)
    assert len(await both.rows(BatchRow)) == 1


@pytest.mark.parametrize(
    ("endpoint", "body", "member"),
    [
        ("/v1/embeddings", {"model": "simulator-embedding", "input": "Hello"}, "data"),
        ("/v1/completions", {"model": "simulator", "prompt": "Hello"}, "choices"),
        ("/v1/rerank", {"model": "simulator-rerank", "query": "a", "documents": ["a", "b"]}, "results"),
    ],
)
async def test_batches_of_other_endpoints(
    sluice: Installation, endpoint: str, body: dict[str, Any], member: str
) -> None:
    line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
    batch = await make_batch(sluice, line, endpoint=endpoint)

    done = await ended(sluice, batch["id"])

    (answer,) = await lines_of(sluice, done["output_file_id"])
    assert member in answer["response"]["body"]


async def test_a_cancelled_batch_has_a_line_for_every_line(both: Installation) -> None:
    await both.add_model("limited", qos_metric="inflight", qos_limit=1, model_name="simulator")
    lines = [chat_line(f"r{n}", body={"model": "limited", "simulator": {"delay_ms": 300}}) for n in range(40)]
    batch = await make_batch(both, *lines)
    await eventually(lambda: _has_progress(both, batch["id"]))

    cancelled = await (await both.post(f"{BATCHES}/{batch['id']}/cancel")).json()
    again = await both.post(f"{BATCHES}/{batch['id']}/cancel")
    done = await ended(both, batch["id"])
    late = await (await both.post(f"{BATCHES}/{batch['id']}/cancel")).json()

    assert (cancelled["status"], again.status) == ("cancelling", 200)
    assert (done["status"], late["status"]) == ("cancelled", "cancelled")
    output, errors = await lines_of(both, done["output_file_id"]), await lines_of(both, done["error_file_id"])
    assert sorted(line["custom_id"] for line in output + errors) == sorted(f"r{n}" for n in range(40))
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert all(line["response"] is None for line in errors)
    assert done["request_counts"] == {"total": 40, "completed": len(output), "failed": len(errors)}
    assert len(await both.rows(ChargeRow)) == 40


async def _has_progress(installation: Installation, batch_id: str) -> bool:
    return bool((await get_batch(installation, batch_id))["sluice"]["counts"]["in_progress"])


async def test_an_expired_batch_keeps_what_was_done(idle: Installation) -> None:
    batch = await make_batch(idle, chat_line("a"), chat_line("b"))
    await eventually(lambda: _is(idle, batch["id"], "in_progress"))
    async with idle.state.database.transaction() as session:
        row = await session.get_one(BatchRow, batch["id"].removeprefix("batch_"))
        row.expires_ms = row.created_ms
        for job in await idle.rows(JobRow):
            (await session.get_one(JobRow, job.id)).expires_ms = row.created_ms
    from tests.installation import run_workers  # noqa: PLC0415

    async with run_workers(idle.state.settings):
        done = await ended(idle, batch["id"])

    assert done["status"] == "expired"
    assert done["expired_at"]
    assert {line["error"]["code"] for line in await lines_of(idle, done["error_file_id"])} == {"batch_expired"}


async def _is(installation: Installation, batch_id: str, status: str) -> bool:
    return bool((await get_batch(installation, batch_id))["status"] == status)


async def test_results_are_read_in_input_order_while_it_runs(sluice: Installation) -> None:
    batch = await make_batch(sluice, *(chat_line(f"r{n}") for n in range(5)))
    await ended(sluice, batch["id"])

    response = await sluice.get(f"{BATCHES}/{batch['id']}/results?starting_line=3&include=input")

    lines = [json.loads(line) for line in (await response.text()).splitlines()]
    assert [(line["line"], line["custom_id"]) for line in lines] == [(3, "r2"), (4, "r3"), (5, "r4")]
    assert lines[0]["input"]["messages"][0]["content"] == "Hello"
    assert (response.headers["X-Incomplete"], response.headers["X-Last-Line"]) == ("false", "5")
    assert response.content_type == "application/x-ndjson"


async def test_results_of_a_batch_that_has_not_begun_are_empty(idle: Installation) -> None:
    batch = await make_batch(idle, chat_line("a"))

    response = await idle.get(f"{BATCHES}/{batch['id']}/results")

    assert (await response.read(), response.headers["X-Incomplete"]) == (b"", "true")


async def test_items_are_paged_and_filtered(sluice: Installation) -> None:
    batch = await make_batch(sluice, *(chat_line(f"r{n}") for n in range(5)))
    await ended(sluice, batch["id"])
    path = f"{BATCHES}/{batch['id']}/requests"

    first = await (await sluice.get(f"{path}?limit=3")).json()
    second = await (await sluice.get(f"{path}?limit=3&after={first['last_id']}")).json()
    none = await (await sluice.get(f"{path}?status=failed")).json()
    wrong = await sluice.get(f"{path}?after=nobody")

    assert [item["custom_id"] for item in first["data"] + second["data"]] == [f"r{n}" for n in range(5)]
    assert (first["has_more"], second["has_more"], none["data"]) == (True, False, [])
    assert first["data"][0]["usage"]["total_tokens"] > 0
    assert (wrong.status, (await wrong.json())["error"]["code"]) == (400, "invalid_cursor")


async def test_failed_lines_are_sent_again_as_a_new_batch(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("scripted", provider.url)
    provider.script = [fails(400, "no")]
    batch = await make_batch(both, chat_line("good"), chat_line("bad", body={"model": "scripted"}))
    running = await both.post(f"{BATCHES}/{batch['id']}/retry", {"statuses": ["failed"]})
    first = await ended(both, batch["id"])

    retried = await (await both.post(f"{BATCHES}/{batch['id']}/retry", {"statuses": ["failed"]})).json()
    second = await ended(both, retried["id"])
    nothing = await both.post(f"{BATCHES}/{batch['id']}/retry", {"custom_ids": ["good"]})
    followed = await both.get(f"{BATCHES}/{batch['id']}/results?follow_retries=true")

    assert running.status in (200, 409)
    assert (retried["sluice"]["retry_of"], second["request_counts"]["completed"]) == (batch["id"], 1)
    assert await get_batch(both, batch["id"]) == first
    assert (nothing.status, (await nothing.json())["error"]["code"]) == (400, "nothing_to_retry")
    lines = [json.loads(line) for line in (await followed.text()).splitlines()]
    assert [(line["custom_id"], line["line"], line["response"]["status_code"]) for line in lines] == [
        ("good", 1, 200), ("bad", 2, 200),
    ]  # fmt: skip


async def test_an_input_cannot_be_deleted_while_it_is_read(idle: Installation) -> None:
    file_id = await add_input(idle, to_jsonl(GOOD))
    async with idle.state.database.transaction() as session:
        session.add(_reading(file_id.removeprefix("file-")))

    response = await idle.delete(f"/v1/files/{file_id}")

    answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (409, "file_in_use")
    assert response.headers["x-should-retry"] == "false"


def _reading(file_id: str) -> BatchRow:
    """A batch that another process is reading."""
    return BatchRow(
        id=new_ulid(), user_id=0, status="validating", endpoint="/v1/chat/completions", input_file_id=file_id,
        completion_window="24h", request_id="req_x", output_ttl_s=3600, created_ms=1, expires_ms=2**50,
        lease_owner="other", lease_until_ms=2**50,
    )  # fmt: skip


async def test_a_deleted_input_does_not_harm_a_batch_that_was_read(sluice: Installation) -> None:
    batch = await make_batch(sluice, chat_line("a"))
    await eventually(lambda: _is_read(sluice, batch["id"]))

    deleted = await sluice.delete(f"/v1/files/{batch['input_file_id']}")

    assert deleted.status == 200
    assert (await ended(sluice, batch["id"]))["request_counts"]["completed"] == 1


async def _is_read(installation: Installation, batch_id: str) -> bool:
    return bool((await get_batch(installation, batch_id))["status"] != "validating")


async def test_batches_of_others_are_not_found(sluice: Installation) -> None:
    batch = await make_batch(sluice, chat_line("a"))
    other = await key_of(sluice, (await add_user(sluice))["id"])

    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/requests"), ("GET", "/results")):
        response = await sluice.client.request(method, f"{BATCHES}/{batch['id']}{path}", headers=other)
        assert (response.status, (await response.json())["error"]["code"]) == (404, "batch_not_found")
    assert (await (await sluice.client.get(BATCHES, headers=other)).json())["data"] == []


async def test_batches_are_listed_newest_first(sluice: Installation) -> None:
    made = [await make_batch(sluice, chat_line("a")) for _ in range(3)]

    first = await (await sluice.get(f"{BATCHES}?limit=2")).json()
    second = await (await sluice.get(f"{BATCHES}?limit=2&after={first['last_id']}")).json()

    assert [one["id"] for one in first["data"] + second["data"]] == [one["id"] for one in reversed(made)]


def test_ids_of_items_tell_their_line() -> None:
    batch_id = new_ulid()
    lines = [0, 1, 31, 32, 50_000, MAX_LINE]

    ids = [item_id(batch_id, line) for line in lines]

    assert [line_of(one) for one in ids] == lines
    assert ids == sorted(ids)
