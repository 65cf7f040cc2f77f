"""Answers that are kept on purpose: marked, charged as the router says, with the carbon that was avoided."""

from typing import Any

import pytest

from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.installation import Installation
from tests.people import PROVIDERS, ROUTERS, changed, create, read
from tests.providers import Behaviour, ScriptedProvider, continues, embeds, fails, ranks, says


async def cached(installation: Installation, url: str | None = None, **members: Any) -> None:
    """Create a model that keeps its answers."""
    provider = members.pop("provider", {})
    router = await create(
        installation, ROUTERS, **({"name": "kept", "type": "text-generation", "cache_ttl": 60,
        "cost_completion_tokens": 10} | members),
    )  # fmt: skip
    await installation.grant(router["id"])
    sizes = {"model_total_params": 70, "model_hosting_zone": "FRA"} | provider
    await installation.add_provider(router["id"], url, **sizes)
    assert installation.runtime is not None
    await installation.runtime.directory.refresh()


async def test_the_same_request_is_answered_without_a_provider(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await cached(sluice, provider.url)

    first, second = [await (await sluice.chat(model="kept", temperature=0)).json() for _ in range(2)]

    assert len(provider.requests) == 1
    assert second["choices"] == first["choices"]
    assert second["id"] != first["id"]
    assert "cache" not in first["usage"]
    assert second["usage"]["cache"] == {"hit": True, "avoided": first["usage"]["impacts"]}
    assert (first["usage"]["cost"], second["usage"]["cost"]) == (0.00003, 0)
    assert second["usage"]["impacts"]["kWh"] == 0
    assert second["usage"]["completion_tokens"] == first["usage"]["completion_tokens"]
    assert [row.amount_micros for row in await sluice.rows(ChargeRow)] == [30, 0]
    assert [row.cost_micros for row in await sluice.rows(UsageRecordRow)] == [30, 0]


async def test_hits_may_cost_as_much_as_calls(sluice: Installation, provider: ScriptedProvider) -> None:
    await cached(sluice, provider.url, cache_charge="full")

    costs = [(await (await sluice.chat(model="kept", seed=7)).json())["usage"]["cost"] for _ in range(2)]

    assert costs == [0.00003, 0.00003]
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "members", [{}, {"temperature": 0.1}, {"seed": -1}, {"temperature": 0, "stream": True}], ids=str
)
async def test_what_is_not_meant_to_repeat_is_not_kept(
    sluice: Installation, provider: ScriptedProvider, members: dict[str, Any]
) -> None:
    await cached(sluice, provider.url)

    for _ in range(2):
        assert (await sluice.chat(model="kept", **members)).status == 200

    assert len(provider.requests) == 2


async def test_another_request_has_another_answer(sluice: Installation, provider: ScriptedProvider) -> None:
    await cached(sluice, provider.url)
    provider.script = [says("One."), says("Two."), says("Three.")]

    asked = [("a", {}), ("b", {}), ("a", {"max_tokens": 5}), ("a", {"user": "somebody", "metadata": {"k": "v"}})]
    texts = []
    for text, members in asked:
        answer = await (await sluice.chat(text, model="kept", temperature=0, **members)).json()
        texts.append(answer["choices"][0]["message"]["content"])

    assert texts == ["One.", "Two.", "Three.", "One."]


async def test_nothing_is_kept_unless_the_router_says_so(sluice: Installation, provider: ScriptedProvider) -> None:
    await cached(sluice, provider.url, cache_ttl=None)

    for _ in range(2):
        await sluice.chat(model="kept", temperature=0)

    assert len(provider.requests) == 2


async def test_a_failure_is_not_kept(sluice: Installation) -> None:
    await cached(sluice)

    failing = {"fail": "400", "fail_attempts": 1}
    answers = [await sluice.chat(model="kept", temperature=0, simulator=failing) for _ in range(2)]

    assert [answer.status for answer in answers] == [400, 400]


async def test_a_kept_answer_needs_no_provider_that_is_well(sluice: Installation, provider: ScriptedProvider) -> None:
    await cached(sluice, provider.url)
    first = await (await sluice.chat(model="kept", temperature=0)).json()
    provider.default = fails(503, **{"Retry-After": "60"})

    other = await sluice.chat("Another", model="kept", temperature=0)
    called = len(provider.requests)
    second = await sluice.chat(model="kept", temperature=0)

    answer = await second.json()
    assert other.status == 503
    assert (second.status, answer["choices"], answer["usage"]["cache"]["hit"]) == (200, first["choices"], True)
    assert len(provider.requests) == called


REQUESTS: list[tuple[str, str, Behaviour, dict[str, Any]]] = [
    ("text-generation", "/v1/completions", continues("x"), {"prompt": "a", "seed": 1}),
    ("text-embeddings-inference", "/v1/embeddings", embeds(), {"input": ["a", "b"]}),
    ("text-embeddings-inference", "/v1/embeddings", embeds(), {"input": [9906, 1917]}),
    ("text-classification", "/v1/rerank", ranks(0.5, 0.1), {"query": " q ", "documents": ["a ", "b"]}),
]


@pytest.mark.parametrize(("kind", "path", "answers", "body"), REQUESTS, ids=lambda value: str(value)[:30])
async def test_every_kept_kind_is_answered_while_all_providers_are_out(
    sluice: Installation, provider: ScriptedProvider, kind: str, path: str, answers: Behaviour, body: dict[str, Any]
) -> None:
    provider.default = answers
    await cached(sluice, provider.url, type=kind, provider={"type": "vllm"})
    first = await (await sluice.post(path, {"model": "kept"} | body)).json()
    provider.default = fails(503, **{"Retry-After": "60"})
    other = {name: ["other"] if name in ("input", "documents") else value for name, value in body.items()}
    if path == "/v1/completions":
        other["prompt"] = "other"
    refused = await sluice.post(path, {"model": "kept"} | other)
    called = len(provider.requests)

    second = await (await sluice.post(path, {"model": "kept"} | body)).json()

    assert (refused.status, len(provider.requests)) == (503, called)
    for member in ("data", "results", "choices"):
        assert second.get(member) == first.get(member)
    assert second["usage"]["cache"]["hit"]


async def test_what_was_embedded_in_one_call_is_found_whatever_the_batch_is_now(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = embeds()
    await cached(sluice, provider.url, type="text-embeddings-inference")
    number = (await read(sluice, PROVIDERS))["data"][-1]["id"]
    body = {"model": "kept", "input": ["a", "bb", "ccc"]}
    first = await (await sluice.post("/v1/embeddings", body)).json()
    await changed(sluice, f"{PROVIDERS}/{number}", {"max_batch": 1})
    assert sluice.runtime is not None
    await sluice.runtime.directory.refresh()

    second = await (await sluice.post("/v1/embeddings", body)).json()

    assert (second["data"], len(provider.requests)) == (first["data"], 1)
