"""/v1/admin: routers, providers and keys; and what others may see of them."""

import time
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest

from shared.clock import now_ms
from shared.keys.tables import KeyRow
from shared.providers.tables import ProviderRow
from shared.secrets import hash_key
from shared.tables import TABLES
from shared.usage.tables import ChargeRow
from tests.installation import ADMIN_KEY, FIRST_MODELS, Installation
from tests.providers import ScriptedProvider, says, usage

ROUTERS, PROVIDERS, TOKENS = "/v1/admin/routers", "/v1/admin/providers", "/v1/admin/tokens"
CHAT = "/v1/chat/completions"
SECRET = "sk-upstream-secret-0123456789abcdef"
NOWHERE = "http://127.0.0.1:9/"
"""Nothing listens there."""


async def test_a_router_is_created_read_listed_and_deleted(both: Installation) -> None:
    created = await create(both, ROUTERS, name=" public ", type="text-generation", aliases=["b", " a ", "b"])

    router_id = created["id"]
    assert created == {
        "object": "router", "id": router_id, "name": "public", "user_id": 0, "type": "text-generation",
        "aliases": ["a", "b"], "load_balancing_strategy": "shuffle", "fallback": None, "cache_ttl": None,
        "voices": None, "accepts_token_ids": True, "token_encoding": None,
        "cache_charge": "free", "default_parameters": {}, "display_name": None, "description": "", "tools": None,
        "small": False, "vector_size": None, "max_context_length": None,
        "cost_prompt_tokens": 0, "cost_completion_tokens": 0, "providers": 0, "created": created["created"],
        "updated": created["created"],
    }  # fmt: skip
    assert await read(both, f"{ROUTERS}/{router_id}") == created
    assert created in (await read(both, ROUTERS))["data"]
    deleted = await both.delete(f"{ROUTERS}/{router_id}")
    assert (deleted.status, await deleted.json()) == (200, created)
    assert (await refused(await both.get(f"{ROUTERS}/{router_id}")))[0] == 404


async def test_a_provider_is_created_read_listed_and_deleted(both: Installation) -> None:
    router = await create(both, ROUTERS, name="public", type="text-generation")
    created = await create(
        both, PROVIDERS, router=router["id"], type="openai", url=f"{NOWHERE}Path/v1", model_name="m", key=SECRET
    )

    assert created == {
        "object": "provider", "id": created["id"], "router_id": router["id"], "user_id": 0, "type": "openai",
        "url": f"{NOWHERE}Path/", "key": "sk-upstr...89abcdef", "timeout": 300, "model_name": "m",
        "model_hosting_zone": "WOR", "model_total_params": 0, "model_active_params": 0, "quantization_bits": None,
        "gpu_count": None, "gpu_memory_gb": None, "batch_size": None, "pue": None, "wue": None,
        "joules_per_output_token": None, "qos_metric": None, "qos_limit": None, "weight": 1, "native_responses": False,
        "max_batch": None, "parameter_set": "all", "denied_params": [],
        "created": created["created"], "updated": created["created"],
    }  # fmt: skip
    assert await read(both, f"{PROVIDERS}/{created['id']}") == created
    assert (await read(both, f"{PROVIDERS}?router={router['id']}"))["data"] == [created]
    assert (await read(both, f"{ROUTERS}/{router['id']}"))["providers"] == 1
    deleted = await both.delete(f"{PROVIDERS}/{created['id']}")
    assert (deleted.status, await deleted.json()) == (200, created)
    assert (await both.get(f"{PROVIDERS}/{created['id']}")).status == 404


async def test_a_key_is_created_used_listed_and_deleted(both: Installation) -> None:
    expires = int(time.time()) + 3600
    made = await create(both, TOKENS, name=" laptop ", user=1, expires=expires)

    masked = f"{made['key'][:8]}...{made['key'][-8:]}"
    token = await read(both, f"{TOKENS}/{made['id']}")
    assert made == {"id": made["id"], "token": made["key"], "key": made["key"]}
    assert made["key"].startswith("sk-")
    assert token == {
        "object": "token", "id": made["id"], "name": "laptop", "token": masked, "user": 1, "expires": expires,
        "scopes": None, "dialect": None, "last_used_at": None, "created": token["created"],
    }  # fmt: skip
    assert (await read(both, f"{TOKENS}?user=1"))["data"] == [token]
    assert (await read(both, f"{TOKENS}?user=2"))["data"] == []
    assert (await both.get("/v1/models", headers=bearer(made["key"]))).status == 200
    deleted = await both.delete(f"{TOKENS}/{made['id']}")
    assert (deleted.status, await deleted.read()) == (204, b"")
    assert await refused(await both.get("/v1/models", headers=bearer(made["key"]))) == (401, "Invalid API key.")


