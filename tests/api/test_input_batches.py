"""How many inputs go to a provider in one call: as told, or as found out."""

from typing import Any

import pytest
from aiohttp import web

from tests.installation import Installation
from tests.people import PROVIDERS, changed, read
from tests.providers import Behaviour, ScriptedProvider, embeds, ranks

MODEL = {"router_type": "text-embeddings-inference"}


async def embed(sluice: Installation, *inputs: str) -> Any:
    response = await sluice.post("/v1/embeddings", {"model": "public", "input": list(inputs)})
    answer = await response.json()
    assert (response.status, len(answer["data"])) == (200, len(inputs)), answer
    return answer


def sizes(provider: ScriptedProvider, member: str = "input") -> list[int]:
    """Return the numbers of inputs of the calls since the last look."""
    found = [len(request[member]) for request in provider.requests]
    provider.requests.clear()
    return found


async def know(sluice: Installation, path: str, **members: Any) -> None:
    """Change a provider; the worker knows it from the next job on."""
    await changed(sluice, path, members)
    assert sluice.runtime is not None
    await sluice.runtime.directory.refresh()


async def test_a_number_that_was_found_out_is_not_found_out_again(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = embeds(most=2)
    await sluice.add_model("public", provider.url, **MODEL)

    await embed(sluice, *"abcde")
    first = sizes(provider)
    await embed(sluice, *"abcde")
    second = sizes(provider)
    await embed(sluice, "a")

    assert (first[:3], sorted(first[3:])) == ([5, 3, 2], [1, 2])
    assert sorted(second) == [1, 2, 2]
    assert len(provider.requests) == 1


async def test_the_operator_tells_how_many_inputs_a_call_has(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = embeds(most=3)
    created = await both.add_model("public", provider.url, **MODEL, max_batch=3)
    path = f"{PROVIDERS}/{created['id']}"

    await embed(both, *"abcde")
    told = sizes(provider)
    await know(both, path, max_batch=1)
    await embed(both, *"abc")
    changed_to = sizes(provider)
    await know(both, path, max_batch=None)
    await embed(both, *"abc")

    assert (created["max_batch"], sorted(told)) == (3, [2, 3])
    assert changed_to == [1, 1, 1]
    assert sizes(provider) == [3]
    assert (await read(both, path))["max_batch"] is None


async def test_more_than_a_server_takes_as_a_rule_may_be_told(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = embeds()
    await sluice.add_model("public", provider.url, **MODEL, type="tei", max_batch=64)

    await embed(sluice, *(str(number) for number in range(64)))

    assert sizes(provider) == [64]


async def test_documents_to_rank_are_counted_alike(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = ranks(0.1, 0.2)
    await sluice.add_model("public", provider.url, type="vllm", router_type="text-classification", max_batch=2)

    body = {"model": "public", "query": "q", "documents": ["a", "b", "c"]}
    response = await sluice.post("/v1/rerank", body)

    assert (response.status, sorted(sizes(provider, "documents"))) == (200, [1, 2])


async def test_texts_that_are_too_large_together_teach_no_number(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = takes_characters(10)
    await sluice.add_model("public", provider.url, **MODEL)

    await embed(sluice, "a" * 8, "b" * 8)
    large = sizes(provider)
    await embed(sluice, "a", "b", "c")

    assert (large, sizes(provider)) == ([2, 1, 1], [3])


def takes_characters(most: int) -> Behaviour:
    """Refuse what is too large in all."""

    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if sum(map(len, body["input"])) > most:
            return web.json_response({"error": "Payload too large"}, status=413)
        return await embeds()(request, body)

    return behave


@pytest.mark.parametrize("most", [0, 100_001, "x"])
async def test_a_number_that_no_call_can_have_is_refused(sluice: Installation, most: Any) -> None:
    body = {"router": 2, "type": "simulator", "model_name": "m", "max_batch": most, "probe": False}

    response = await sluice.post(PROVIDERS, body)

    assert (response.status, (await response.json())["detail"][0]["loc"]) == (422, ["body", "max_batch"])
