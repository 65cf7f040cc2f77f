"""Mistral refuses what it does not know: a chat is rebuilt from the members it takes."""

from typing import Any

import pytest

from tests.installation import Installation
from tests.providers import ScriptedProvider

HELLO = [{"role": "user", "content": "Hello"}]


async def send(sluice: Installation, provider: ScriptedProvider, **members: Any) -> dict[str, Any]:
    """Return what arrives at the provider of a chat with these members."""
    await sluice.add_model("public", provider.url, type="mistral", model_name="mistral-small")
    response = await sluice.chat(model="public", **members)
    await response.read()
    assert response.status == 200
    return provider.requests[0]


async def test_a_minimal_chat_stays_minimal(sluice: Installation, provider: ScriptedProvider) -> None:
    assert await send(sluice, provider) == {"model": "mistral-small", "messages": HELLO}


async def test_what_mistral_does_not_take_is_left_out(sluice: Installation, provider: ScriptedProvider) -> None:
    sent = await send(
        sluice, provider, user="somebody", logit_bias={"1": 2}, store=True, metadata={"a": "b"}, top_k=3, stop=None,
        temperature=0.5, safe_prompt=True,
    )  # fmt: skip

    assert sent == {"model": "mistral-small", "messages": HELLO, "temperature": 0.5, "safe_prompt": True}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 9, "max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 9, "max_completion_tokens": None}, {"max_tokens": 9}),
        ({"seed": 7}, {"random_seed": 7}),
        ({"seed": -1}, {}),
    ],
)
async def test_members_of_openai_get_the_names_of_mistral(
    sluice: Installation, provider: ScriptedProvider, members: dict[str, Any], expected: dict[str, Any]
) -> None:
    sent = await send(sluice, provider, **members)

    assert sent == {"model": "mistral-small", "messages": HELLO} | expected


async def test_a_stream_has_no_stream_options(sluice: Installation, provider: ScriptedProvider) -> None:
    sent = await send(sluice, provider, stream=True)

    assert sent == {"model": "mistral-small", "messages": HELLO, "stream": True}
