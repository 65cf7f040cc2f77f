"""What a response is made of: its input as a chat provider gets it, chains, references, and the list of its items."""

from pathlib import Path
from typing import Any

import pytest

from tests.api.test_response_streams import stream
from tests.conftest import make_settings
from tests.installation import Installation, open_installation
from tests.providers import ScriptedProvider, sends
from tests.servers import RedisServer

PATH = "/v1/responses"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "name": "get_weather", "description": "d", "parameters": {"type": "object"}, "strict": True}


async def sent(sluice: Installation, provider: ScriptedProvider, asked: Any = "Hello", **members: Any) -> Any:
    """Return what arrives at the provider of a response with these members."""
    await sluice.add_model("public", provider.url)
    response = await sluice.post(PATH, {"model": "public", "input": asked} | members)
    assert response.status == 200, await response.text()
    return provider.requests[-1]


async def made(sluice: Installation, asked: Any, **members: Any) -> Any:
    response = await sluice.post(PATH, {"model": "public", "input": asked} | members)
    assert response.status == 200, await response.text()
    return await response.json()


async def test_a_minimal_request_stays_minimal(sluice: Installation, provider: ScriptedProvider) -> None:
    assert await sent(sluice, provider) == {"model": "upstream-model", "messages": HELLO}
    assert provider.paths == ["/v1/chat/completions"]


async def test_members_are_called_as_in_a_chat(sluice: Installation, provider: ScriptedProvider) -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    request = await sent(
        sluice, provider, instructions="Be short.", max_output_tokens=50, temperature=0.5, top_p=0.9, top_logprobs=2,
        tools=[TOOL], tool_choice={"type": "function", "name": "get_weather"}, parallel_tool_calls=False,
        text={"format": schema, "verbosity": "low"}, reasoning={"effort": "low"}, user="u", service_tier="auto",
        metadata={"a": "b"}, store=True, include=["message.output_text.logprobs"], truncation="auto",
        safety_identifier="s", prompt_cache_key="p", stop=["x"], seed=7,
    )  # fmt: skip

    function = {name: TOOL[name] for name in ("name", "description", "parameters", "strict")}
    assert request == {
        "model": "upstream-model", "messages": [{"role": "system", "content": "Be short."}, *HELLO],
        "max_completion_tokens": 50, "temperature": 0.5, "top_p": 0.9, "logprobs": True, "top_logprobs": 2,
        "tools": [{"type": "function", "function": function}], "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        "verbosity": "low", "reasoning_effort": "low", "user": "u", "service_tier": "auto", "stop": ["x"], "seed": 7,
    }  # fmt: skip


async def test_items_become_messages(sluice: Installation, provider: ScriptedProvider) -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    file = {"type": "input_file", "file_data": "data:text/plain;base64,QQ==", "filename": "a.txt"}
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    request = await sent(
        sluice,
        provider,
        [
            {"role": "developer", "content": "Obey."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look"}, picture, file]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {
                "role": "assistant",
                "content": [{"type": "output_text", "text": "I "}, {"type": "refusal", "refusal": "no"}],
            },
            call,
            call | {"call_id": "c2"},
            {"type": "function_call_output", "call_id": "c1", "output": "one"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
        ],
    )

    function = {"name": "f", "arguments": "{}"}
    assert request["messages"] == [
        {"role": "system", "content": "Obey."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "file", "file": {"file_data": "data:text/plain;base64,QQ==", "filename": "a.txt"}},
            ],
        },
        {
            "role": "assistant",
            "content": "I no",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": function},
                {"id": "c2", "type": "function", "function": function},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
    ]


@pytest.mark.parametrize(
    "part", [{"type": "input_image", "file_id": "file-1"}, {"type": "input_file", "file_url": "x"}]
)
async def test_what_a_chat_cannot_say_is_refused(
    sluice: Installation, provider: ScriptedProvider, part: dict[str, Any]
) -> None:
    await sluice.add_model("public", provider.url)

    response = await sluice.post(PATH, {"model": "public", "input": [{"role": "user", "content": [part]}]})

    assert (response.status, (await response.json())["error"]["code"]) == (400, "unsupported_parameter")
    assert provider.requests == []


async def test_a_chain_begins_with_what_it_continues(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)
    first = await made(sluice, "One?", instructions="Only here.")
    second = await made(sluice, [{"role": "user", "content": "Two?"}], previous_response_id=first["id"])
    third = await made(sluice, "Three?", previous_response_id=second["id"], instructions="Now this.")

    answer = {"role": "assistant", "content": "Hello!"}
    assert provider.requests[-1]["messages"] == [
        {"role": "system", "content": "Now this."},
        {"role": "user", "content": "One?"}, answer, {"role": "user", "content": "Two?"}, answer,
        {"role": "user", "content": "Three?"},
    ]  # fmt: skip
    assert third["previous_response_id"] == second["id"]


async def test_a_chain_survives_the_deletion_of_its_beginning(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)
    first = await made(sluice, "One?")
    second = await made(sluice, "Two?", previous_response_id=first["id"])
    await sluice.delete(f"{PATH}/{first['id']}")

    await made(sluice, "Three?", previous_response_id=second["id"])

    assert [message["content"] for message in provider.requests[-1]["messages"]] == [
        "One?", "Hello!", "Two?", "Hello!", "Three?",
    ]  # fmt: skip


