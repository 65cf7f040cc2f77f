"""What a dialect decides: defaults, limits and small forms, by mount or by key."""

import json
from typing import Any

import pytest

from shared.dialects import RULES, describe_table
from shared.jobs.tables import JobRow
from tests.batches import ended
from tests.conftest import make_settings
from tests.events import read_events
from tests.installation import Installation, open_installation
from tests.people import key_of, read
from tests.providers import ScriptedProvider, chunk, streams
from tests.servers import RedisServer

CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "Hi"}]
VULTR = {"max_tokens": 512, "temperature": 0.8, "top_k": 40, "top_p": 0.9}
NEC = {"temperature": 1, "top_p": 1, "n": 1, "frequency_penalty": 0, "presence_penalty": 0}
NOTHING: dict[str, Any] = {}


def sampling(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a provider got beside model and messages."""
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


@pytest.mark.parametrize(
    ("mount", "sent"), [("", NOTHING), ("/vultr", VULTR), ("/nec", NEC), ("/inflection", NOTHING)]
)  # fmt: skip
async def test_the_mount_decides_the_defaults(
    sluice: Installation, provider: ScriptedProvider, mount: str, sent: dict[str, Any]
) -> None:
    await sluice.add_model("public", provider.url)

    response = await sluice.post(mount + CHAT, {"model": "public", "messages": USER})

    assert response.status == 200
    assert sampling(provider.requests[0]) == sent
    row = (await sluice.rows(JobRow))[0]
    assert json.loads(row.request or b"") == {"model": "public", "messages": USER}  # stored as it was sent
    assert row.endpoint == CHAT


async def test_the_key_decides_where_no_mount_does(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("public", provider.url)
    key = await key_of(both, 1, dialect="nec")

    await both.post(CHAT, {"model": "public", "messages": USER}, headers=key)
    await both.post("/vultr" + CHAT, {"model": "public", "messages": USER}, headers=key)
    await both.post(
        "/v1/jobs", {"endpoint": CHAT, "body": {"model": "public", "messages": USER}}, headers=key
    )  # fmt: skip
    job = (await both.rows(JobRow))[-1]
    await read(both, f"/v1/jobs/job_{job.id}/result?wait=10")

    assert [sampling(body) for body in provider.requests] == [NEC, VULTR, NEC]
    assert (await read(both, "/v1/me/keys?limit=100", headers=key))["data"][-1]["dialect"] == "nec"


async def test_request_then_router_then_dialect(sluice: Installation, provider: ScriptedProvider) -> None:
    added = await sluice.add_model("public", provider.url)
    parameters = {"temperature": 0.2, "min_p": 0.1, "stop": ["END"]}
    changed = await sluice.patch(f"/v1/admin/routers/{added['router_id']}", {"default_parameters": parameters})
    assert (await changed.json())["default_parameters"] == parameters

    await sluice.post("/vultr" + CHAT, {"model": "public", "messages": USER, "top_p": 0.5, "top_k": None})
    await sluice.post(CHAT, {"model": "public", "messages": USER, "max_completion_tokens": 7})
    await sluice.post("/vultr" + CHAT, {"model": "public", "messages": USER, "max_completion_tokens": 7})

    first, second, third = (sampling(body) for body in provider.requests)
    assert first == VULTR | parameters | {"top_p": 0.5}
    assert second == parameters | {"max_completion_tokens": 7}
    expected = VULTR | parameters | {"max_completion_tokens": 7}
    del expected["max_tokens"]  # the newer spelling is given
    assert third == expected


async def test_the_newer_defaults_of_vultr_are_a_setting(
    tmp_path: Any, redis_server: RedisServer, provider: ScriptedProvider
) -> None:
    async with open_installation(make_settings(tmp_path, redis_server, vultr_defaults="1.3.0")) as sluice:
        await sluice.add_model("public", provider.url)
        await sluice.post("/vultr" + CHAT, {"model": "public", "messages": USER})

    assert sampling(provider.requests[0]) == NEC | {"max_tokens": 512}


async def test_an_older_max_tokens_gives_way(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)

    await sluice.chat(model="public", max_tokens=3, max_completion_tokens=5, top_k=7.9, seed=-1)

    assert sampling(provider.requests[0]) == {"max_completion_tokens": 5, "top_k": 7}


@pytest.mark.parametrize(
    ("mount", "members", "loc"),
    [
        ("/vultr", {"top_k": 101}, ["top_k"]), ("/vultr", {"top_k": -1}, ["top_k"]), ("", {"top_k": -2}, ["top_k"]),
        ("/vultr", {"temperature": 2.1}, ["temperature"]), ("/vultr", {"top_p": 1.1}, ["top_p"]),
        ("/nec", {"stop": list("abcde")}, ["stop"]), ("/nec", {"stop": ""}, ["stop"]),
        ("", {"stop": ["a", ""]}, ["stop", 1]),
        ("/nec", {"logit_bias": {"x": 1}}, ["logit_bias"]), ("/nec", {"logit_bias": {"1": 101}}, ["logit_bias"]),
        ("/inflection", {"seed": -1}, ["seed"]), ("/inflection", {"seed": 2**32}, ["seed"]),
        ("/inflection", {"top_logprobs": 2}, ["top_logprobs"]),
        ("/inflection", {"stream_options": {"include_usage": True}}, ["stream_options"]),
        ("/inflection", {"best_of": 1, "n": 2}, ["best_of"]),
        ("/inflection", {"continue_final_message": True}, ["continue_final_message"]),
        ("/inflection", {"guided_json": {}, "guided_regex": "a"}, ["guided_regex"]),
        ("/inflection", {"guided_json": "[]"}, ["guided_json"]),
        ("/inflection", {"guided_choice": ["a", "a"]}, ["guided_choice"]),
        ("/inflection", {"guided_regex": "a", "response_format": {"type": "json_object"}}, ["guided_regex"]),
        ("/inflection", {"min_tokens": 9, "max_tokens": 8}, ["min_tokens"]),
        ("/inflection", {"prompt_logprobs": 1, "stream": True}, ["prompt_logprobs"]),
        ("/inflection", {"use_beam_search": True, "temperature": 1}, ["use_beam_search"]),
        ("/inflection", {"chat_template_kwargs": {"tokenize": 1}}, ["chat_template_kwargs"]),
        ("/inflection", {"logits_processors": [{"qualname": "a", "b": 1}]}, ["logits_processors", 0]),
        ("/inflection", {"tool_choice": "required"}, ["tool_choice"]),
        ("/inflection", {"response_format": {"type": "json_schema"}}, ["response_format", "json_schema", "name"]),
        ("/inflection", {"messages": [{"role": "tool", "content": "a"}]}, ["messages", 0, "tool_call_id"]),
        ("/inflection", {"messages": [{"role": "user"}]}, ["messages", 0, "content"]),
        ("/inflection", {"user": "u" * 257}, ["user"]),
        ("/inflection", {"timeout_sec": 0}, ["timeout_sec"]), ("/inflection", {"request_id": "a b"}, ["request_id"]),
        ("", {"messages": [{"role": "alien", "content": "a"}]}, ["messages", 0, "role"]),
    ],
)  # fmt: skip
async def test_what_a_dialect_does_not_take_is_a_422_with_the_place(
    sluice: Installation, mount: str, members: dict[str, Any], loc: list[Any]
) -> None:
    response = await sluice.post(mount + CHAT, {"model": "simulator", "messages": USER} | members)

    answer = await response.json()
    assert response.status == 422, answer
    assert answer["detail"][0]["loc"] == ["body", *loc]
    assert set(answer) == {"error", "detail"} | ({"message"} if mount == "/vultr" else set())
    assert answer.get("message", answer["error"]["message"]) == answer["error"]["message"]
    assert await sluice.rows(JobRow) == []


@pytest.mark.parametrize(
    "messages", [json.dumps(USER), USER, "Hi", {"role": "user", "content": "Hi"}, json.dumps(USER[0])], ids=str
)
async def test_every_form_of_messages_is_the_same_call(
    sluice: Installation, provider: ScriptedProvider, messages: Any
) -> None:
    await sluice.add_model("public", provider.url)
    every = {
        "frequency_penalty": 0, "logit_bias": None, "max_tokens": None, "n": 1, "presence_penalty": 0, "stop": None,
        "stream": False, "temperature": 1, "top_p": 1, "user": None,
    }  # fmt: skip

    response = await sluice.post("/nec" + CHAT, {"model": "public", "messages": messages} | every)

    form = "array" if not isinstance(messages, str) else "text" if messages == "Hi" else "json"
    assert response.headers["x-sluice-messages-form"] == form
    assert provider.requests[0]["messages"] == USER
    assert sampling(provider.requests[0]) == NEC | {"stream": False}
    assert json.loads((await sluice.rows(JobRow))[0].request or b"")["messages"] == USER


async def test_nec_refuses_functions_and_others_pass_them_on(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)
    for member in ({"function_call": "auto"}, {"functions": [{"name": "f"}]}):
        response = await sluice.post("/nec" + CHAT, {"model": "public", "messages": USER} | member)
        error = (await response.json())["error"]
        assert (response.status, error["code"], error["param"]) == (400, "unsupported_parameter", next(iter(member)))

    assert (await sluice.chat(model="public", function_call="auto")).status == 200
    assert provider.requests[0]["function_call"] == "auto"


async def test_nec_names_a_fingerprint_in_answer_and_chunks(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)

    answer = await (await sluice.post("/nec" + CHAT, {"model": "public", "messages": USER})).json()
    events = await read_events(await sluice.post("/nec" + CHAT, {"model": "public", "messages": "Hi", "stream": True}))

    chunks = [json.loads(event.data) for event in events[:-1]]
    assert answer["system_fingerprint"].startswith("fp_")
    assert {chunk["system_fingerprint"] for chunk in chunks} == {answer["system_fingerprint"]}
    assert [chunk["usage"] is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]


async def test_vultr_links_answers_of_tools(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [*USER, {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "1"}]

    response = await sluice.post("/vultr" + CHAT, {"model": "public", "messages": turns})
    lost = await sluice.post("/vultr" + CHAT, {"model": "public", "messages": [{**turns[2], "tool_call_id": "x"}]})

    assert response.status == 200
    sent = provider.requests[0]["messages"]
    assert sent[2]["tool_call_id"] == sent[1]["tool_calls"][0]["id"]
    assert (await lost.json())["detail"][0]["loc"] == ["body", "messages", 0, "tool_call_id"]


async def test_vultr_names_calls_that_the_provider_left_nameless(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    await sluice.add_model("public", provider.url)
    function = {"name": "f", "arguments": ""}
    provider.default = streams(
        chunk({"role": "assistant", "tool_calls": [{"index": 0, "type": "function", "function": function}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        chunk({}, "tool_calls"),
    )

    response = await sluice.post("/vultr" + CHAT, {"model": "public", "messages": USER, "stream": True})
    chunks = [json.loads(event.data) for event in (await read_events(response))[:-1]]
    stored = await read(sluice, f"/v1/jobs/{response.headers['x-job-id']}/result")

    first = chunks[0]["choices"][0]["delta"]["tool_calls"][0]["id"]
    assert first.startswith("call_")
    assert "id" not in chunks[1]["choices"][0]["delta"]["tool_calls"][0]
    assert stored["choices"][0]["message"]["tool_calls"][0]["id"] == first


async def test_nec_takes_no_forms(sluice: Installation) -> None:
    for data in ({"model": "simulator"}, b"model=simulator"):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        response = await sluice.client.post("/nec" + CHAT, data=data, headers=sluice.headers | form)
        assert (response.status, (await response.json())["error"]["code"]) == (415, "unsupported_media_type")
    body = json.dumps({"model": "simulator", "messages": USER}).encode()
    curl = sluice.headers | {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await sluice.client.post(CHAT, data=body, headers=curl)).status == 200


async def test_a_model_without_tools_refuses_them(sluice: Installation) -> None:
    await sluice.patch("/v1/admin/routers/1", {"tools": False})

    response = await sluice.chat(tools=[{"type": "function", "function": {"name": "f"}}])

    error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (400, "tools_not_supported", "tools")
    models = (await read(sluice, "/v1/chat/models"))["models"]
    assert [model["features"]["tools"] for model in models if model["id"] == "simulator"] == [False]


async def test_unknown_paths_and_keys_are_refused_in_the_form_of_the_mount(sluice: Installation) -> None:
    for path, headers, status in (
        ("/vultr/v1/nothing", {}, 404),
        ("/vultr/v1/models", {"Authorization": "Bearer x"}, 401),
    ):
        response = await sluice.get(path, headers=headers)
        answer = await response.json()
        assert (response.status, answer["message"]) == (status, answer["detail"])
    assert "message" not in await (await sluice.get("/nec/v1/nothing")).json()


@pytest.mark.parametrize(("mount", "kind"), [("", str), ("/vultr", str), ("/nec", list), ("/inflection", list)])
async def test_a_model_of_another_type_is_told_as_the_dialect_tells_it(
    sluice: Installation, mount: str, kind: type
) -> None:
    response = await sluice.post(mount + CHAT, {"model": "simulator-embedding", "messages": USER})

    answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (422, "wrong_model_type")
    assert isinstance(answer["detail"], kind)
    if kind is list:
        assert answer["detail"] == [{"loc": ["body", "model"], "msg": "Wrong model type.", "type": "value_error"}]


async def test_another_dialect_is_another_request(sluice: Installation) -> None:
    body, headers = {"model": "simulator", "messages": USER}, {"Idempotency-Key": "k"}

    first = await sluice.post(CHAT, body, headers=headers)
    second = await sluice.post("/vultr" + CHAT, body, headers=headers)

    assert (first.status, second.status) == (200, 422)


async def test_the_reference_shows_the_table(sluice: Installation) -> None:
    reference = await (await sluice.client.get("/openapi.json")).json()

    assert describe_table() in reference["info"]["description"]
    for rules in RULES.values():
        assert f"| {rules.title} |" in describe_table()


async def test_lines_of_batches_and_bodies_of_jobs_may_name_a_mount(
    both: Installation, provider: ScriptedProvider
) -> None:
    await both.add_model("public", provider.url)
    body = {"model": "public", "messages": USER}
    lines = [
        {"custom_id": str(place), "method": "POST", "url": mount + CHAT, "body": body}
        for place, mount in enumerate(("", "/vultr"))
    ]

    made = await both.post("/nec/v1/batches", {"endpoint": CHAT, "completion_window": "24h", "requests": lines})
    batch = await ended(both, (await made.json())["id"])
    job = await both.post("/v1/jobs", {"endpoint": "/vultr" + CHAT, "body": body})
    await read(both, f"/v1/jobs/{(await job.json())['id']}/result?wait=10")
    other = await both.post("/v1/batches", {"endpoint": "/nec" + CHAT, "completion_window": "24h", "requests": lines})
    wrong = [{**lines[0], "url": "/vultr/v1/embeddings"}]
    refused = await both.post("/v1/batches", {"endpoint": CHAT, "completion_window": "24h", "requests": wrong})

    assert batch["request_counts"]["completed"] == 2
    assert sorted((sampling(one) for one in provider.requests[:2]), key=len) == sorted([NEC, VULTR], key=len)
    assert sampling(provider.requests[2]) == VULTR
    assert (await ended(both, (await other.json())["id"]))["endpoint"] == CHAT
    assert (refused.status, (await refused.json())["errors"]["data"][0]["code"]) == (400, "url_mismatch")