async def test_what_is_absent_is_a_404_with_its_own_text(both: Installation) -> None:
    texts = {ROUTERS: "Model router 99 not found.", PROVIDERS: "Model provider 99 not found."}
    for noun, text in (texts | {TOKENS: "Token not found."}).items():
        assert await refused(await both.get(f"{noun}/99")) == (404, text)
        assert await refused(await both.delete(f"{noun}/99")) == (404, text)
    assert await refused(await both.post(TOKENS, {"name": "k", "user": 99})) == (404, "User not found.")
    provider = {"router": 99, "type": "openai", "url": NOWHERE, "model_name": "m"}
    assert await refused(await both.post(PROVIDERS, provider)) == (404, "Model router 99 not found.")


async def test_names_and_aliases_share_one_namespace(both: Installation) -> None:
    await create(both, ROUTERS, name="a", type="text-generation", aliases=["b", "c"])
    before = (await read(both, ROUTERS))["total"]

    for name in ("a", "b", "simulator"):
        response = await both.post(ROUTERS, {"name": name, "type": "text-generation", "aliases": ["new"]})
        assert await refused(response) == (409, f"Router {name} already exists.")
    response = await both.post(ROUTERS, {"name": "d", "type": "text-generation", "aliases": ["b", "new", "a"]})
    assert await refused(response) == (409, "Following aliases already exist: '['a', 'b']'")
    assert (await read(both, ROUTERS))["total"] == before


async def test_the_same_provider_twice_is_a_conflict(both: Installation) -> None:
    body = {"router": 1, "type": "openai", "url": f"{NOWHERE}v1/", "model_name": "m", "probe": False}
    await create(both, PROVIDERS, **body)

    text = f"Model provider m for url {NOWHERE} already exists for router 1."
    assert await refused(await both.post(PROVIDERS, body)) == (409, text)


async def test_a_provider_type_must_fit_the_router_type(sluice: Installation) -> None:
    response = await sluice.post(PROVIDERS, {"router": 1, "type": "tei", "url": NOWHERE, "model_name": "m"})

    assert await refused(response) == (400, "Invalid model provider type tei for text-generation router.")
    assert (await response.json())["error"]["code"] == "provider_type_not_allowed"


async def test_a_provider_without_url_has_that_of_its_type(sluice: Installation) -> None:
    router = await create(sluice, ROUTERS, name="public", type="text-generation")
    hosts = {"albert": "albert.api.etalab.gouv.fr", "openai": "api.openai.com", "mistral": "api.mistral.ai"}

    for kind, host in hosts.items():
        created = await create(sluice, PROVIDERS, router=router["id"], type=kind, model_name="m")
        assert created["url"] == f"https://{host}/"


async def test_rules_of_providers_keys_and_routers_are_422_with_their_texts(both: Installation) -> None:
    provider = {"router": 1, "type": "openai", "url": NOWHERE, "model_name": "m"}
    token = {"name": "k", "user": 1}
    router = {"name": "new", "type": "text-generation"}
    future = "Wrong timestamp, must be in the future."
    bad_providers: list[tuple[dict[str, Any], str, str | None]] = [
        ({"type": "vllm", "url": None}, "url", "URL is required for this model provider type."),
        ({"qos_metric": "ttft"}, "qos_limit", "QoS value is required if QoS metric is provided."),
        ({"timeout": 0}, "timeout", None), ({"timeout": 3601}, "timeout", None), ({"key": " "}, "key", None),
        ({"model_name": ""}, "model_name", None), ({"model_hosting_zone": "ZZZ"}, "model_hosting_zone", None),
        ({"model_total_params": 1, "model_active_params": 2}, "model_active_params", None),
        ({"router": None}, "router", None), ({"url": "ftp://h"}, "url", None), ({"type": "x"}, "type", None),
    ]  # fmt: skip
    bad_tokens = [({"expires": 1}, "expires", future), ({"expires": int(time.time())}, "expires", future)]
    bad_tokens += [({"name": " "}, "name", None), ({"name": None}, "name", None), ({"user": "x"}, "user", None)]
    bad_routers = [({"name": " "}, "name", None), ({"type": "Text-Generation"}, "type", None)]
    bad_routers += [({f"cost_{kind}_tokens": -1}, f"cost_{kind}_tokens", None) for kind in ("prompt", "completion")]
    cases = [(PROVIDERS, provider | body, place, text) for body, place, text in bad_providers]
    cases += [(TOKENS, token | body, place, text) for body, place, text in bad_tokens]
    cases += [(ROUTERS, router | body, place, text) for body, place, text in bad_routers]
    for path, body, place, text in cases:
        response = await both.post(path, body)
        assert response.status == 422, body
        issue = (await response.json())["detail"][0]
        assert issue["loc"] == ["body", place]
        assert text is None or issue["msg"] == text


