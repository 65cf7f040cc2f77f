"""The stock `openai` client, asynchronous and synchronous, against the real app."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion

from tests.installation import ADMIN_KEY, Installation
from tests.people import without_first_models
from tests.providers import ScriptedProvider, fails, says, sends

TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest_asyncio.fixture
async def client(sluice: Installation) -> AsyncIterator[AsyncOpenAI]:
    """The asynchronous client, which repeats nothing."""
    async with AsyncOpenAI(base_url=f"{sluice.url}/v1", api_key=ADMIN_KEY, max_retries=0) as connected:
        yield connected


async def test_create_returns_a_completion(client: AsyncOpenAI) -> None:
    completion = await ask(client, simulator={"text": "Hello there"})

    assert completion.id.startswith("chatcmpl-")
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.content == "Hello there"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 2
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + 2


async def test_a_completion_carries_the_request_id(client: AsyncOpenAI) -> None:
    completion = await ask(client)

    assert completion._request_id is not None
    assert completion._request_id.startswith("req_")


async def test_a_stream_gives_the_text_and_one_last_chunk_with_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="simulator", messages=HELLO, stream=True, extra_body={"simulator": {"text": "one two three"}}
    )
    chunks = [chunk async for chunk in stream]

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "one two three"
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


async def test_the_stream_helper_puts_the_answer_together(client: AsyncOpenAI) -> None:
    options: Any = {"extra_body": {"simulator": {"text": "one two"}}}
    async with client.chat.completions.stream(model="simulator", messages=HELLO, **options) as stream:
        completion = await stream.get_final_completion()

    assert completion.choices[0].message.content == "one two"


async def test_the_synchronous_client_gets_an_answer(sluice: Installation) -> None:
    completion = await asyncio.to_thread(ask_synchronously, sluice.url, stream=False)

    assert completion == "Hello there"


async def test_the_synchronous_client_reads_a_stream(sluice: Installation) -> None:
    text = await asyncio.to_thread(ask_synchronously, sluice.url, stream=True)

    assert text == "Hello there"


async def test_a_model_calls_a_tool(client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model="simulator", messages=HELLO, tools=[TOOL])

    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    call: Any = choice.message.tool_calls[0]
    assert (call.type, call.function.name, call.function.arguments) == ("function", "get_weather", "{}")


async def test_a_model_calls_a_tool_in_a_stream(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="simulator", messages=HELLO, tools=[TOOL], stream=True)
    choices = [chunk.choices[0] async for chunk in stream if chunk.choices]

    calls: list[Any] = [call for choice in choices for call in choice.delta.tool_calls or ()]
    assert calls[0].id
    assert {call.index for call in calls} == {0}
    assert "".join(call.function.name or "" for call in calls) == "get_weather"
    assert "".join(call.function.arguments or "" for call in calls) == "{}"
    assert choices[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_result_of_a_tool_is_answered(client: AsyncOpenAI, stream: bool) -> None:
    first = await client.chat.completions.create(model="simulator", messages=HELLO, tools=[TOOL])
    calls = first.choices[0].message.tool_calls or []
    told: Any = {"role": "tool", "tool_call_id": calls[0].id, "content": '{"celsius":18}'}
    second: Any = await client.chat.completions.create(
        model="simulator",
        messages=[*HELLO, first.choices[0].message.model_dump(exclude_none=True), told],
        tools=[TOOL],
        stream=stream,
        extra_body={"simulator": {"text": "18 degrees"}},
    )

    if stream:
        pieces = [chunk.choices[0].delta.content or "" async for chunk in second if chunk.choices]
        assert "".join(pieces) == "18 degrees"
    else:
        assert second.choices[0].message.content == "18 degrees"


async def test_an_unknown_model_is_a_not_found_error(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="nobody-serves-this", messages=HELLO)

    error = caught.value
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")
    assert error.request_id is not None
    assert "Model not found." in error.message


async def test_a_bad_key_is_an_authentication_error(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        await ask(client.with_options(api_key="sk-nobody-has-this-key-0123456789"))

    assert caught.value.code == "invalid_api_key"
    assert "Invalid API key." in caught.value.message


async def test_a_bad_member_is_an_unprocessable_entity_error_with_its_place(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await client.chat.completions.create(model="simulator", messages=HELLO, temperature=2.5)

    assert caught.value.param == "temperature"
    raw = caught.value.response.json()
    assert isinstance(raw["detail"], list)
    assert raw["detail"][0]["loc"] == ["body", "temperature"]
    assert raw["detail"][0]["msg"] == raw["error"]["message"]


async def test_the_provider_s_message_about_the_request_arrives(
    sluice: Installation, provider: ScriptedProvider, client: AsyncOpenAI
) -> None:
    provider.default = fails(400, "The prompt is too long for this model.")
    await sluice.add_model("public", provider.url)

    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="public", messages=HELLO)

    assert "The prompt is too long for this model." in caught.value.message
    assert caught.value.code == "provider_rejected_request"
    assert len(provider.requests) == 1


@pytest.mark.parametrize(("status", "code"), [(429, "model_busy"), (500, "provider_unavailable")])
async def test_a_failing_provider_is_an_internal_server_error_503(
    sluice: Installation, provider: ScriptedProvider, client: AsyncOpenAI, status: int, code: str
) -> None:
    provider.default = fails(status)
    await sluice.add_model("public", provider.url)

    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model="public", messages=HELLO)

    assert (caught.value.status_code, caught.value.code) == (503, code)
    assert int(caught.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_provider_key_is_not_the_caller_s_fault(
    sluice: Installation, provider: ScriptedProvider, client: AsyncOpenAI, status: int
) -> None:
    provider.default = fails(status, "Incorrect API key provided: sk-up.")
    await sluice.add_model("public", provider.url)

    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model="public", messages=HELLO)

    assert "sk-up" not in caught.value.message


async def test_a_client_that_repeats_does_not_multiply_the_attempts(
    sluice: Installation, provider: ScriptedProvider, client: AsyncOpenAI
) -> None:
    provider.default = fails(500)
    await sluice.add_model("public", provider.url)

    with pytest.raises(openai.InternalServerError):
        await client.with_options(max_retries=2).chat.completions.create(model="public", messages=HELLO)

    assert len(provider.requests) == 3


async def test_an_error_before_the_first_chunk_is_raised_at_once(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(
            model="simulator", messages=HELLO, stream=True, extra_body={"simulator": {"fail": "400"}}
        )


async def test_an_error_in_a_stream_is_raised_while_reading(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="simulator", messages=HELLO, stream=True, extra_body={"simulator": {"text": "a b c", "fail": "cut"}}
    )

    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "interrupted"


async def test_retrieve_returns_the_completion_as_first_returned(client: AsyncOpenAI) -> None:
    made = await ask(client, metadata={"run": "a"})

    found: Any = await client.chat.completions.retrieve(made.id)

    assert found.choices == made.choices
    assert found.usage == made.usage
    assert found.created == made.created
    assert found.metadata == {"run": "a"}
    assert found.request_id == made._request_id


async def test_retrieve_of_an_unknown_completion_is_a_not_found_error(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.retrieve("chatcmpl-01jc8w7v3qk5m2x9t4r6y8z0ab")

    assert caught.value.code == "completion_not_found"


async def test_retrieve_repeats_by_itself_until_the_completion_is_there(client: AsyncOpenAI) -> None:
    accepted = await client.chat.completions.with_raw_response.create(
        model="simulator",
        messages=HELLO,
        extra_headers={"Prefer": "respond-async"},
        extra_body={"simulator": {"text": "late", "delay_ms": 400}},
    )

    completion = await client.with_options(max_retries=10).chat.completions.retrieve(accepted.headers["x-job-id"])

    assert accepted.status_code == 202
    assert completion.choices[0].message.content == "late"


async def test_list_goes_through_all_pages(client: AsyncOpenAI) -> None:
    made = [(await ask(client)).id for _ in range(5)]

    listed = [completion.id async for completion in client.chat.completions.list(limit=2)]

    assert listed == made


async def test_list_filters_by_metadata(client: AsyncOpenAI) -> None:
    await ask(client)
    await ask(client, metadata={"run": "a"})
    wanted = await ask(client, metadata={"run": "b", "who": "me"})

    listed = [completion.id async for completion in client.chat.completions.list(metadata={"run": "b"})]

    assert listed == [wanted.id]


async def test_list_leaves_out_what_was_not_to_be_stored(client: AsyncOpenAI) -> None:
    await ask(client, store=False)
    kept = await ask(client, store=True)

    listed = [completion.id async for completion in client.chat.completions.list(order="desc")]

    assert listed == [kept.id]


async def test_update_replaces_the_metadata(client: AsyncOpenAI) -> None:
    made = await ask(client, metadata={"run": "a", "old": "yes"})

    updated: Any = await client.chat.completions.update(made.id, metadata={"run": "b"})

    found: Any = await client.chat.completions.retrieve(made.id)
    assert updated.id == made.id
    assert updated.metadata == found.metadata == {"run": "b"}


async def test_a_deleted_completion_is_gone(client: AsyncOpenAI) -> None:
    made = await ask(client)

    deleted = await client.chat.completions.delete(made.id)

    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "chat.completion.deleted")
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.retrieve(made.id)
    assert (caught.value.status_code, caught.value.code) == (410, "job_gone")


async def test_messages_of_the_request_are_listed_page_by_page(client: AsyncOpenAI) -> None:
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "you"}]},
        {"role": "user", "name": "first", "content": "Well?"},
    ]
    made = await client.chat.completions.create(model="simulator", messages=messages)

    listed: list[Any] = [m async for m in client.chat.completions.messages.list(made.id, limit=2)]

    assert [m.id for m in listed] == [f"{made.id}-{index}" for index in range(3)]
    assert [m.content for m in listed] == ["Be brief.", "Hi\nyou", "Well?"]
    assert [part.text for part in listed[1].content_parts] == ["Hi", "you"]
    assert listed[2].name == "first"


async def test_models_are_listed_and_retrieved(client: AsyncOpenAI) -> None:
    models = [model async for model in client.models.list()]
    model = await client.models.retrieve("simulator")

    assert without_first_models(listed.id for listed in models) == ["simulator"]
    assert (model.id, model.object, model.owned_by) == ("simulator", "model", "Sluice")
    assert model.created > 1_700_000_000


async def test_a_model_name_with_a_slash_is_called_and_retrieved(
    sluice: Installation, provider: ScriptedProvider, client: AsyncOpenAI
) -> None:
    provider.default = says("Bonjour")
    await sluice.add_model("org/family/model-7b", provider.url)

    model = await client.models.retrieve("org/family/model-7b")
    completion = await client.chat.completions.create(model="org/family/model-7b", messages=HELLO)

    assert model.id == completion.model == "org/family/model-7b"


async def test_members_the_client_does_not_know_are_kept(
    sluice: Installation, provider: ScriptedProvider, client: AsyncOpenAI
) -> None:
    message = '{"role":"assistant","content":"Hi","reasoning_content":"Hm."}'
    provider.default = sends(b'{"choices":[{"index":0,"finish_reason":"stop","message":%s}]}' % message.encode())
    await sluice.add_model("public", provider.url)

    completion: Any = await client.chat.completions.create(model="public", messages=HELLO)

    assert completion.choices[0].message.reasoning_content == "Hm."


async def ask(client: AsyncOpenAI, simulator: dict[str, Any] | None = None, **members: Any) -> ChatCompletion:
    """Have the simulator answer."""
    body = {"simulator": simulator or {"text": "Hi"}}
    answer: ChatCompletion = await client.chat.completions.create(
        model="simulator", messages=HELLO, extra_body=body, **members
    )
    return answer


def ask_synchronously(url: str, *, stream: bool) -> str:
    """Have the simulator answer, through the synchronous client."""
    body = {"simulator": {"text": "Hello there"}}
    with OpenAI(base_url=f"{url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
        if stream:
            chunks = client.chat.completions.create(model="simulator", messages=HELLO, stream=True, extra_body=body)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        answer = client.chat.completions.create(model="simulator", messages=HELLO, extra_body=body)
        return answer.choices[0].message.content or ""
