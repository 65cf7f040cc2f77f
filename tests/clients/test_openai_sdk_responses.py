"""`client.responses` of the stock `openai` package against the real app."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from tests.installation import ADMIN_KEY, Installation
from tests.providers import ScriptedProvider, chunk, responds, says, streams

TOOL: Any = {
    "type": "function", "name": "get_weather", "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}  # fmt: skip
UNFINISHED = ("queued", "in_progress")


class Answer(BaseModel):
    answer: str


@pytest_asyncio.fixture
async def client(sluice: Installation) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{sluice.url}/v1", api_key=ADMIN_KEY, max_retries=0) as connected:
        yield connected


async def ask(client: AsyncOpenAI, asked: Any = "Hello", *, simulator: Any = None, **members: Any) -> Response:
    extra = {"simulator": simulator} if simulator else None
    made: Response = await client.responses.create(model="simulator", input=asked, extra_body=extra, **members)
    return made


async def until_done(client: AsyncOpenAI, response_id: str) -> Response:
    """Poll as the documentation of the client does."""
    async with asyncio.timeout(20):
        while True:
            found = await client.responses.retrieve(response_id)
            if found.status not in UNFINISHED:
                return found
            await asyncio.sleep(0.05)


async def test_create_returns_a_response(client: AsyncOpenAI) -> None:
    response = await ask(client, simulator={"text": "Hello there"}, instructions="Be kind.", metadata={"a": "b"})

    assert response.output_text == "Hello there"
    assert (response.status, response.object, response.instructions) == ("completed", "response", "Be kind.")
    assert response.usage is not None
    assert response.usage.output_tokens == 2
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    assert response._request_id is not None
    assert await client.responses.retrieve(response.id) == response


async def test_the_stream_of_create_is_typed(client: AsyncOpenAI) -> None:
    stream = await client.responses.create(
        model="simulator", input="Hi", stream=True, extra_body={"simulator": {"text": "one two three"}}
    )
    events = [event async for event in stream]

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "one two three"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "one two three"


async def test_the_stream_helper_puts_the_response_together(client: AsyncOpenAI) -> None:
    async with client.responses.stream(
        model="simulator", input="Hi", extra_body={"simulator": {"text": "one two three"}}
    ) as stream:
        snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()

    assert snapshots[-1] == final.output_text == "one two three"


async def test_a_response_in_the_background_is_polled(client: AsyncOpenAI) -> None:
    queued = await ask(client, background=True, simulator={"text": "Done.", "delay_ms": 200})

    found = await until_done(client, queued.id)

    assert (queued.status, queued.background) == ("queued", True)
    assert (found.status, found.output_text) == ("completed", "Done.")


async def test_a_dropped_stream_is_resumed_in_both_ways(client: AsyncOpenAI) -> None:
    stream = await client.responses.create(
        model="simulator", input="Hi", background=True, stream=True,
        extra_body={"simulator": {"tokens": 40, "chunk_delay_ms": 20}},
    )  # fmt: skip
    seen = []
    async for event in stream:
        seen.append(event)
        if event.sequence_number == 10:
            break
    await stream.close()
    response_id = seen[0].response.id

    rest = [
        event
        async for event in await client.responses.retrieve(
            response_id, stream=True, starting_after=seen[-1].sequence_number
        )
    ]
    async with client.responses.stream(response_id=response_id, starting_after=10) as helper:
        filtered = [event.sequence_number async for event in helper]
        final = await helper.get_final_response()

    whole = seen + rest
    assert [event.sequence_number for event in whole] == list(range(len(whole)))
    text = "".join(event.delta for event in whole if event.type == "response.output_text.delta")
    assert text == rest[-1].response.output_text == final.output_text
    assert filtered == [event.sequence_number for event in rest]
    assert final.output_text == (await client.responses.retrieve(response_id)).output_text


async def test_cancelling_twice_is_no_error(client: AsyncOpenAI) -> None:
    queued = await ask(client, background=True, simulator={"tokens": 1000, "chunk_delay_ms": 20})

    first = await client.responses.cancel(queued.id)
    second = await client.responses.cancel(queued.id)

    assert (first.status, second.status) == ("cancelled", "cancelled")
    assert (await client.responses.retrieve(queued.id)).status == "cancelled"


async def test_cancelling_a_finished_one_returns_it(client: AsyncOpenAI) -> None:
    queued = await ask(client, background=True)
    finished = await until_done(client, queued.id)

    assert await client.responses.cancel(queued.id) == finished


async def test_only_the_background_can_be_cancelled(client: AsyncOpenAI) -> None:
    response = await ask(client)

    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.cancel(response.id)

    assert refused.value.code == "not_cancellable"


async def test_delete_returns_nothing(client: AsyncOpenAI) -> None:
    response = await ask(client)

    await client.responses.delete(response.id)

    with pytest.raises(openai.APIStatusError) as gone:
        await client.responses.retrieve(response.id)
    assert gone.value.status_code == 410


async def test_input_items_are_listed_over_pages(client: AsyncOpenAI) -> None:
    asked: Any = [{"role": "user", "content": f"Number {number}"} for number in range(7)]
    response = await ask(client, asked)

    items: list[Any] = [item async for item in client.responses.input_items.list(response.id, limit=3, order="asc")]

    assert [item.content[0].text for item in items] == [f"Number {number}" for number in range(7)]


async def test_a_conversation_is_chained(sluice: Installation, client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url)
    provider.default = says("Paris.")
    first = await client.responses.create(model="public", input="Capital of France?")
    provider.default = says("French.")

    second = await client.responses.create(model="public", input="Language?", previous_response_id=first.id)

    assert (first.output_text, second.output_text) == ("Paris.", "French.")
    assert [message["content"] for message in provider.requests[-1]["messages"]] == [
        "Capital of France?", "Paris.", "Language?",
    ]  # fmt: skip


async def test_output_is_passed_back_as_input(
    sluice: Installation, client: AsyncOpenAI, provider: ScriptedProvider
) -> None:
    await sluice.add_model("public", provider.url)
    asked: list[Any] = [{"role": "user", "content": "One?"}]
    first = await client.responses.create(model="public", input=asked)

    asked += [item.model_dump() for item in first.output]
    await client.responses.create(model="public", input=[*asked, {"role": "user", "content": "Two?"}])

    assert [message["role"] for message in provider.requests[-1]["messages"]] == ["user", "assistant", "user"]


async def test_structured_output_is_parsed(client: AsyncOpenAI) -> None:
    parsed = await client.responses.parse(model="simulator", input="Hi", text_format=Answer)
    async with client.responses.stream(model="simulator", input="Hi", text_format=Answer) as stream:
        streamed = await stream.get_final_response()

    assert parsed.output_parsed is not None
    assert parsed.output_parsed.answer
    assert streamed.output_parsed == parsed.output_parsed


CALL = [
    chunk({"role": "assistant", "reasoning_content": "Weather."}),
    chunk({"tool_calls": [{"index": 0, "id": "call_a", "function": {"name": "get_weather", "arguments": ""}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Lyon"}'}}]}),
    chunk({}, "tool_calls"),
]


async def test_functions_are_called_and_answered(
    sluice: Installation, client: AsyncOpenAI, provider: ScriptedProvider
) -> None:
    await sluice.add_model("public", provider.url)
    provider.default = streams(*CALL)
    async with client.responses.stream(model="public", input="Weather in Lyon?", tools=[TOOL]) as stream:
        pieces = [event.snapshot async for event in stream if event.type == "response.function_call_arguments.delta"]
        first = await stream.get_final_response()
    call: Any = next(item for item in first.output if item.type == "function_call")
    provider.default = says("Sunny.")

    second = await client.responses.create(
        model="public", previous_response_id=first.id, tools=[TOOL],
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sun"}],
    )  # fmt: skip

    assert pieces == ['{"city":', '{"city":"Lyon"}']
    assert (call.name, call.arguments) == ("get_weather", '{"city":"Lyon"}')
    assert second.output_text == "Sunny."
    sent = provider.requests[-1]["messages"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == "call_a"


async def test_a_cut_answer_is_incomplete(client: AsyncOpenAI) -> None:
    response = await ask(client, max_output_tokens=16, simulator={"tokens": 100})

    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_a_broken_stream_ends_with_an_error_event_and_failed(client: AsyncOpenAI) -> None:
    stream = await client.responses.create(
        model="simulator", input="Hi", stream=True, extra_body={"simulator": {"fail": "cut"}}
    )

    events = [event async for event in stream]

    assert [event.type for event in events[-2:]] == ["error", "response.failed"]


async def test_an_unfinished_response_is_waited_for_when_continued(sluice: Installation) -> None:
    async with AsyncOpenAI(base_url=f"{sluice.url}/v1", api_key=ADMIN_KEY, max_retries=5) as patient:
        first = await ask(patient, background=True, simulator={"text": "One.", "delay_ms": 700})

        second = await ask(patient, "Two?", previous_response_id=first.id)

    assert second.status == "completed"


async def test_a_native_route_is_the_same_to_the_client(
    sluice: Installation, client: AsyncOpenAI, provider: ScriptedProvider
) -> None:
    await sluice.add_model("public", provider.url, native_responses=True)
    provider.default = responds("Hello you!")

    whole = await client.responses.create(model="public", input="Hi")
    async with client.responses.stream(model="public", input="Hi") as stream:
        streamed = await stream.get_final_response()

    assert (whole.output_text, streamed.output_text) == ("Hello you!", "Hello you!")


async def test_the_synchronous_client_works_alike(sluice: Installation) -> None:
    def run() -> tuple[str, str, str]:
        with OpenAI(base_url=f"{sluice.url}/v1", api_key=ADMIN_KEY) as client:
            extra = {"simulator": {"text": "Hello there"}}
            whole = client.responses.create(model="simulator", input="Hi", extra_body=extra)
            with client.responses.stream(model="simulator", input="Hi", extra_body=extra) as stream:
                final = stream.get_final_response()
            with client.responses.stream(response_id=whole.id) as again:
                return whole.output_text, final.output_text, again.get_final_response().output_text

    assert await asyncio.to_thread(run) == ("Hello there",) * 3
