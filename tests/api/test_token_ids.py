"""Token ids in the place of texts: passed on to providers that take them, text for the others, refused if unknown."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.conftest import make_settings
from tests.installation import Installation, open_installation
from tests.people import ROUTERS, create, read
from tests.providers import ScriptedProvider, continues, embeds, fails
from tests.servers import RedisServer

EMBEDS, WRITES = "text-embeddings-inference", "text-generation"
HELLO_WORLD, HELLO = [9906, 1917], [15339]
"""Of cl100k_base; `Hello world` and `hello`."""
HALF_A_SIGN = [9468]
"""The first two of the four bytes of an emoji."""


async def add_router(
    sluice: Installation, url: str, kind: str = EMBEDS, provider: dict[str, Any] | None = None, **members: Any
) -> dict[str, Any]:
    router = await create(sluice, ROUTERS, **({"name": "public", "type": kind} | members))
    await sluice.grant(router["id"])
    await sluice.add_provider(router["id"], url, **(provider or {}))
    return router


async def embed(sluice: Installation, value: Any) -> Any:
    return await sluice.post("/v1/embeddings", {"model": "public", "input": value})


async def complete(sluice: Installation, value: Any) -> Any:
    return await sluice.post("/v1/completions", {"model": "public", "prompt": value})


@pytest.mark.parametrize(
    ("value", "sent"), [(HELLO_WORLD, ["Hello world"]), ([HELLO_WORLD, HELLO], ["Hello world", "hello"])], ids=str
)
async def test_a_model_that_embeds_gets_the_text(
    both: Installation, provider: ScriptedProvider, value: Any, sent: list[str]
) -> None:
    provider.default = embeds()
    router = await add_router(both, provider.url)

    response = await embed(both, value)

    assert (response.status, len((await response.json())["data"])) == (200, len(sent))
    assert provider.requests == [{"model": "upstream-model", "input": sent}]
    assert (router["accepts_token_ids"], router["token_encoding"]) == (False, None)


async def test_another_vocabulary_has_other_texts(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = embeds()
    await add_router(sluice, provider.url, token_encoding="o200k_base")

    assert (await embed(sluice, [13225, 2375])).status == 200

    assert provider.requests[0]["input"] == ["Hello world"]


async def test_a_model_that_takes_ids_gets_them_unchanged(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = embeds(reported={})
    router = await add_router(both, provider.url, accepts_token_ids=True)

    counted = await (await embed(both, [[999_999], [1, 2]])).json()
    changed = await (await both.patch(f"{ROUTERS}/{router['id']}", {"token_encoding": "cl100k_base"})).json()
    refused = await embed(both, [999_999])

    assert [request["input"] for request in provider.requests] == [[[999_999], [1, 2]]]
    assert counted["usage"]["prompt_tokens"] == 3
    assert (changed["accepts_token_ids"], changed["token_encoding"], refused.status) == (True, "cl100k_base", 422)


async def test_an_id_that_only_the_provider_knows_to_be_wrong_is_422_and_free(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = fails(400, "Token id 999999 is out of vocabulary")
    await add_router(sluice, provider.url, accepts_token_ids=True, cost_prompt_tokens=1)

    response = await embed(sluice, [999_999])

    assert (response.status, (await response.json())["detail"]) == (422, "Token id 999999 is out of vocabulary")
    assert [charge.amount_micros for charge in await sluice.rows(ChargeRow)] == [0]


async def test_a_format_without_ids_gets_the_text_whatever_the_router_accepts(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = embeds()
    members = {"accepts_token_ids": True, "token_encoding": "cl100k_base"}
    await add_router(sluice, provider.url, provider={"type": "mistral"}, **members)

    assert (await embed(sluice, HELLO)).status == 200

    assert provider.requests[0]["input"] == ["hello"]


async def test_ids_of_an_unknown_vocabulary_are_never_guessed(sluice: Installation, provider: ScriptedProvider) -> None:
    await add_router(sluice, provider.url, provider={"type": "mistral"}, accepts_token_ids=True)

    response = await embed(sluice, HELLO)

    assert (response.status, (await response.json())["error"]["code"]) == (503, "provider_unavailable")
    assert provider.requests == []


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([100_256], ["body", "input"]), ([HELLO, [2**31 - 1]], ["body", "input", 1]),
        ([HELLO, HELLO, [100_257]], ["body", "input", 2]), (HALF_A_SIGN, ["body", "input"]),
    ],
    ids=str,
)  # fmt: skip
async def test_ids_that_mean_nothing_are_422_with_their_place_and_make_no_job(
    both: Installation, provider: ScriptedProvider, value: Any, place: list[Any]
) -> None:
    await add_router(both, provider.url)

    response = await embed(both, value)

    error = await response.json()
    assert (response.status, error["detail"][0]["loc"]) == (422, place)
    assert "cl100k_base" in error["error"]["message"]
    assert (provider.requests, await both.rows(JobRow)) == ([], [])


async def test_a_job_and_a_line_are_checked_alike(sluice: Installation, provider: ScriptedProvider) -> None:
    await add_router(sluice, provider.url)

    body = {"endpoint": "/v1/embeddings", "body": {"model": "public", "input": [100_256]}}
    response = await sluice.post("/v1/jobs", body)

    assert response.status == 422
    assert await sluice.rows(JobRow) == []


async def test_prompts_are_ids_or_text_as_the_router_says(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = continues("!")
    router = await add_router(sluice, provider.url, WRITES)
    await complete(sluice, [HELLO_WORLD, HELLO])
    await sluice.patch(f"{ROUTERS}/{router['id']}", {"accepts_token_ids": False})
    assert sluice.runtime is not None
    await sluice.runtime.directory.refresh()
    refused = await complete(sluice, [HELLO, [100_256]])
    answered = await complete(sluice, [HELLO_WORLD, HELLO])

    assert [request["prompt"] for request in provider.requests] == [[HELLO_WORLD, HELLO], ["Hello world", "hello"]]
    assert (refused.status, answered.status) == (422, 200)
    assert (await refused.json())["detail"][0]["loc"] == ["body", "prompt", 1]


async def test_a_fallback_of_another_vocabulary_gets_the_text(
    sluice: Installation, two: tuple[ScriptedProvider, ScriptedProvider]
) -> None:
    first, second = two
    second.default = embeds()
    other = await create(sluice, ROUTERS, name="other", type=EMBEDS, accepts_token_ids=True)
    await sluice.add_provider(other["id"], second.url)
    first.default = fails(500)
    members = {"accepts_token_ids": True, "token_encoding": "cl100k_base", "fallback": other["id"]}
    await add_router(sluice, first.url, **members)

    assert (await embed(sluice, HELLO)).status == 200

    assert second.requests[0]["input"] == ["hello"]


async def test_an_operator_s_file_is_a_vocabulary(
    tmp_path: Path, redis_server: RedisServer, provider: ScriptedProvider
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    tokens = [b"Gr", "üße".encode()]
    lines = [b64encode(token) + b" %d\n" % number for number, token in enumerate(tokens)]
    (folder / "mine.tiktoken").write_bytes(b"".join(lines))
    (folder / "broken.tiktoken").write_bytes(b"?")
    provider.default = embeds()
    async with open_installation(make_settings(tmp_path, redis_server, vocabulary_dir=str(folder))) as sluice:
        router = await add_router(sluice, provider.url, token_encoding="mine")
        known, unknown = await embed(sluice, [0, 1]), await embed(sluice, [2])
        path = f"{ROUTERS}/{router['id']}"
        refused = [await sluice.patch(path, {"token_encoding": name}) for name in ("../mine", "none", "broken", "")]

        assert (known.status, provider.requests[0]["input"]) == (200, ["Grüße"])
        assert unknown.status == 422
        assert [response.status for response in refused] == [422] * 4
        assert (await read(sluice, path))["token_encoding"] == "mine"


@pytest.mark.parametrize(
    ("value", "most", "sent"),
    [
        ("Hello world, hello", 2, ["Hello world"]), (["Hello world", "hello"], 1, ["Hello", "hello"]),
        ([*HELLO_WORLD, *HELLO_WORLD], 2, ["Hello world"]), ("Hello world", -1, ["Hello world"]),
    ],
    ids=str,
)  # fmt: skip
async def test_inputs_are_cut_for_providers_that_do_not_cut_them(
    sluice: Installation, provider: ScriptedProvider, value: Any, most: int, sent: list[str]
) -> None:
    provider.default = embeds()
    await add_router(sluice, provider.url, provider={"type": "tei"})

    response = await sluice.post(
        "/v1/embeddings", {"model": "public", "input": value, "truncate_prompt_tokens": most}
    )  # fmt: skip

    assert response.status == 200, await response.text()
    [request] = provider.requests
    assert "truncate_prompt_tokens" not in request
    assert request["input"] == sent if most > 0 else request["input"] in (sent, sent[0])