async def test_numbers_beyond_all_bounds_do_not_break_the_installation(both: Installation) -> None:
    bodies: list[dict[str, Any]] = [{"gpu_count": 2**31}, {"gpu_count": 2**70}, {"batch_size": 2**70}]
    names = ("model_total_params", "model_active_params", "pue", "wue", "joules_per_output_token", "gpu_memory_gb")
    bodies += [{name: value} for name in names for value in ("inf", 1e308)]
    failed = []
    for number, body in enumerate(bodies):
        router = await create(both, ROUTERS, name=f"r{number}", type="text-generation")
        known = {"model_total_params": 20, "model_active_params": 10}
        provider = {"router": router["id"], "type": "simulator", "model_name": "m"} | known | body
        for response in (await both.post(PROVIDERS, provider), await both.chat(model=f"r{number}")):
            failed += [(body, response.status)] if response.status >= 500 else []
        await both.delete(f"{ROUTERS}/{router['id']}")

    assert failed == []


async def test_nul_characters_are_refused(both: Installation) -> None:
    provider = {"router": 1, "type": "openai", "url": NOWHERE, "model_name": "m"}
    for name in ("model_name", "url", "key", "model_hosting_zone"):
        assert (await both.post(PROVIDERS, provider | {name: "http://a\x00b"})).status == 422, name
    assert (await both.post(ROUTERS, {"name": "a\x00", "type": "text-generation"})).status == 422
    assert (await both.post(TOKENS, {"name": "a\x00", "user": 1})).status == 422


async def test_both_spellings_of_a_parameter_mean_the_same(both: Installation) -> None:
    router = await create(both, ROUTERS, name="b", type="text-generation")
    number = router["id"]
    provider = await create(both, PROVIDERS, router_id=number, type="simulator", model_name="m")

    for query in (f"router={number}", f"router_id={number}", f"router={number}&router_id={number}"):
        assert (await read(both, f"{PROVIDERS}?{query}"))["data"] == [provider]
    for query in (
        "order_by=name&order_direction=desc",
        "sort_by=name&sort_order=desc",
        "order_by=name&sort_order=desc",
    ):
        names = [r["name"] for r in (await read(both, f"{ROUTERS}?{query}"))["data"]]
        assert names == [*sorted(FIRST_MODELS, reverse=True), "b"]


async def test_two_spellings_that_contradict_are_refused(both: Installation) -> None:
    body = {"router": 1, "router_id": 2, "type": "simulator", "model_name": "m"}
    assert (await both.post(PROVIDERS, body)).status == 422
    paths = [f"{PROVIDERS}?router=1&router_id=2", f"{ROUTERS}?order_by=id&sort_by=name"]
    for path in (*paths, f"{TOKENS}?order_direction=asc&sort_order=desc", f"{ROUTERS}?order_by=model_name"):
        assert (await both.get(path)).status == 422, path


async def test_lists_are_read_page_by_page(both: Installation) -> None:
    for number in range(5):
        await create(both, TOKENS, name=f"k{number % 3}", user=1)

    page = await read(both, f"{TOKENS}?limit=2&offset=1&order_by=name&order_direction=desc")

    assert [(token["name"], token["id"]) for token in page["data"]] == [("k1", 2), ("k1", 5)]
    assert page | {"data": []} == {"object": "list", "data": [], "total": 5, "offset": 1, "limit": 2}
    assert (await read(both, f"{TOKENS}?offset=5"))["data"] == []
    whole = await read(both, TOKENS)
    assert [token["id"] for token in whole["data"]] == [1, 2, 3, 4, 5]


