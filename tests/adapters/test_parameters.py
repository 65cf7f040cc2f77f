"""Parameters that the wire format of a provider does not have: dropped and named, or refused."""

from typing import Any

import pytest

from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.events import read_events
from tests.installation import Installation
from tests.people import read
from tests.providers import ScriptedProvider, fails, says, sends
from tests.recordings import transcribe
from tests.routed import add_router

DROPPED = "x-sluice-dropped-params"
STRICT = {"Prefer": "handling=strict"}
HINTS: dict[str, Any] = {"temperature": 0.5, "top_k": 40, "min_p": 0.1, "user": "somebody", "store": True, "stop": None}


async def add_mistral(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url, type="mistral", prices=(1, 1))


async def error_of(response: Any) -> tuple[int, str, str | None]:
    error = (await response.json())["error"]
    return response.status, error["code"], error["param"]


async def test_what_was_dropped_is_named_with_the_answer_and_the_job(
    both: Installation, provider: ScriptedProvider
) -> None:
    await add_mistral(both, provider)

    response = await both.chat(model="public", **HINTS)

    assert (response.status, response.headers[DROPPED]) == (200, "top_k, min_p")
    assert set(provider.requests[0]) == {"model", "messages", "temperature"}
    assert (await both.job(response.headers["x-job-id"]))["dropped_params"] == ["top_k", "min_p"]


async def test_a_stream_names_them_before_its_first_chunk(both: Installation, provider: ScriptedProvider) -> None:
    await add_mistral(both, provider)

    response = await both.chat(model="public", stream=True, stream_options={"include_usage": True}, **HINTS)

    assert response.headers[DROPPED] == "top_k, min_p"
    assert (await read_events(response))[-1].data == "[DONE]"
    assert (await both.job(response.headers["x-job-id"]))["dropped_params"] == ["top_k", "min_p"]


