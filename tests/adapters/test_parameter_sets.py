"""Parameter sets of providers: what they get of a chat, what is said in another way, and what is refused."""

from typing import Any

import pytest

from tests.installation import Installation
from tests.people import read
from tests.providers import ScriptedProvider
from tests.routed import add_router

CHAT = "/inflection/v1/chat/completions"
DROPPED = "x-sluice-dropped-params"
USER = [{"role": "user", "content": "Hi"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f"}}
HINTS = {
    "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1, "length_penalty": 1.5, "skip_special_tokens": False,
    "spaces_between_special_tokens": False, "add_special_tokens": True, "chat_template_kwargs": {"a": 1},
    "guided_decoding_backend": "x", "guided_whitespace_pattern": " ", "guided_meta": {"a": 1}, "cache_salt": "s",
}  # fmt: skip
BINDING: dict[str, Any] = {
    "best_of": 2, "use_beam_search": True, "stop_token_ids": [1], "include_stop_str_in_output": True,
    "ignore_eos": True, "min_tokens": 1, "truncate_prompt_tokens": 5, "prompt_logprobs": 1, "allowed_token_ids": [1],
    "bad_words": ["x"], "echo": True, "add_generation_prompt": False, "documents": [{"text": "x"}],
    "chat_template": "x", "mm_processor_kwargs": {"a": 1}, "guided_regex": "a", "guided_choice": ["a"],
    "structural_tag": "{}", "logits_processors": ["a.b"], "kv_transfer_params": {"a": 1}, "vllm_xargs": {"a": 1},
}  # fmt: skip


async def narrow(sluice: Installation, provider: ScriptedProvider, name: str = "openai", **members: Any) -> None:
    kind = {"type": "mistral"} if name == "mistral" else {"type": "openai", "parameter_set": name}
    await add_router(sluice, {"url": provider.url, **kind, **members})


async def test_openai_gets_what_it_has_and_the_rest_is_named(both: Installation, provider: ScriptedProvider) -> None:
    await narrow(both, provider)
    sent = {"temperature": 0.5, "logit_bias": {"1": 2}, "logprobs": True, "tools": [TOOL], "user": "u", "store": True}

    response = await both.post(CHAT, {"model": "routed", "messages": USER, **sent, **HINTS})

    assert (response.status, response.headers[DROPPED].split(", ")) == (200, list(HINTS))
    assert {name: value for name, value in provider.requests[0].items() if name != "model"} == {
        "messages": USER, **sent,
    }  # fmt: skip
    shown = (await read(both, "/v1/admin/providers"))["data"][-1]
    assert (shown["parameter_set"], shown["denied_params"]) == ("openai", [])


async def test_openai_is_not_asked_for_what_it_could_not_do(sluice: Installation, provider: ScriptedProvider) -> None:
    await narrow(sluice, provider)
    tag = {"type": "structural_tag", "structures": [], "triggers": []}

    for name, value in [*BINDING.items(), ("response_format", tag)]:
        response = await sluice.post(CHAT, {"model": "routed", "messages": USER, name: value})
        error = (await response.json())["error"]
        assert (response.status, error["code"], error["param"]) == (400, "unsupported_parameter", name)
    assert provider.requests == []


@pytest.mark.parametrize("name", ["openai", "mistral"])
async def test_a_guiding_schema_becomes_a_response_format(
    sluice: Installation, provider: ScriptedProvider, name: str
) -> None:
    await narrow(sluice, provider, name)

    for schema in ({"type": "object"}, '{"type": "object"}'):
        response = await sluice.post(CHAT, {"model": "routed", "messages": USER, "guided_json": schema})
        assert response.status == 200, await response.text()

    for request in provider.requests:
        assert request["response_format"]["json_schema"] == {
            "name": "guided", "schema": {"type": "object"}, "strict": True,
        }  # fmt: skip
        assert "guided_json" not in request


@pytest.mark.parametrize(("name", "role"), [("openai", "developer"), ("mistral", "system")])
async def test_messages_are_said_in_the_usual_forms(
    sluice: Installation, provider: ScriptedProvider, name: str, role: str
) -> None:
    await narrow(sluice, provider, name)
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": ["plain", {"image_url": "https://example.com/a.png"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "function", "name": "f", "content": "18"},
    ]

    response = await sluice.post(CHAT, {"model": "routed", "messages": messages})

    assert response.status == 200, await response.text()
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert provider.requests[0]["messages"] == [
        {"role": role, "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "plain"}, picture]},
        messages[2],
        {"role": "tool", "tool_call_id": "call_1", "content": "18"},
    ]


async def test_what_only_engines_read_goes_to_them_or_is_refused(
    sluice: Installation, two: tuple[ScriptedProvider, ScriptedProvider]
) -> None:
    few, all_ = two
    await narrow(sluice, few)
    await add_router(
        sluice, {"url": few.url, "type": "mistral"}, {"url": all_.url, "type": "vllm"}, name="either"
    )  # fmt: skip
    film = [{"role": "user", "content": [{"video_url": "https://example.com/a"}]}]
    critic = [*USER, {"role": "critic", "content": "No."}]

    for messages, place in ((film, "messages.0.content.0"), (critic, "messages.1.role")):
        refused = await sluice.post(CHAT, {"model": "routed", "messages": messages})
        error = (await refused.json())["error"]
        assert (refused.status, error["code"], error["param"]) == (400, "unsupported_value", place)
        assert (await sluice.post(CHAT, {"model": "either", "messages": messages})).status == 200

    assert few.requests == []
    assert [request["messages"] for request in all_.requests] == [film, critic]


async def test_an_operator_may_forbid_parameters(
    both: Installation, two: tuple[ScriptedProvider, ScriptedProvider]
) -> None:
    strict, free = two
    router = await add_router(both, {"url": strict.url, "type": "vllm", "denied_params": ["logits_processors"]})
    body = {"model": "routed", "messages": USER, "logits_processors": ["a.b"]}

    refused = await both.post(CHAT, body)
    plain = await both.post(CHAT, {"model": "routed", "messages": USER, "logits_processors": None})
    await both.add_provider(router, free.url, type="vllm", model_name="free")
    assert both.runtime is not None
    await both.runtime.directory.refresh()
    allowed = await both.post(CHAT, body)

    error = (await refused.json())["error"]
    assert (refused.status, error["code"], error["type"]) == (403, "parameter_not_allowed", "permission_error")
    assert (plain.status, allowed.status) == (200, 200)
    assert (len(strict.requests), free.requests[0]["logits_processors"]) == (1, ["a.b"])


async def test_the_older_chat_route_drops_what_it_does_not_use_whoever_answers(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await narrow(sluice, provider, "mistral", denied_params=["logprobs"])
    body = {"model": "routed", "messages": USER, "logprobs": True, "top_k": 3}

    response = await sluice.post("/external/api/inference/openai/v1/chat/completions", body)

    assert (response.status, response.headers[DROPPED]) == (200, "logprobs, top_k")


@pytest.mark.parametrize("mount", ["", "/vultr", "/inflection"])
async def test_engines_are_not_asked_for_what_they_refuse(
    sluice: Installation, provider: ScriptedProvider, mount: str
) -> None:
    await sluice.add_model("public", provider.url)

    await sluice.post(
        mount + "/v1/chat/completions", {"model": "public", "messages": USER, "top_p": 0, "tool_choice": "none"}
    )

    assert provider.requests[0]["top_p"] == 0.000001
    assert "tool_choice" not in provider.requests[0]
