"""Clients of the vendors change their base URL and nothing else: the stock OpenAI SDK, and curl."""

import asyncio
import json
import shutil
import subprocess
from typing import Any

import pytest
from openai import AsyncOpenAI, UnprocessableEntityError

from tests.inflection import hold_against
from tests.installation import ADMIN_KEY, Installation

MOUNTS = ("vultr", "nec", "inflection")
CALLS = [{"role": "user", "content": "Weather in Lyon?"}]
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}


def client_of(sluice: Installation, mount: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{sluice.url}/{mount}/v1", api_key=ADMIN_KEY, max_retries=0)


@pytest.mark.parametrize("mount", MOUNTS)
async def test_a_stock_client_chats_streams_embeds_and_reads_again(sluice: Installation, mount: str) -> None:
    async with client_of(sluice, mount) as client:
        made = await client.chat.completions.create(model="simulator", messages=CALLS)  # type: ignore[arg-type]
        text = ""
        async with client.chat.completions.stream(model="simulator", messages=CALLS) as stream:  # type: ignore[arg-type]
            async for event in stream:
                text += event.delta if event.type == "content.delta" else ""
        vectors = await client.embeddings.create(model="simulator-embedding", input=["a", "b"])
        stored = await client.chat.completions.retrieve(made.id)
        models = [model.id async for model in client.models.list()]

    assert text == made.choices[0].message.content == stored.choices[0].message.content
    assert len(vectors.data) == 2
    assert isinstance(vectors.data[0].embedding[0], float)
    assert "simulator" in models


@pytest.mark.parametrize("mount", MOUNTS)
async def test_a_stock_client_calls_a_tool_and_answers_it(sluice: Installation, mount: str) -> None:
    async with client_of(sluice, mount) as client:
        first = await client.chat.completions.create(model="simulator", messages=CALLS, tools=[TOOL])  # type: ignore[call-overload]
        message = first.choices[0].message
        answers = [{"role": "tool", "tool_call_id": call.id, "content": "18"} for call in message.tool_calls or ()]
        turns = [*CALLS, message.model_dump(exclude_none=True), *answers]
        second = await client.chat.completions.create(model="simulator", messages=turns, tools=[TOOL])

    assert first.choices[0].finish_reason == "tool_calls"
    assert second.choices[0].message.content


async def test_a_stock_client_understands_the_errors(sluice: Installation) -> None:
    for mount in MOUNTS:
        async with client_of(sluice, mount) as client:
            with pytest.raises(UnprocessableEntityError) as caught:
                await client.chat.completions.create(model="simulator", messages=CALLS, temperature=2.1)  # type: ignore[arg-type]
        assert caught.value.status_code == 422
        assert caught.value.param == "temperature"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_gets_what_the_vendors_promise(sluice: Installation) -> None:
    async def curl(path: str, body: Any) -> str:
        arguments = ["curl", "-sS", "-N", "--fail", sluice.url + path, "-H", f"Authorization: Bearer {ADMIN_KEY}"]
        arguments += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        done = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    nec = json.loads(await curl("/nec/v1/chat/completions", {"model": "simulator", "messages": "Good morning!"}))
    vultr = json.loads(await curl("/vultr/v1/chat/completions", {"model": "simulator", "messages": CALLS, "seed": -1}))
    body = {"config": "simulator", "context": [{"type": "Human", "text": "Is it sunny?"}], "web_search": False}
    whole = json.loads(await curl("/external/api/inference", body))
    streamed = await curl("/external/api/inference/streaming", body)

    assert nec["system_fingerprint"].startswith("fp_")
    assert {"id", "created", "model", "choices", "usage"} <= vultr.keys()
    hold_against("ExternalChatResponse", whole)
    events = [json.loads(line.removeprefix("data: ")) for line in streamed.splitlines() if line]
    assert "".join(event["text"] for event in events) == whole["text"]
