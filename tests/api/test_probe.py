"""What is found out about a provider before it is added."""

from typing import Any

import pytest
from aiohttp import web

from tests.installation import Installation
from tests.people import PROVIDERS, ROUTERS, create, read, refused
from tests.providers import ScriptedProvider, in_pieces, serve_provider


@pytest.fixture
def listed(provider: ScriptedProvider) -> ScriptedProvider:
    """A provider that tells the length of its model's context."""
    provider.models = [{"id": "model-a", "max_context_length": 8192, "max_model_len": 4096}, "org/model-b", "twice"]
    provider.models.append("twice")
    return provider


async def add(installation: Installation, url: str, router: int = 1, **members: Any) -> Any:
    body = {"router": router, "type": "openai", "url": url, "model_name": "model-a"} | members
    return await installation.post(PROVIDERS, body)


@pytest.mark.parametrize(("kind", "length"), [("openai", 8192), ("vllm", 4096), ("albert", 8192), ("mistral", 8192)])
async def test_the_context_length_is_read_from_the_list_of_models(
    both: Installation, listed: ScriptedProvider, kind: str, length: int
) -> None:
    router = await create(both, ROUTERS, name="probed", type="text-generation")

    response = await add(both, listed.url, router["id"], type=kind)

    assert response.status == 201
    assert (await read(both, f"{ROUTERS}/{router['id']}"))["max_context_length"] == length
    assert (await both.delete(f"{PROVIDERS}/{(await response.json())['id']}")).status == 200
    assert (await read(both, f"{ROUTERS}/{router['id']}"))["max_context_length"] is None


@pytest.mark.parametrize("model_name", ["missing", "twice"])
async def test_a_model_that_is_not_there_exactly_once_is_refused(
    both: Installation, listed: ScriptedProvider, model_name: str
) -> None:
    response = await add(both, listed.url, model_name=model_name)

    assert await refused(response) == (424, f"Model provider {model_name} not reachable.")
    assert (await response.json())["error"]["code"] == "provider_not_reachable"
    assert (await read(both, ROUTERS))["data"][0]["providers"] == 1


async def test_a_context_longer_than_any_is_refused(both: Installation, listed: ScriptedProvider) -> None:
    listed.models = [{"id": "model-a", "max_context_length": 2**40}]

    assert (await add(both, listed.url)).status == 424


@pytest.mark.parametrize("answer", [{"data": []}, {"data": [{"embedding": None}]}, []])
async def test_an_embedding_provider_without_vectors_is_refused(
    sluice: Installation, listed: ScriptedProvider, answer: Any
) -> None:
    async def embed(_request: web.Request) -> web.Response:
        return web.json_response(answer)

    router = await create(sluice, ROUTERS, name="vectors", type="text-embeddings-inference")
    listed.routes["/v1/embeddings"] = embed

    assert (await add(sluice, listed.url, router["id"])).status == 424


async def test_a_provider_that_does_not_answer_is_refused_unless_nobody_looks(sluice: Installation) -> None:
    nowhere = "http://127.0.0.1:9/"

    refusal, unseen = await add(sluice, nowhere), await add(sluice, nowhere, probe=False)

    assert (refusal.status, unseen.status) == (424, 201)


async def test_an_embedding_provider_tells_its_vector_size(sluice: Installation, listed: ScriptedProvider) -> None:
    async def embed(_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"embedding": [0.5] * size}]})

    router = await create(sluice, ROUTERS, name="vectors", type="text-embeddings-inference")
    listed.routes["/v1/embeddings"] = embed
    size = 12
    assert (await add(sluice, listed.url, router["id"])).status == 201
    assert (await read(sluice, f"{ROUTERS}/{router['id']}"))["vector_size"] == 12

    size = 16
    response = await add(sluice, listed.url, router["id"], model_name="org/model-b")

    text = "Inconsistent vector size for vectors. Expected: 12. Actual: 16"
    assert await refused(response) == (403, text)
    assert (await response.json())["error"]["code"] == "inconsistent_model"


async def test_providers_of_a_router_have_the_same_context(sluice: Installation, listed: ScriptedProvider) -> None:
    assert (await add(sluice, listed.url)).status == 201
    async with serve_provider() as other:
        other.models = [{"id": "model-a", "max_context_length": 1000}]

        response = await add(sluice, other.url)

    text = "Inconsistent max context length for simulator. Expected: 8192. Actual: 1000"
    assert await refused(response) == (403, text)


async def test_tei_is_asked_for_its_info(sluice: Installation, listed: ScriptedProvider) -> None:
    async def info(_request: web.Request) -> web.Response:
        return web.json_response({"model_id": "org/ranker", "max_input_length": 512})

    listed.routes["/info"] = info
    router = await create(sluice, ROUTERS, name="ranks", type="text-classification")

    wrong = await add(sluice, listed.url, router["id"], type="tei", model_name="org/other")
    right = await add(sluice, listed.url, router["id"], type="tei", model_name="org/ranker")

    assert (wrong.status, right.status) == (424, 201)
    assert (await read(sluice, f"{ROUTERS}/{router['id']}"))["max_context_length"] == 512


async def test_a_new_url_is_looked_at_again(both: Installation, listed: ScriptedProvider) -> None:
    made = await (await add(both, listed.url)).json()

    refusal = await both.patch(f"{PROVIDERS}/{made['id']}", {"url": "http://127.0.0.1:9/"})
    unseen = await both.patch(f"{PROVIDERS}/{made['id']}", {"url": "http://127.0.0.1:9/", "probe": False})

    assert await refused(refusal) == (424, "Model provider model-a not reachable.")
    assert unseen.status == 204


async def test_an_answer_that_comes_in_pieces_is_read_whole(sluice: Installation, provider: ScriptedProvider) -> None:
    info = in_pieces(b'{"model_id": "model-a",', b' "max_input_length": 512}')
    provider.routes = {"/info": lambda request: info(request, {})}
    router = await create(sluice, ROUTERS, name="probed", type="text-classification")

    response = await add(sluice, provider.url, router["id"], type="tei")

    assert response.status == 201, await response.text()
    assert (await read(sluice, f"{ROUTERS}/{router['id']}"))["max_context_length"] == 512
