"""Embeddings and text completions through the stock `openai` client, against the real app."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.installation import ADMIN_KEY, Installation


@pytest_asyncio.fixture
async def client(sluice: Installation) -> AsyncIterator[AsyncOpenAI]:
    """The asynchronous client, which repeats nothing."""
    async with AsyncOpenAI(base_url=f"{sluice.url}/v1", api_key=ADMIN_KEY, max_retries=0) as connected:
        yield connected


async def test_embeddings_are_the_same_in_the_client_s_own_encoding_and_as_floats(client: AsyncOpenAI) -> None:
    own = await client.embeddings.create(model="simulator-embedding", input=["one", "two"])
    plain = await client.embeddings.create(model="simulator-embedding", input=["one", "two"], encoding_format="float")

    assert [one.embedding for one in own.data] == [one.embedding for one in plain.data]
    assert [one.index for one in own.data] == [0, 1]
    assert len(own.data[0].embedding) == 64
    assert (own.object, own.model) == ("list", "simulator-embedding")
    assert (own.usage.prompt_tokens, own.usage.total_tokens) == (2, 2)


async def test_embeddings_take_tokens_and_dimensions(client: AsyncOpenAI) -> None:
    embeddings = await client.embeddings.create(model="simulator-embedding", input=[[1, 2], [3]], dimensions=8)

    assert [len(one.embedding) for one in embeddings.data] == [8, 8]
    assert embeddings.usage.prompt_tokens == 3


async def test_an_empty_input_is_an_unprocessable_entity_error(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await client.embeddings.create(model="simulator-embedding", input=["one", ""])

    assert caught.value.param == "input.1"


async def test_a_text_is_completed_whole_and_as_a_stream(client: AsyncOpenAI) -> None:
    options: Any = {"model": "simulator", "prompt": "Once", "extra_body": {"simulator": {"text": "upon a time"}}}

    completion = await client.completions.create(**options)
    stream = await client.completions.create(**options, stream=True)
    chunks = [chunk async for chunk in stream]

    assert (completion.object, completion.choices[0].text) == ("text_completion", "upon a time")
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "upon a time"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == completion.usage.total_tokens
