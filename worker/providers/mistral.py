"""Adapter for Mistral, which refuses members of OpenAI's chat that it does not know.

Source: Mistral API reference, "Chat Completion".
"""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiohttp import ClientSession
from msgspec import Raw, json
from msgspec.structs import replace

from shared.chat.parameter_sets import PARAMETER_SETS
from worker.providers.base import ANY_PARAMETERS, MAX_INPUTS, Operation, ProviderCall, ProviderReply
from worker.providers.openai_compatible import OpenAICompatible

_PATHS: Final[Mapping[Operation, str]] = {
    "chat": "v1/chat/completions",
    "embedding": "v1/embeddings",
    "ocr": "v1/ocr",
}
_OTHER_NAMES: Final = {"max_completion_tokens": "max_tokens", "seed": "random_seed"}
"""OpenAI's name → Mistral's."""
_MEMBERS: Final = PARAMETER_SETS["mistral"].taken - _OTHER_NAMES.keys()
_REQUIRED: Final = b'"required"'


class Mistral:
    """Sends of a chat what Mistral takes, everything else as it is."""

    max_inputs = MAX_INPUTS
    takes_token_ids = False
    parameters = ANY_PARAMETERS

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
    if bytes(sent.get("tool_choice", b"")) == _REQUIRED:
        sent["tool_choice"] = Raw(b'"any"')
    return replace(call, body=json.encode(sent))


def _is_given(value: Raw) -> bool:
    return bytes(value) != b"null"
