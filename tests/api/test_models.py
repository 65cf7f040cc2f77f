"""/v1/models and /v1/chat/models: what a caller is shown is what he may call."""

from typing import Any

from tests.installation import Installation


async def user_headers(sluice: Installation) -> dict[str, str]:
    """Return the headers of the ordinary user."""
    key = await (await sluice.post("/v1/admin/tokens", {"name": "one", "user": 2})).json()
    return {"Authorization": f"Bearer {key['token']}"}


async def chat_models(sluice: Installation, headers: dict[str, str] | None = None) -> tuple[list[str], list[str]]:
    response = await sluice.get("/v1/chat/models", headers=headers or {})
    answer: Any = await response.json()
    assert response.status == 200
    return [one["model"] for one in answer["models"]], [one["model"] for one in answer["private_models"]]


async def test_a_chat_model_says_what_it_can_do(sluice: Installation) -> None:
    await sluice.add_model("sees", router_type="image-text-to-text")

    models = (await (await sluice.get("/v1/chat/models")).json())["models"]

    assert models == [
        {
            "model": name, "id": name, "description": "", "context_length": None,
            "features": {"stream": True, "tools": True, "vision": vision},
        }
        for name, vision in (("simulator", False), ("sees", True))
    ]  # fmt: skip


async def test_only_models_for_chats_are_listed_as_such(sluice: Installation) -> None:
    await sluice.add_model("vectors", router_type="text-embeddings-inference")
    await sluice.add_model("order", router_type="text-classification")

    assert await chat_models(sluice) == (["simulator"], [])


async def test_a_model_of_some_roles_is_private_to_them(both: Installation) -> None:
    provider, headers = await both.add_model("ours"), await user_headers(both)
    kept = [limit for limit in (await role_of(both, 1))["limits"] if limit["router"] != provider["router_id"]]

    everybody = await chat_models(both, headers)
    await both.patch("/v1/admin/roles/1", {"limits": kept})
    only_users = await chat_models(both, headers)
    closed = {"router": provider["router_id"], "type": "tpd", "value": 0}
    await both.patch("/v1/admin/roles/1", {"limits": [*kept, closed]})
    forbidden_to_others = await chat_models(both, headers)

    assert everybody == (["simulator", "ours"], [])
    assert only_users == forbidden_to_others == (["simulator"], ["ours"])
    assert await chat_models(both) == (["simulator"], ["ours"])


async def test_a_role_that_nobody_has_makes_no_model_private(sluice: Installation) -> None:
    created = await sluice.post("/v1/admin/roles", {"name": "empty"})

    assert created.status == 201
    assert await chat_models(sluice, await user_headers(sluice)) == (["simulator"], [])


async def test_what_a_role_may_not_use_is_not_shown_to_it(sluice: Installation) -> None:
    provider, headers = await sluice.add_model("theirs"), await user_headers(sluice)
    await sluice.grant(provider["router_id"], tpd=0)

    shown = await sluice.get("/v1/models/theirs", headers=headers)

    assert await chat_models(sluice, headers) == (["simulator"], [])
    assert (shown.status, (await shown.json())["error"]["code"]) == (404, "model_not_found")


async def test_a_model_is_found_by_name_and_alias(sluice: Installation) -> None:
    body = {"name": "org/family/model", "type": "text-embeddings-inference", "aliases": ["short/name"]}
    router = await (await sluice.post("/v1/admin/routers", body | {"cost_prompt_tokens": 0.55})).json()
    await sluice.add_provider(router["id"])

    model = await (await sluice.get("/v1/models/org/family/model")).json()
    same = await (await sluice.get("/v1/models/short/name")).json()

    assert model == same
    assert (model["id"], model["object"], model["owned_by"]) == ("org/family/model", "model", "Sluice")
    assert isinstance(model["created"], int)
    assert (model["type"], model["aliases"]) == ("text-embeddings-inference", ["short/name"])
    assert model["costs"] == {"prompt_tokens": 0.55, "completion_tokens": 0.0}


async def role_of(sluice: Installation, role_id: int) -> Any:
    """Return the role as the administrator sees it."""
    return await (await sluice.get(f"/v1/admin/roles/{role_id}")).json()