async def test_a_provider_s_key_is_kept_from_everybody_but_the_provider(
    both: Installation, provider: ScriptedProvider
) -> None:
    created = await both.add_model("public", provider.url, key=f" {SECRET} ")
    job = (await both.chat(model="public")).headers["x-job-id"]
    paths = [PROVIDERS, f"{PROVIDERS}/{created['id']}", ROUTERS, "/v1/models", f"/v1/jobs/{job}/attempts"]
    responses = [await both.get(path) for path in paths]
    responses.append(await both.post("/v1/requests", {"period": 15}))
    responses.append(await both.delete(f"{PROVIDERS}/{created['id']}"))
    answers = [str(created), *[await response.text() for response in responses]]

    assert provider.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert [answer for answer in answers if SECRET in answer] == []


async def test_a_provider_s_key_is_encrypted_at_rest(both: Installation) -> None:
    await both.add_model("public", NOWHERE, key=SECRET)

    row = (await both.rows(ProviderRow, ProviderRow.model_name == "upstream-model"))[0]
    assert SECRET.encode() not in row.key_sealed
    assert both.state.box.open(row.key_sealed) == SECRET
    assert SECRET not in await everything_stored(both)


async def test_the_database_file_holds_no_secret_in_clear(sluice: Installation) -> None:
    await sluice.add_model("public", NOWHERE, key=SECRET)
    made = await create(sluice, TOKENS, name="k", user=1)
    await sluice.chat(headers=bearer(made["key"]))

    files = [path.read_bytes() for path in sluice.state.settings.data_path.glob("sluice.db*")]
    assert any(b"public" in file for file in files)
    for secret in (SECRET, made["key"], ADMIN_KEY):
        assert [file for file in files if secret.encode() in file] == []


async def test_an_api_key_is_stored_as_a_hash_only(both: Installation) -> None:
    made = await create(both, TOKENS, name="k", user=1)
    await both.chat(headers=bearer(made["key"]))
    await both.chat(model="nobody", headers=bearer(made["key"]))

    assert [row.hash for row in await both.rows(KeyRow)] == [hash_key(made["key"])]
    assert made["key"] not in await everything_stored(both)


async def test_an_expired_key_is_refused_but_listed(both: Installation) -> None:
    past = now_ms() - 1000
    row = KeyRow(name="old", user_id=1, hash=hash_key("sk-old"), masked="...", expires_ms=past, created_ms=past)
    async with both.state.database.transaction() as session:
        session.add(row)

    assert await refused(await both.get("/v1/models", headers=bearer("sk-old"))) == (401, "Invalid API key.")
    assert (await read(both, TOKENS))["data"][0]["expires"] == past // 1000


async def test_a_key_of_another_user_is_not_deleted(both: Installation) -> None:
    made = await create(both, TOKENS, name="k", user=1)

    assert (await both.delete(f"{TOKENS}/{made['id']}?user=2")).status == 404
    assert (await both.get(f"{TOKENS}/{made['id']}")).status == 200


async def test_only_administrators_may_administer(both: Installation) -> None:
    headers = bearer(await key_of_a_user(both))

    routing = "User has no admin rights."
    for noun, text in {ROUTERS: routing, PROVIDERS: routing, TOKENS: "Insufficient rights."}.items():
        responses = [await both.get(noun, headers=headers), await both.post(noun, {}, headers=headers)]
        responses += [await both.get(f"{noun}/1", headers=headers), await both.delete(f"{noun}/1", headers=headers)]
        for response in responses:
            assert await refused(response) == (403, text)
            assert (await response.json())["error"]["code"] == "permission_denied"


