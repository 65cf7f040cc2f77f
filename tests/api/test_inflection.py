"""Inflection's API as its users call it; every answer is held against its own description."""

import json
from typing import Any

import pytest
from aiohttp import web

from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.conftest import make_settings
from tests.events import read_events
from tests.inflection import description, hold_against
from tests.installation import Installation, open_installation
from tests.people import key_of, read
from tests.providers import ScriptedProvider, fails, says, sends, streams, usage
from tests.servers import RedisServer

CHAT, MOUNTED = "/v1/chat/completions", "/inflection/v1/chat/completions"
ATTRIBUTES = "/v1/chat/attributes"
LEGACY, STREAM = "/external/api/inference", "/external/api/inference/streaming"
USER = [{"role": "user", "content": "Hi"}]
GRADED = [*USER, {"role": "assistant", "content": "No way."}]
CONTEXT = [{"type": "Instruction", "text": "You answer."}, {"type": "Human", "text": "Is it sunny in Lyon?"}]
TOOL = {"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}


async def post(sluice: Installation, path: str, body: Any, schema: str, **options: Any) -> Any:
    """Return the answer, which must be 200 and as described."""
    response = await sluice.post(path, body, **options)
    answer = await response.json()
    assert response.status == 200, answer
    hold_against(schema, answer)
    return answer


async def test_status_needs_no_key_and_everything_else_does(sluice: Installation) -> None:
    for prefix in ("", "/inflection"):
        response = await sluice.client.get(f"{prefix}/status")
        hold_against("StatusResponse", await response.json())
        assert response.status == 200
        for path, verbs in description()["paths"].items():
            for verb in verbs:
                if path != "/status":
                    refused = await sluice.client.request(verb, prefix + path)
                    answer = await refused.json()
                    assert (refused.status, answer["detail"]) == (401, "Not authenticated"), path
                    assert answer["error"]["code"] == "invalid_api_key"


async def test_the_examples_of_the_description_are_answered_as_described(both: Installation) -> None:
    for name in ("inflection_3_pi", "Pi-3.1"):
        await both.add_model(name)
    await both.add_model("inf_3_1_embedding", router_type="text-embeddings-inference")

    for path, verbs in description()["paths"].items():
        for verb, operation in verbs.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
            response = await both.client.request(verb, path, json=body, headers=both.headers)
            assert response.status == 200, (path, await response.text())
            content = operation["responses"]["200"]["content"]
            if response.content_type == "text/event-stream":
                for event in await read_events(response):
                    if path != STREAM and event.data != "[DONE]":
                        hold_against("ChatCompletionStreamResponse", json.loads(event.data))
            elif (schema := content["application/json"]["schema"]).get("$ref"):
                hold_against(schema["$ref"].rpartition("/")[2], await response.json())
            else:
                for entry in await response.json():
                    hold_against(schema["items"]["$ref"].rpartition("/")[2], entry)


async def test_a_chat_has_all_members_that_clients_read(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("public", provider.url)
    body = {"model": "public", "messages": USER, "request_id": "mine.1"}

    response = await both.post(MOUNTED, body)
    answer = await response.json()
    chunks = [json.loads(e.data) for e in (await read_events(await both.post(MOUNTED, body | {"stream": True})))[:-1]]

    hold_against("ChatCompletionResponse", answer)
    choice = answer["choices"][0]
    assert (choice["message"]["tool_calls"], choice["message"]["reasoning_content"], choice["stop_reason"]) == (
        [], None, None,
    )  # fmt: skip
    assert answer["time_info"]["total"] >= answer["time_info"]["queue"] >= 0
    assert (answer["request_id"], response.headers["x-client-request-id"]) == ("mine.1", "mine.1")
    for one in chunks:
        hold_against("ChatCompletionStreamResponse", one)
    assert [one["time_info"] is None for one in chunks] == [True] * (len(chunks) - 1) + [False]
    details = [one["usage"]["prompt_tokens_details"] for one in (answer, chunks[-1])]
    assert details == [{"cached_tokens": 0}] * 2
    assert all("stop_reason" in one["choices"][0] for one in chunks[:-1])
    ordinary = await (await both.chat(model="public")).json()
    assert "time_info" not in ordinary
    assert "tool_calls" not in ordinary["choices"][0]["message"]


async def test_missing_probabilities_have_the_number_of_the_description(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await sluice.add_model("public", provider.url)
    tokens = [{"token": "a", "logprob": None, "bytes": None, "top_logprobs": [{"token": "b", "bytes": None}]}]

    async def behave(_request: web.Request, _body: Any) -> web.Response:
        choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "logprobs": {"content": tokens}}
        return web.json_response({"choices": [choice], "usage": usage()})

    provider.default = behave
    answer = await post(
        sluice, MOUNTED, {"model": "public", "messages": USER, "logprobs": True}, "ChatCompletionResponse"
    )

    [token] = answer["choices"][0]["logprobs"]["content"]
    assert (token["logprob"], token["top_logprobs"][0]["logprob"]) == (-9999.0, -9999.0)


@pytest.mark.parametrize("odd", [{"content": 5}, {"content": [5]}, {"content": [{"top_logprobs": {"a": 1}}]}, [5]])
@pytest.mark.parametrize("path", [CHAT, MOUNTED])
async def test_probabilities_in_a_form_of_their_own_do_no_harm(
    sluice: Installation, provider: ScriptedProvider, path: str, odd: Any
) -> None:
    await sluice.add_model("public", provider.url)
    delta = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop", "logprobs": odd}
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "logprobs": odd}
    provider.script = [sends(json.dumps({"choices": [choice]}).encode()), streams({"choices": [delta]})]
    asked = {"model": "public", "messages": USER}

    whole = await (await sluice.post(path, asked)).json()
    streamed = await read_events(await sluice.post(path, asked | {"stream": True}))

    assert whole["choices"][0]["message"]["content"] == "a"
    assert json.loads(streamed[0].data)["choices"][0]["delta"]["content"] == "a"


async def test_every_parameter_of_engines_reaches_the_provider(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await sluice.add_model("public", provider.url, type="vllm")
    sent = {
        "frequency_penalty": 0.5, "presence_penalty": -0.5, "logit_bias": {"50256": -100}, "logprobs": True,
        "top_logprobs": 2, "max_tokens": 9, "n": 1, "seed": 7, "stop": ["a"], "temperature": 0.5, "top_p": 0.5,
        "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False, "user": "u", "best_of": 2,
        "use_beam_search": False, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1, "length_penalty": 1.5,
        "stop_token_ids": [1], "include_stop_str_in_output": True, "ignore_eos": True, "min_tokens": 1,
        "skip_special_tokens": False, "spaces_between_special_tokens": False, "truncate_prompt_tokens": 5,
        "prompt_logprobs": -1, "allowed_token_ids": [1, 2], "bad_words": ["x"], "echo": True,
        "add_generation_prompt": False, "continue_final_message": True, "add_special_tokens": True,
        "documents": [{"title": "t", "text": "x"}], "chat_template": "{{ x }}", "chat_template_kwargs": {"a": 1},
        "mm_processor_kwargs": {"a": 1}, "guided_json": {"type": "object"}, "guided_decoding_backend": "x",
        "guided_whitespace_pattern": " ", "guided_meta": {"a": 1}, "logits_processors": ["a.b", {"qualname": "c"}],
        "return_tokens_as_token_ids": True, "cache_salt": "s", "kv_transfer_params": {"a": 1},
        "vllm_xargs": {"a": 1, "b": "x", "c": 0.5}, "unknown": {"deep": [1]},
    }  # fmt: skip
    ours = {"priority": 0, "request_id": "r", "timeout_sec": 30.5}
    fields = set(description()["components"]["schemas"]["ChatCompletionRequest"]["properties"])
    exclusive = {"guided_regex", "guided_choice", "guided_grammar", "structural_tag", "response_format"}
    elsewhere = {"model", "messages", "stream", "stream_options", "max_completion_tokens"}
    assert fields == (set(sent) | set(ours) | exclusive | elsewhere) - {"unknown"}
    body = {"model": "public", "messages": GRADED} | sent | ours
    hold_against("ChatCompletionRequest", body)

    await post(sluice, MOUNTED, body, "ChatCompletionResponse")

    assert provider.requests[0] == {"model": "upstream-model", "messages": GRADED} | sent
    row = (await sluice.rows(JobRow))[0]
    assert (row.timeout_s, row.client_request_id) == (31, "r")


async def test_messages_may_have_any_role_and_short_parts(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)
    parts = ["plain", {"image_url": "https://example.com/a.png"}, {"type": "text", "text": "x"}]
    messages = [{"role": "critic", "content": parts}, {"role": "narrator"}, *USER]

    await post(sluice, MOUNTED, {"model": "public", "messages": messages}, "ChatCompletionResponse")

    assert provider.requests[0]["messages"] == messages


async def test_a_lower_priority_is_granted_and_a_higher_one_refused(sluice: Installation) -> None:
    assert (await sluice.chat(priority=3)).status == 200
    refused = await sluice.chat(priority=-1)
    error = (await refused.json())["error"]
    assert (refused.status, error["code"], error["param"]) == (403, "permission_denied", "priority")


async def test_the_usual_model_is_used_where_none_is_named(tmp_path: Any, redis_server: RedisServer) -> None:
    settings = make_settings(
        tmp_path, redis_server, default_chat_model="simulator", default_embedding_model="simulator-embedding"
    )
    async with open_installation(settings) as sluice:
        chat = await post(sluice, MOUNTED, {"messages": USER}, "ChatCompletionResponse")
        vector = await post(sluice, "/inflection/v1/embeddings", {"input": "x"}, "EmbeddingResponse")
        old = await post(sluice, LEGACY, {"context": CONTEXT, "config": None}, "ExternalChatResponse")

    assert (chat["model"], vector["model"], bool(old["text"])) == ("simulator", "simulator-embedding", True)


async def test_errors_have_the_shape_of_the_description(sluice: Installation) -> None:
    for path, body, place, kind in (
        (MOUNTED, {"model": "simulator"}, ["messages"], "missing"),
        (MOUNTED, {"messages": USER}, ["model"], "missing"),
        (MOUNTED, {"model": "simulator", "messages": USER, "n": "x"}, ["n"], "type_error"),
        (MOUNTED, {"model": "simulator", "messages": USER, "n": 0}, ["n"], "value_error"),
        (LEGACY, {"config": "simulator", "context": []}, ["context"], "value_error"),
        (LEGACY, {"config": "simulator"}, ["context"], "missing"),
        (LEGACY, {"context": CONTEXT}, ["config"], "missing"),
        (STREAM, {"context": [{"type": "Alien", "text": "x"}]}, ["context", 0, "type"], "enum"),
        (LEGACY, {"context": CONTEXT, "config": "simulator", "tools": [TOOL, TOOL]}, ["tools", 1, "function", "name"],
         "value_error"),
        ("/inflection/v1/embeddings", {"model": "simulator-embedding"}, [], "missing"),
    ):  # fmt: skip
        response = await sluice.post(path, body)
        answer = await response.json()
        assert response.status == 422, answer
        hold_against("HTTPValidationError", answer)
        assert (answer["detail"][0]["loc"], answer["detail"][0]["type"]) == (["body", *place], kind)
    unknown = await sluice.post(LEGACY, {"context": CONTEXT, "config": "nobody"})
    assert (unknown.status, (await unknown.json())["error"]["code"]) == (404, "model_not_found")
    broken = await sluice.client.post(LEGACY, data=b"{", headers=sluice.headers)
    assert (broken.status, (await broken.json())["error"]["code"]) == (400, "invalid_json")


def verdict(*scores: float, positive: bool = True) -> str:
    return json.dumps({f"a{i}": {"score": score, "positive": positive} for i, score in enumerate(scores)})


async def test_attributes_are_scored_by_a_judge(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("judge", provider.url, prices=(1, 1))
    provider.default = says(verdict(0.1, 0.9), reported=usage(200, 20))
    body = {
        "model": "judge", "messages": GRADED, "n": 3, "tools": [TOOL],
        "attributes": [
            {"name": "Helpful", "definition": "h"}, {"name": "Rude", "definition": "r", "positive": False},
        ],
    }  # fmt: skip
    hold_against("AttributesRequest", body)

    answer = await post(both, ATTRIBUTES, body, "ChatCompletionResponse")

    assert answer["choices"][0]["message"]["content"] == (
        '{"Helpful": {"score": 0.1, "positive": true}, "Rude": {"score": 0.9, "positive": false}}'
    )
    assert answer["usage"]["total_tokens"] == 220
    assert answer["id"].startswith("chatcmpl-")
    asked = provider.requests[0]
    assert asked["response_format"]["json_schema"]["schema"]["required"] == ["a0", "a1"]
    assert not {"n", "tools", "stream"} & asked.keys()
    job = await both.job("job_" + answer["id"].removeprefix("chatcmpl-"))
    assert (job["kind"], job["status"]) == ("chat.attributes", "completed")
    assert await read(both, job["urls"]["result"]) == answer
    assert (await both.rows(ChargeRow))[0].amount_micros == 220


async def test_the_default_attributes_are_one_call_and_fifty_two(sluice: Installation) -> None:
    default = await post(sluice, ATTRIBUTES, {"model": "simulator", "messages": GRADED}, "ChatCompletionResponse")
    many = [{"name": f"n{i}", "definition": "d"} for i in range(50)]
    fifty = await post(
        sluice, ATTRIBUTES, {"model": "simulator", "messages": GRADED, "attributes": many}, "ChatCompletionResponse"
    )

    scores = json.loads(default["choices"][0]["message"]["content"])
    assert len(scores) == 23
    assert all(0 <= one["score"] <= 1 for one in scores.values())
    assert list(json.loads(fifty["choices"][0]["message"]["content"])) == [one["name"] for one in many]


async def test_a_faulty_verdict_is_mended_once(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("judge", provider.url, prices=(1, 1))
    body = {"model": "judge", "messages": GRADED, "attributes": [{"name": "a", "definition": "d"}]}
    provider.script = [says("I think it is fine.", reported=usage(5, 5)), says(verdict(0.5), reported=usage(7, 7))]

    answer = await post(both, ATTRIBUTES, body, "ChatCompletionResponse")
    provider.default = says("Never.", reported=usage(5, 5))
    failed = await both.post(ATTRIBUTES, body)

    assert answer["usage"]["total_tokens"] == 24
    assert provider.requests[1]["messages"][-1]["content"] == "Return only the JSON object with every key."
    assert (failed.status, (await failed.json())["error"]["code"]) == (503, "judge_invalid_output")
    assert [charge.amount_micros for charge in await both.rows(ChargeRow)] == [24, 0]
    assert [record.prompt_tokens + record.completion_tokens for record in await both.rows(UsageRecordRow)] == [24, 20]
    assert len(provider.requests) == 4


async def test_a_provider_without_schemas_is_asked_more_simply(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await sluice.add_model("judge", provider.url)
    body = {"model": "judge", "messages": GRADED, "attributes": [{"name": "a", "definition": "d"}]}
    refusal = fails(400, "response_format of type json_schema is not supported")
    provider.script = [refusal, fails(400, "response_format is not supported"), says(verdict(1))]

    await post(sluice, ATTRIBUTES, body, "ChatCompletionResponse")

    assert [one.get("response_format", {}).get("type") for one in provider.requests] == [
        "json_schema", "json_object", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"messages": USER}, ["messages"]), ({"stream": True}, ["stream"]),
        ({"attributes": [{"name": str(i), "definition": "d"} for i in range(51)]}, ["attributes"]),
        ({"attributes": [{"name": "", "definition": "d"}]}, ["attributes", 0, "name"]),
        ({"filter_categories": ["Nonsense"]}, ["filter_categories", 0]),
        ({"attributes": [{"name": "a", "definition": "d"}], "filter_categories": ["IQ"]}, ["filter_categories"]),
    ],
)  # fmt: skip
async def test_attributes_that_cannot_be_scored_are_refused(
    sluice: Installation, members: dict[str, Any], place: list[Any]
) -> None:
    response = await sluice.post(ATTRIBUTES, {"model": "simulator", "messages": GRADED} | members)

    assert response.status == 422
    assert (await response.json())["detail"][0]["loc"] == ["body", *place]
    assert await sluice.rows(JobRow) == []


async def test_the_judge_of_the_settings_steps_in(
    tmp_path: Any, redis_server: RedisServer, provider: ScriptedProvider
) -> None:
    provider.default = says(verdict(1))
    async with open_installation(make_settings(tmp_path, redis_server, attributes_model="judge")) as sluice:
        await sluice.add_model("judge", provider.url)
        for model in (None, "Pi-3.1", "simulator-embedding"):
            body = {"model": model, "messages": GRADED, "attributes": [{"name": "a", "definition": "d"}]}
            assert (await post(sluice, ATTRIBUTES, body, "ChatCompletionResponse"))["model"] == "judge"


async def test_a_conversation_is_embedded(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("public", provider.url, router_type="text-embeddings-inference")
    await both.add_model("tei", provider.url, router_type="text-embeddings-inference", type="tei")
    data = [{"object": "embedding", "index": 0, "embedding": [1, 0.5]}]

    async def embeds(_request: web.Request, _body: Any) -> web.Response:
        return web.json_response({"data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}})

    provider.default = embeds
    engine = {"truncate_prompt_tokens": -1, "add_special_tokens": True, "chat_template": "x"}
    body = {"model": "public", "messages": GRADED, "priority": 0, "additional_data": {"a": 1}} | engine
    hold_against("EmbeddingChatRequest", body)

    whole = await post(both, "/inflection/v1/embeddings", body, "EmbeddingResponse")
    await post(both, "/v1/embeddings", body | {"model": "tei"}, "EmbeddingResponse")

    assert whole["usage"]["completion_tokens"] == 0
    assert provider.requests[0] == {"model": "upstream-model", "messages": GRADED} | engine
    assert provider.requests[1] == {"model": "upstream-model", "input": "user: Hi\nassistant: No way."}
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    refused = await both.post("/v1/embeddings", {"model": "tei", "messages": picture})
    assert (refused.status, (await refused.json())["error"]["code"]) == (400, "unsupported_value")
    both_forms = await both.post("/v1/embeddings", body | {"input": "x"})
    assert (both_forms.status, (await both_forms.json())["detail"][0]["loc"]) == (422, ["body"])


async def test_configs_tell_what_a_client_may_set(both: Installation) -> None:
    made = await both.add_model("pi_3_1")
    described = {
        "display_name": "Pi (3.1)", "description": "Chat assistant", "aliases": ["pi"],
        "default_parameters": {"temperature": 0.5, "max_tokens": 256, "top_p": 0.95, "stop": ["END"]},
    }  # fmt: skip
    await both.patch(f"/v1/admin/routers/{made['router_id']}", described)

    configs = await read(both, "/inflection/v1/discovery/configs")

    assert [config["name"] for config in configs] == ["pi_3_1", "simulator"]
    for config in configs:
        hold_against("ConfigForOrgResponse", config)
    parameters = configs[0]["default_parameters"]
    assert parameters["maximumLength"] == {"range": [1, 131072], "value": 256}
    assert (parameters["temperature"]["value"], parameters["stopTokens"]["value"]) == (0.5, ["END"])
    assert parameters["webSearch"] == {"range": [], "value": False}
    assert (configs[0]["alias"], configs[0]["tags"], configs[0]["is_external"]) == (
        "Pi (3.1)", ["text-generation", "pi"], False,
    )  # fmt: skip
    allowed = await key_of(both, 2)
    assert [one["name"] for one in await read(both, "/v1/discovery/configs", headers=allowed)]


async def test_a_key_may_have_the_dialect(sluice: Installation) -> None:
    key = await key_of(sluice, 2, dialect="inflection")

    answer = await post(sluice, CHAT, {"model": "simulator", "messages": USER}, "ChatCompletionResponse", headers=key)

    assert "time_info" in answer
