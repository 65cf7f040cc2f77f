"""Answers that are kept on purpose: marked, charged as the router says, with the carbon that was avoided."""

from typing import Any

import pytest

from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.installation import Installation
from tests.people import ROUTERS, create
from tests.providers import ScriptedProvider, says


async def cached(installation: Installation, url: str | None = None, **members: Any) -> None:
    """Create a model that keeps its answers."""
    router = await create(
        installation, ROUTERS, **({"name": "kept", "type": "text-generation", "cache_ttl": 60,
        "cost_completion_tokens": 10} | members),
    )  # fmt: skip
    await installation.grant(router["id"])
    sizes = {"model_total_params": 70, "model_hosting_zone": "FRA"}
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
