"""Several answers of providers that give one at a time."""

import json
from typing import Any

import pytest
from aiohttp import web

from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.events import read_events
from tests.installation import Installation
from tests.providers import ScriptedProvider, fails, says, usage

ONE = says("One.", reported=usage(5, 2))


async def test_a_provider_that_ignores_n_is_called_again(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = ONE
    await both.add_model("public", provider.url, prices=(1, 1))

    answer = await (await both.chat(model="public", n=3)).json()

    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [request.get("n") for request in provider.requests] == [3, 2, 1]
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (15, 6)
    assert [row.amount_micros for row in await both.rows(ChargeRow)] == [21]
    [record] = await both.rows(UsageRecordRow)
    assert record.prompt_tokens + record.completion_tokens == 21


@pytest.mark.parametrize("reported", [None, {}])
async def test_so_is_one_that_streams(both: Installation, provider: ScriptedProvider, reported: Any) -> None:
    provider.default = says("One two.", reported=reported)
    await both.add_model("public", provider.url)

    response = await both.chat(model="public", n=2, stream=True)
    chunks = [json.loads(event.data) for event in (await read_events(response))[:-1]]
    stored = await both.client.get(f"/v1/jobs/{response.headers['x-job-id']}/result", headers=both.headers)

    texts = ["", ""]
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == ["One two.", "One two."]
    assert [choice["message"]["content"] for choice in (await stored.json())["choices"]] == texts
    if reported is None:
        assert chunks[-1]["usage"]["prompt_tokens"] == 18
    assert chunks[-1]["usage"]["completion_tokens"] > 2
    assert len(provider.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_refuses_n_is_asked_for_each(
    sluice: Installation, provider: ScriptedProvider, stream: bool
) -> None:
    provider.script = [fails(400, "Only one completion choice is allowed")]
    await sluice.add_model("public", provider.url)

    response = await sluice.chat(model="public", n=2, stream=stream)

    assert response.status == 200, await response.text()
    await response.read()
    assert [request["n"] for request in provider.requests] == [2, 1, 1]


async def test_what_was_consumed_before_a_failure_is_recorded(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.script = [ONE, fails(400, "no")]
    await sluice.add_model("public", provider.url)

    response = await sluice.chat(model="public", n=2)

    assert response.status == 400
    [record] = await sluice.rows(UsageRecordRow)
    assert record.prompt_tokens + record.completion_tokens == 7


async def test_an_answer_without_choices_ends_it(sluice: Installation, provider: ScriptedProvider) -> None:
    async def nothing(_request: web.Request, _body: Any) -> web.Response:
        return web.json_response({"choices": [], "usage": usage()})

    provider.default = nothing
    await sluice.add_model("public", provider.url)

    assert (await (await sluice.chat(model="public", n=2)).json())["choices"] == []
    assert len(provider.requests) == 1
