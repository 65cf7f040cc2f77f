"""Adapter for Mistral, which refuses members of OpenAI's chat that it does not know.

Source: Mistral API reference, "Chat Completion".
"""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiohttp import ClientSession
from msgspec import Raw, json
from msgspec.structs import replace

from worker.providers.base import MAX_INPUTS, Operation, ProviderCall, ProviderReply
from worker.providers.openai_compatible import OpenAICompatible

_PATHS: Final[Mapping[Operation, str]] = {
    "chat": "v1/chat/completions",
    "embedding": "v1/embeddings",
    "ocr": "v1/ocr",
}
_MEMBERS: Final = frozenset(
    {
        "model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "random_seed", "response_format",
        "tools", "tool_choice", "parallel_tool_calls", "n", "frequency_penalty", "presence_penalty", "prediction",
        "prompt_mode", "safe_prompt",
    }
)  # fmt: skip
_OTHER_NAMES: Final = {"max_completion_tokens": "max_tokens", "seed": "random_seed"}
"""OpenAI's name → Mistral's."""


class Mistral:
    """Sends of a chat what Mistral takes, everything else as it is."""

    max_inputs = MAX_INPUTS
    takes_token_ids = False
    parameters: Mapping[Operation, frozenset[str]] = {"chat": _MEMBERS | frozenset(_OTHER_NAMES)}

    def __init__(self, http: ClientSession) -> None:
        self._server = OpenAICompatible(http, _PATHS)

    async def complete(self, call: ProviderCall) -> ProviderReply:
        """Return the answer; raises `ProviderError`."""
        return await self._server.complete(_translate(call))

    def stream(self, call: ProviderCall) -> AsyncIterator[list[bytes]]:
        """Yield the chunks in order; raises `ProviderError`."""
        return self._server.stream(_translate(call))


def _translate(call: ProviderCall) -> ProviderCall:
    if call.operation != "chat":
        return call
    members = json.decode(call.body, type=dict[str, Raw])
    sent = {name: value for name, value in members.items() if name in _MEMBERS and _is_given(value)}
    for name, other in _OTHER_NAMES.items():
        if name in members and _is_given(members[name]):
            sent[other] = members[name]
    return replace(call, body=json.encode(sent))


def _is_given(value: Raw) -> bool:
    return bytes(value) != b"null"