async def test_another_user_s_job_and_completion_are_not_found(both: Installation) -> None:
    headers = bearer(await key_of_a_user(both))
    made = await both.chat(metadata={"run": "a"})
    job_id = made.headers["x-job-id"]

    reads = [f"/v1/jobs/{job_id}{part}" for part in ("", "/result", "/events", "/attempts")]
    for path in (*reads, f"{CHAT}/{job_id}", f"{CHAT}/{job_id}/messages"):
        assert (await both.get(path, headers=headers)).status == 404, path
    for path in (f"/v1/jobs/{job_id}/cancel", f"{CHAT}/{job_id}", f"{CHAT}/{job_id}/rate"):
        assert (await both.post(path, {"vote": "up"}, headers=headers)).status == 404, path
    for path in (f"/v1/jobs/{job_id}", f"{CHAT}/{job_id}"):
        assert (await both.delete(path, headers=headers)).status == 404, path
    for path in ("/v1/jobs", CHAT, f"{CHAT}?metadata[run]=a"):
        assert (await (await both.get(path, headers=headers)).json())["data"] == []
    assert (await (await both.post("/v1/requests", {"period": 15}, headers=headers)).json())["requests"] == []
    assert (await both.get(f"/v1/jobs/{job_id}")).status == 200


@pytest.mark.parametrize("price", ["0.0375", "0.5", "12.345678901234", "0.000000000001", "1000000000"])
async def test_prices_are_charged_exactly_and_rounded_half_even(
    both: Installation, provider: ScriptedProvider, price: str
) -> None:
    exact = Decimal(price)
    await both.add_model("public", provider.url, prices=(float(exact), price))
    tokens = [(1, 0), (3, 0), (600, 0), (1000, 0), (7, 13), (0, 100_000)]
    for prompt, completion in tokens:
        provider.default = says("Hi", reported=usage(prompt, completion))
        assert (await both.chat(model="public")).status == 200

    charged = sorted(charge.amount_micros for charge in await both.rows(ChargeRow))
    expected = (prompt * exact + completion * exact for prompt, completion in tokens)
    assert charged == sorted(int(amount.quantize(Decimal(1), ROUND_HALF_EVEN)) for amount in expected)


async def test_models_are_routers_with_a_provider(both: Installation) -> None:
    await create(both, ROUTERS, name="empty", type="text-generation")
    await both.add_model("org/priced", prices=(0.0375, 2))

    models = await read(both, "/v1/models")

    assert [model["id"] for model in models["data"]] == [*FIRST_MODELS, "org/priced"]
    assert models["data"][-1] == {
        "object": "model", "id": "org/priced", "created": models["data"][-1]["created"], "owned_by": "Sluice",
        "type": "text-generation", "aliases": [], "max_context_length": None,
        "costs": {"prompt_tokens": 0.0375, "completion_tokens": 2},
    }  # fmt: skip
    assert await refused(await both.get("/v1/models/empty")) == (404, "Model not found.")


async def test_a_model_belongs_to_the_organization_of_its_maker(both: Installation) -> None:
    admin = await create(both, TOKENS, name="k", user=1)
    router = await (
        await both.post(
            ROUTERS, {"name": "a", "type": "text-generation", "aliases": ["b"]}, headers=bearer(admin["key"])
        )
    ).json()
    await both.add_provider(router["id"])

    model = await read(both, "/v1/models/b")

    assert (model["id"], router["user_id"]) == ("a", 1)
    assert model["owned_by"] == "default"


async def create(installation: Installation, path: str, **body: Any) -> dict[str, Any]:
    """Create something and return it; providers that nobody runs."""
    unseen = {"probe": False} if path == PROVIDERS else {}
    response = await installation.post(path, unseen | body)
    assert response.status == 201, await response.text()
    created: dict[str, Any] = await response.json()
    return created


async def read(installation: Installation, path: str) -> dict[str, Any]:
    """Return what is there."""
    response = await installation.get(path)
    assert response.status == 200, await response.text()
    found: dict[str, Any] = await response.json()
    return found


async def refused(response: Any) -> tuple[int, str]:
    """Return status and text of a refusal."""
    answer = await response.json()
    assert answer["error"]["message"] == answer["detail"]
    return response.status, answer["detail"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def key_of_a_user(installation: Installation) -> str:
    """Return a key of user 2, who has no permission."""
    key: str = (await create(installation, TOKENS, name="k", user=2))["key"]
    return key


async def everything_stored(installation: Installation) -> str:
    """Return all rows of all tables as text."""
    return "\n".join([repr(row) for table in TABLES for row in await installation.rows(table)])
