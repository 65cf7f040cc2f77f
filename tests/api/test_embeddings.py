"""POST /v1/embeddings, through HTTP, queue, worker, provider and back."""

import asyncio
import struct
from base64 import b64decode, b64encode
from math import isclose
from typing import Any

import pytest
from aiohttp import web

from shared.jobs.tables import JobRow
from shared.revision import raise_revision
from shared.routers.tables import RouterRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.installation import Installation
from tests.people import changed
from tests.providers import ScriptedProvider, embeds, fails, sends

MODEL = {"router_type": "text-embeddings-inference", "model_name": "upstream-model"}
ASYNC = {"Prefer": "respond-async"}


async def embed(sluice: Installation, value: Any, headers: dict[str, str] | None = None, **members: Any) -> Any:
    body = {"model": "public", "input": value} | members
    return await sluice.post("/v1/embeddings", body, headers=headers or {})


def vectors_of(answer: Any) -> list[Any]:
    assert [one["index"] for one in answer["data"]] == list(range(len(answer["data"])))
    return [one["embedding"] for one in answer["data"]]


def floats_of(text: str) -> list[float]:
    packed = b64decode(text, validate=True)
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))


async def test_a_text_becomes_a_vector(both: Installation) -> None:
    await both.add_model("public", **MODEL, prices=(1, 1))

    response = await embed(both, "hello world")

    answer = await response.json()
    assert response.status == 200
    assert (answer["object"], answer["model"]) == ("list", "public")
    assert answer["id"] == "embd-" + response.headers["x-job-id"].removeprefix("job_")
    assert answer["data"][0]["object"] == "embedding"
    assert isclose(sum(number * number for number in answer["data"][0]["embedding"]), 1.0, rel_tol=1e-5)
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"], answer["usage"]["requests"]) == (2, 2, 1)
    record = (await both.rows(UsageRecordRow))[0]
    assert (record.prompt_tokens, record.completion_tokens, record.is_estimated) == (2, 0, False)
    assert [charge.amount_micros for charge in await both.rows(ChargeRow)] == [2]