async def test_an_unfinished_response_cannot_be_continued_yet(idle: Installation) -> None:
    first = await (await idle.post(PATH, {"model": "simulator", "input": "x", "background": True})).json()

    response = await idle.post(PATH, {"model": "simulator", "input": "y", "previous_response_id": first["id"]})

    assert (response.status, (await response.json())["error"]["code"]) == (409, "response_not_finished")
    assert int(response.headers["retry-after-ms"]) > 0


async def test_a_chain_that_grows_too_large_is_refused(tmp_path: Path, redis_server: RedisServer) -> None:
    async with open_installation(make_settings(tmp_path, redis_server, max_body_bytes=10_000)) as sluice:
        first = await (await sluice.post(PATH, {"model": "simulator", "input": "x" * 9000})).json()

        body = {"model": "simulator", "input": "y" * 2000, "previous_response_id": first["id"]}
        response = await sluice.post(PATH, body)

        assert (response.status, (await response.json())["error"]["code"]) == (413, "body_too_large")


async def test_references_lead_to_items_of_earlier_responses(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("public", provider.url)
    first = await made(both, "One?")
    page = await (await both.get(f"{PATH}/{first['id']}/input_items")).json()
    ids = [page["data"][0]["id"], first["output"][0]["id"]]

    second = await made(both, [*({"type": "item_reference", "id": one} for one in ids), *HELLO])

    assert [message["content"] for message in provider.requests[-1]["messages"]] == ["One?", "Hello!", "Hello"]
    listed = await (await both.get(f"{PATH}/{second['id']}/input_items?order=asc")).json()
    assert [item["type"] for item in listed["data"]] == ["message"] * 3
    assert [item["id"] for item in listed["data"][:2]] == ids


async def test_a_reference_to_something_deleted_leads_nowhere(sluice: Installation) -> None:
    first = await (await sluice.post(PATH, {"model": "simulator", "input": "x"})).json()
    await sluice.delete(f"{PATH}/{first['id']}")

    item = {"type": "item_reference", "id": first["output"][0]["id"]}
    response = await sluice.post(PATH, {"model": "simulator", "input": [item]})

    assert (response.status, (await response.json())["error"]["code"]) == (404, "item_not_found")


async def test_input_items_are_listed_with_ids(both: Installation) -> None:
    asked = [{"role": "user", "content": f"Number {number}"} for number in range(5)] + [
        {"type": "function_call_output", "id": "mine", "call_id": "c", "output": "x"}
    ]
    first = await (await both.post(PATH, {"model": "simulator", "input": "Before"})).json()
    body = {"model": "simulator", "input": asked, "previous_response_id": first["id"]}
    answer = await (await both.post(PATH, body)).json()
    url = f"{PATH}/{answer['id']}/input_items"

    newest = await (await both.get(url)).json()
    seen: list[dict[str, Any]] = []
    query = "?limit=4&order=asc"
    while True:
        page = await (await both.get(url + query)).json()
        seen += page["data"]
        if not page["has_more"]:
            break
        query = f"?limit=4&order=asc&after={page['last_id']}"

    assert newest["data"] == seen[::-1]
    assert (newest["object"], newest["first_id"], newest["last_id"]) == ("list", "mine", seen[0]["id"])
    assert [item["content"] for item in seen[:5]] == [
        [{"type": "input_text", "text": f"Number {number}"}] for number in range(5)
    ]
    assert {(item["type"], item["role"], item["status"]) for item in seen[:5]} == {("message", "user", "completed")}
    assert len({item["id"] for item in seen}) == 6
    assert all(len(item["id"]) == 30 for item in seen[:5])


async def test_a_cursor_that_is_no_item_is_refused(sluice: Installation) -> None:
    answer = await (await sluice.post(PATH, {"model": "simulator", "input": "x"})).json()

    responses = [
        await sluice.get(f"{PATH}/{answer['id']}/input_items?{query}")
        for query in ("after=msg_1", "limit=0", "order=up")
    ]

    errors = [(await response.json())["error"]["code"] for response in responses]
    assert errors == ["invalid_cursor", "invalid_request", "invalid_request"]


async def test_log_probabilities_are_kept(sluice: Installation, provider: ScriptedProvider) -> None:
    entry = {"token": "Hi", "logprob": -0.1, "bytes": None, "top_logprobs": []}
    choice = (
        b'{"index":0,"delta":{"content":"Hi"},"logprobs":{"content":[{"token":"Hi","logprob":-0.1,"bytes":null,'
        b'"top_logprobs":[]}]},"finish_reason":"stop"}'
    )
    await sluice.add_model("public", provider.url)
    provider.default = sends(b'data: {"choices":[' + choice + b"]}\n\ndata: [DONE]\n\n", "text/event-stream")

    events = await stream(sluice, model="public", top_logprobs=1)

    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [event["logprobs"] for event in deltas] == [[entry]]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == [entry]


async def test_a_member_of_ours_in_a_request_means_nothing(sluice: Installation, provider: ScriptedProvider) -> None:
    request = await sent(sluice, provider, sluice_history=[{"type": "message", "role": "user", "content": "Forged"}])

    assert request == {"model": "upstream-model", "messages": HELLO}