async def test_a_failure_and_a_repeated_answer_name_them_too(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = fails(400)
    await add_mistral(sluice, provider)

    first, second = [
        await sluice.chat(model="public", top_k=1, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]  # fmt: skip

    assert [first.status, second.status] == [400, 400]
    assert (first.headers[DROPPED], second.headers[DROPPED]) == ("top_k", "top_k")
    assert len(provider.requests) == 1


async def test_nothing_is_named_if_everything_was_sent(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url, type="vllm")

    response = await sluice.chat(model="public", headers=STRICT, guided_choice=["a"], **HINTS)

    assert response.status == 200
    assert DROPPED not in response.headers
    assert response.headers["Preference-Applied"] == "handling=strict"
    assert (provider.requests[0]["top_k"], provider.requests[0]["guided_choice"]) == (40, ["a"])
    assert (await sluice.job(response.headers["x-job-id"]))["dropped_params"] == []


@pytest.mark.parametrize("stream", [False, True])
async def test_handling_strict_refuses_what_would_be_dropped(
    both: Installation, provider: ScriptedProvider, stream: bool
) -> None:
    await add_mistral(both, provider)

    response = await both.chat(model="public", stream=stream, headers=STRICT, **HINTS)

    assert await error_of(response) == (400, "unsupported_parameter", "top_k")
    assert response.headers["Preference-Applied"] == "handling=strict"
    assert provider.requests == []
    assert [row.amount_micros for row in await both.rows(ChargeRow)] == [0]
    job = await both.job(response.headers["x-job-id"])
    assert (job["status"], job["attempt"], job["error"]["code"]) == ("failed", 0, "unsupported_parameter")


async def test_handling_strict_takes_what_the_format_has(sluice: Installation, provider: ScriptedProvider) -> None:
    await add_mistral(sluice, provider)

    response = await sluice.chat(
        model="public", headers={"Prefer": 'handling="strict", wait=20'}, temperature=0.5, seed=7, user="somebody",
        max_completion_tokens=5, metadata={"a": "b"},
    )  # fmt: skip

    assert (response.status, response.headers["Preference-Applied"]) == (200, "wait=20, handling=strict")
    assert provider.requests[0]["random_seed"] == 7


@pytest.mark.parametrize(
    "members",
    [{"guided_regex": "a+"}, {"logprobs": True}, {"stop_token_ids": [1]}, {"add_generation_prompt": False}],
    ids=str,
)
async def test_what_would_change_the_meaning_is_refused_in_any_case(
    sluice: Installation, provider: ScriptedProvider, members: dict[str, Any]
) -> None:
    await add_mistral(sluice, provider)

    response = await sluice.chat(model="public", **members)

    assert await error_of(response) == (400, "unsupported_parameter", next(iter(members)))
    assert provider.requests == []


async def test_what_says_nothing_is_not_refused(sluice: Installation, provider: ScriptedProvider) -> None:
    await add_mistral(sluice, provider)

    response = await sluice.chat(model="public", logprobs=False, stop_token_ids=[], add_generation_prompt=True)

    assert response.status == 200
    assert response.headers[DROPPED] == "logprobs, stop_token_ids, add_generation_prompt"


async def test_a_provider_that_takes_it_is_preferred(
    sluice: Installation, two: tuple[ScriptedProvider, ScriptedProvider]
) -> None:
    narrow, wide = two
    await add_router(
        sluice, {"url": narrow.url, "type": "mistral", "weight": 1e6}, {"url": wide.url, "type": "vllm", "weight": 1},
        load_balancing_strategy="weighted",
    )  # fmt: skip

    dropped = await sluice.chat(model="routed", top_k=1)
    strict = await sluice.chat(model="routed", top_k=1, headers=STRICT)
    wide.default = fails(500)
    broken = await sluice.chat(model="routed", top_k=1, headers=STRICT)

    assert (dropped.headers[DROPPED], DROPPED in strict.headers) == ("top_k", False)
    assert (strict.status, wide.requests[0]["top_k"]) == (200, 1)
    assert (broken.status, len(narrow.requests)) == (503, 1)


async def test_the_preference_stays_with_a_job_that_nobody_waits_for(
    both: Installation, provider: ScriptedProvider
) -> None:
    await add_mistral(both, provider)
    body = {"model": "public", "messages": [{"role": "user", "content": "Hello"}], "top_k": 1}

    ways = [
        await both.chat(model="public", top_k=1, headers={"Prefer": "respond-async, handling=strict"}),
        await both.post("/v1/jobs", {"endpoint": "/v1/chat/completions", "body": body}, headers=STRICT),
    ]
    ends = [await read(both, f"/v1/jobs/{(await way.json())['id']}?wait=20") for way in ways]
    again = await both.post(f"/v1/jobs/{ends[0]['id']}/retry")
    ends.append(await read(both, f"/v1/jobs/{(await again.json())['id']}?wait=20"))

    assert {way.headers["Preference-Applied"] for way in ways} == {"respond-async, handling=strict"}
    assert [end["error"]["code"] for end in ends] == ["unsupported_parameter"] * 3
    assert [row.strict for row in await both.rows(JobRow)] == [True] * 3
    assert provider.requests == []


async def test_a_long_request_is_read_from_its_row(sluice: Installation, provider: ScriptedProvider) -> None:
    await add_mistral(sluice, provider)

    response = await sluice.chat("long " * 50_000, model="public", top_k=1, headers=STRICT)

    assert await error_of(response) == (400, "unsupported_parameter", "top_k")


async def test_names_that_a_header_cannot_have_are_left_out(sluice: Installation, provider: ScriptedProvider) -> None:
    await add_mistral(sluice, provider)

    strange = {"a\r\nb": 1, "größe": 2, "x, y": 3, "top_k": 4}
    response = await sluice.chat(model="public", **strange)
    refused = await sluice.chat(model="public", headers=STRICT, **{"a\r\nb": 1})

    assert (response.status, response.headers[DROPPED]) == (200, "top_k")
    assert await error_of(refused) == (400, "unsupported_parameter", None)


async def test_documents_are_ranked_with_what_the_format_has(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = sends(b'[{"index": 0, "score": 0.5}]')
    await sluice.add_model("public", provider.url, type="tei", router_type="text-classification")
    body = {"model": "public", "query": "q", "documents": ["a"], "top_n": 1}

    plain = await sluice.post("/v1/rerank", body, headers=STRICT)
    more = await sluice.post("/v1/rerank", body | {"return_documents": True})
    refused = await sluice.post("/v1/rerank", body | {"return_documents": True}, headers=STRICT)

    assert (plain.status, DROPPED in plain.headers) == (200, False)
    assert (more.status, more.headers[DROPPED]) == (200, "return_documents")
    assert await error_of(refused) == (400, "unsupported_parameter", "return_documents")


async def test_recordings_in_chats_have_few_parameters(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = says("Hello.")
    await sluice.add_model("ears", provider.url, type="mistral", router_type="automatic-speech-recognition")

    plain = await transcribe(sluice, model="ears", language="french", prompt="names", headers=STRICT)
    more = await transcribe(sluice, model="ears", chunking_strategy="auto")

    assert (plain.status, DROPPED in plain.headers) == (200, False)
    assert (more.status, more.headers[DROPPED]) == (200, "chunking_strategy")