async def test_vectors_come_in_the_order_of_the_inputs(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = embeds()
    await sluice.add_model("public", provider.url, **MODEL)

    answer = await (await embed(sluice, ["a", "bb", "ccc"])).json()

    assert vectors_of(answer) == [[1, 0.5, -2], [2, 0.5, -2], [3, 0.5, -2]]
    assert provider.paths == ["/v1/embeddings"]


async def test_the_provider_gets_the_body_as_received_and_is_asked_for_floats(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = embeds()
    await sluice.add_model("public", provider.url, **MODEL)

    await embed(sluice, "Hi", encoding_format="base64", user="somebody", truncate_prompt_tokens=7)

    sent = {"model": "upstream-model", "input": "Hi", "user": "somebody", "truncate_prompt_tokens": 7}
    assert provider.requests == [sent]
    assert (await sluice.rows(JobRow))[0].end_user == "somebody"


async def test_base64_holds_little_endian_floats(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = embeds()
    await sluice.add_model("public", provider.url, **MODEL)

    answer = await (await embed(sluice, ["abcd"], encoding_format="base64")).json()

    assert vectors_of(answer) == [b64encode(struct.pack("<3f", 4, 0.5, -2)).decode()]


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
async def test_base64_of_the_provider_is_understood(
    sluice: Installation, provider: ScriptedProvider, encoding_format: str
) -> None:
    text = b64encode(struct.pack("<2f", 0.25, -1)).decode()
    provider.default = sends(b'{"data":[{"index":0,"embedding":"%s"}]}' % text.encode())
    await sluice.add_model("public", provider.url, **MODEL)

    answer = await (await embed(sluice, "Hi", encoding_format=encoding_format)).json()

    assert vectors_of(answer) == [text if encoding_format == "base64" else [0.25, -1]]


async def test_float_and_base64_are_the_same_numbers(sluice: Installation) -> None:
    await sluice.add_model("public", **MODEL)

    plain = await (await embed(sluice, ["one", "two"])).json()
    packed = await (await embed(sluice, ["one", "two"], encoding_format="base64")).json()

    assert [floats_of(text) for text in vectors_of(packed)] == vectors_of(plain)


async def test_a_provider_that_refuses_the_number_of_inputs_gets_fewer(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = embeds(most=8)
    await sluice.add_model("public", provider.url, **MODEL, prices=(1, 0))

    answer = await (await embed(sluice, ["x" * length for length in range(1, 31)])).json()

    assert [vector[0] for vector in vectors_of(answer)] == list(range(1, 31))
    sizes = [len(request["input"]) for request in provider.requests]
    assert (sizes[:3], sorted(sizes[3:])) == ([30, 15, 8], [6, 8, 8])
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["requests"]) == (90, 4)
    assert [charge.amount_micros for charge in await sluice.rows(ChargeRow)] == [90]
    job = await sluice.job(answer["id"])
    assert job["usage"] == answer["usage"]


async def test_an_error_about_an_input_is_not_tried_in_pieces(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = fails(400, "This model's maximum context length is 512 tokens.")
    await sluice.add_model("public", provider.url, **MODEL)

    response = await embed(sluice, ["a", "b", "c"])

    assert (response.status, (await response.json())["detail"]) == (
        422, "This model's maximum context length is 512 tokens.",
    )  # fmt: skip
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (
            400,
            "This model's maximum context length is 8192 tokens, however you requested 9000.",
            "context_length_exceeded",
        ),
        (413, "Input validation error: `inputs` must have less than 512 tokens. Given: 800", "context_length_exceeded"),
        (400, "Input id 0 has 9000 tokens, exceeding max 8192 tokens.", "context_length_exceeded"),
    ],
)
async def test_an_input_that_the_provider_finds_too_long_is_422_and_free(
    sluice: Installation, provider: ScriptedProvider, status: int, message: str, code: str
) -> None:
    provider.default = fails(status, message)
    await sluice.add_model("public", provider.url, **MODEL, prices=(1, 1))

    response = await embed(sluice, "Hi")

    error = (await response.json())["error"]
    assert (response.status, error["message"], error["code"]) == (422, message, code)
    assert [charge.amount_micros for charge in await sluice.rows(ChargeRow)] == [0]


async def test_batches_are_sent_a_few_at_a_time_unless_the_provider_has_a_limit(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    most: list[int] = []

    async def slow(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        most.append(provider.running)
        await asyncio.sleep(0.05)
        return await embeds(most=1)(request, body)

    provider.default = slow
    created = await sluice.add_model("public", provider.url, **MODEL)
    await embed(sluice, list("abcdefghi"))
    many = max(most)
    await changed(sluice, f"/v1/admin/providers/{created['id']}", {"qos_metric": "inflight", "qos_limit": 1})
    assert sluice.runtime is not None
    await sluice.runtime.directory.refresh()
    most.clear()
    answer = await (await embed(sluice, list("abcdefghi"))).json()

    assert 1 < many <= 4
    assert max(most) == 1
    assert len(vectors_of(answer)) == 9


async def test_what_earlier_batches_consumed_is_recorded_if_a_later_one_fails(
    both: Installation, provider: ScriptedProvider
) -> None:
    provider.script = [embeds(most=2), embeds(most=2), fails(500)]  # two inputs too many, two taken, then a failure
    provider.default = embeds(most=2)
    await both.add_model("public", provider.url, **MODEL, prices=(1, 0))

    response = await embed(both, ["a", "b", "c", "d"])

    attempts = (await (await both.get(f"/v1/jobs/{response.headers['x-job-id']}/attempts")).json())["data"]
    found = [(one["status"], one["usage"]["prompt_tokens"], one["cost"]) for one in attempts]
    assert found == [("failed", 6, 0.000006), ("succeeded", 12, 0.000012)]
    assert [charge.amount_micros for charge in await both.rows(ChargeRow)] == [12]


@pytest.mark.parametrize(("value", "tokens"), [("hello world", 2), (["hello", "world"], 2)])
async def test_tokens_are_counted_if_the_provider_reports_none(
    sluice: Installation, provider: ScriptedProvider, value: Any, tokens: int
) -> None:
    provider.default = embeds(reported={})
    await sluice.add_model("public", provider.url, **MODEL)

    answer = await (await embed(sluice, value)).json()

    assert answer["usage"]["prompt_tokens"] == tokens
    assert (await sluice.rows(UsageRecordRow))[0].is_estimated
    assert provider.requests[0]["input"] == value


async def test_a_list_of_tokens_is_one_input_and_a_list_of_lists_several(sluice: Installation) -> None:
    await sluice.add_model("public", **MODEL)

    one = await (await embed(sluice, [1, 2, 3])).json()
    two = await (await embed(sluice, [[1], [2, 3]])).json()

    assert (len(one["data"]), len(two["data"])) == (1, 2)


async def test_dimensions_are_obeyed_or_refused(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", **MODEL)
    provider.default = embeds()
    await sluice.add_model("fixed", provider.url, **MODEL, prices=(1, 1))

    obeyed = await (await embed(sluice, "Hi", dimensions=16)).json()
    refused = await embed(sluice, "Hi", model="fixed", dimensions=16)

    error = (await refused.json())["error"]
    assert len(vectors_of(obeyed)[0]) == 16
    assert (refused.status, error["code"], error["param"]) == (400, "unsupported_parameter", "dimensions")
    assert [charge.amount_micros for charge in await sluice.rows(ChargeRow)] == [0, 0]


BAD_INPUTS: list[tuple[Any, list[str | int]]] = [
    ("", ["body", "input"]),
    (" \n", ["body", "input"]),
    ([], ["body", "input"]),
    ([[]], ["body", "input", 0]),
    (["a", " "], ["body", "input", 1]),
    (["a", 1], ["body", "input"]),
    ([1, [2]], ["body", "input"]),
    ([True], ["body", "input", 0]),
    ([1.5], ["body", "input", 0]),
    ([-1], ["body", "input", 0]),
    ([2**31], ["body", "input", 0]),
    ([[1], [2**31]], ["body", "input", 1, 0]),
    (["a"] * 2049, ["body", "input"]),
    ([1] * 2049, ["body", "input"]),
    ([[1], [1] * 2049], ["body", "input", 1]),
    ([[1] * 2000] * 151, ["body", "input"]),
    (None, ["body", "input"]),
    ({"text": "a"}, ["body", "input"]),
]


@pytest.mark.parametrize(("value", "place"), BAD_INPUTS, ids=lambda value: repr(value)[:30])
async def test_what_cannot_be_embedded_is_422_with_its_place_and_makes_no_job(
    sluice: Installation, value: Any, place: list[str | int]
) -> None:
    await sluice.add_model("public", **MODEL)

    response = await embed(sluice, value)

    assert response.status == 422
    assert (await response.json())["detail"][0]["loc"] == place
    assert await sluice.rows(JobRow) == []


@pytest.mark.parametrize("members", [{"encoding_format": "int8"}, {"dimensions": 0}, {"model": ""}, {"user": 1}])
async def test_a_member_out_of_range_is_422(sluice: Installation, members: dict[str, Any]) -> None:
    await sluice.add_model("public", **MODEL)

    assert (await embed(sluice, "Hi", **members)).status == 422


async def test_the_longest_lists_pass(sluice: Installation) -> None:
    await sluice.add_model("public", **MODEL)

    texts = await embed(sluice, ["a"] * 2048)
    tokens = await embed(sluice, [[1] * 2048, [2]])

    assert (texts.status, tokens.status) == (200, 200)
    assert len((await texts.json())["data"]) == 2048


async def test_more_tokens_than_the_model_takes_are_422(sluice: Installation) -> None:
    router = await sluice.add_model("public", **MODEL)
    async with sluice.state.database.transaction() as session:
        row = await session.get(RouterRow, router["router_id"])
        assert row is not None
        row.max_context_length = 512
        session.add(row)
        await raise_revision(session)
    await sluice.state.directory.refresh()

    fits = await embed(sluice, [[7] * 512, [7]])
    long = await embed(sluice, [[7], [7] * 513])

    body = await long.json()
    assert fits.status == 200
    assert (long.status, body["error"]["code"]) == (422, "context_length_exceeded")
    assert body["detail"][0]["loc"] == ["body", "input", 1]
    assert body["detail"][0]["msg"] == "Input 1 has 513 tokens; public takes at most 512."


async def test_a_model_of_another_type_is_refused(sluice: Installation) -> None:
    await sluice.add_model("public", **MODEL)

    chat = await sluice.chat(model="public")
    embedding = await embed(sluice, "Hi", model="simulator")

    assert (chat.status, (await chat.json())["detail"]) == (422, "Wrong model type.")
    assert (embedding.status, (await embedding.json())["detail"]) == (422, "Wrong model type.")
    assert await sluice.rows(JobRow) == []


async def test_an_accepted_job_has_the_embeddings_as_its_result(both: Installation) -> None:
    await both.add_model("public", **MODEL)

    accepted = await embed(both, "Hi", headers=ASYNC)

    job = await accepted.json()
    done = await (await both.get(f"/v1/jobs/{job['id']}?wait=15")).json()
    result = await (await both.get(f"/v1/jobs/{job['id']}/result")).json()
    assert (accepted.status, job["kind"], job["endpoint"]) == (202, "embedding", "/v1/embeddings")
    assert (done["status"], done["usage"]) == ("completed", result["usage"])
    assert result["id"] == done["aliases"][0]
    assert result["id"].startswith("embd-")
    assert (await both.job(result["id"]))["id"] == job["id"]


MALFORMED = [
    b'{"data": [',
    b"{}",
    b'{"data": []}',
    b'{"data": [{"index": 1, "embedding": [1]}]}',
    b'{"data": [{"index": 0, "embedding": []}]}',
    b'{"data": [{"index": 0, "embedding": null}]}',
    b'{"data": [{"index": 0, "embedding": "?"}]}',
    b'{"data": [{"index": 0, "embedding": "AAA="}]}',
    b'{"data": [{"index": 0, "embedding": [0.5, null]}]}',
    b'{"data": [{"index": 0, "embedding": [[0.5]]}]}',
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_a_malformed_answer_is_a_failure_of_the_provider(
    sluice: Installation, provider: ScriptedProvider, body: bytes
) -> None:
    provider.script = [sends(body)]
    provider.default = embeds()
    await sluice.add_model("public", provider.url, **MODEL)

    response = await embed(sluice, "Hi")

    assert response.status == 200
    assert len(provider.requests) == 2


async def test_the_simulator_obeys_its_script(sluice: Installation) -> None:
    await sluice.add_model("public", **MODEL)

    failed = await embed(sluice, "Hi", simulator={"fail": "400"})
    repeated = await embed(sluice, "Hi", simulator={"fail": "malformed", "fail_attempts": 1})
    unknown = await embed(sluice, "Hi", simulator={"fail": "no such thing"})
    uncounted = await (await embed(sluice, "Hi", simulator={"usage": False})).json()

    assert (failed.status, repeated.status, unknown.status) == (400, 200, 400)
    assert uncounted["usage"]["prompt_tokens"] == 1


async def test_tokens_count_against_limits(sluice: Installation) -> None:
    provider = await sluice.add_model("public", **MODEL)
    await sluice.grant(provider["router_id"], tpm=10)
    key = await (await sluice.post("/v1/admin/tokens", {"name": "one", "user": 2})).json()
    headers = {"Authorization": f"Bearer {key['token']}"}

    first = await embed(sluice, [1] * 9, headers=headers)
    second = await embed(sluice, [1] * 9, headers=headers)

    assert (first.status, second.status) == (200, 429)
    assert first.headers["x-ratelimit-limit-tokens"] == "10"
    assert len(await sluice.rows(ChargeRow)) == 1
