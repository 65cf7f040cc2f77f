"""Transcriptions of a provider that hears sound in chats only: Mistral.

Source: Mistral documentation, "Audio & Transcription", chat with `input_audio`.
"""

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from msgspec import Raw, Struct, json
from msgspec.structs import replace

from shared.unreadable import UNREADABLE
from worker.providers.base import Adapter, Operation, ProviderCall, ProviderError, ProviderReply

_MEMBERS: Final = frozenset({"file", "prompt", "language", "temperature", "response_format"})


class _Fields(Struct):
    model: str
    prompt: str = ""
    language: str = ""
    temperature: str | float | None = None


class _Part(Struct):
    text: str = ""


class _Message(Struct):
    content: str | list[_Part] | None = None


class _Choice(Struct):
    message: _Message


class _Completion(Struct):
    choices: list[_Choice]
    usage: Raw = Raw(b"null")


class TranscribesByChat:
    """Asks in a chat for the transcript; every other operation is the inner adapter's."""

    def __init__(self, inner: Adapter) -> None:
        self._inner = inner
        self.max_inputs = inner.max_inputs
        self.takes_token_ids = inner.takes_token_ids
        self.parameters: Mapping[Operation, frozenset[str]] = {**inner.parameters, "transcription": _MEMBERS}

    async def complete(self, call: ProviderCall) -> ProviderReply:
        """Return the whole answer; raises `ProviderError`."""
        if call.operation != "transcription":
            return await self._inner.complete(call)
        return _from_chat(await self._inner.complete(await _to_chat(call)))

    def stream(self, call: ProviderCall) -> AsyncIterator[list[bytes]]:
        """Yield the chunks in order; raises `ProviderError`."""
        return self._inner.stream(call)


async def _to_chat(call: ProviderCall) -> ProviderCall:
    if call.file is None:
        raise TypeError("a transcription needs a file")
    fields = json.decode(call.body, type=_Fields, strict=False)
    spoken = f" The language is `{fields.language}`." if fields.language else ""
    text = fields.prompt or f"Transcribe this recording. Answer with the transcript only.{spoken}"
    parts = [
        {"type": "input_audio", "input_audio": base64.b64encode(await call.file.read()).decode()},
        {"type": "text", "text": text},
    ]
    chat: dict[str, Any] = {"model": fields.model, "messages": [{"role": "user", "content": parts}]}
    if fields.temperature is not None:
        chat["temperature"] = float(fields.temperature)
    return replace(call, operation="chat", body=json.encode(chat), file=None)


def _from_chat(reply: ProviderReply) -> ProviderReply:
    try:
        found = json.decode(reply.body, type=_Completion)
        content = found.choices[0].message.content
    except (*UNREADABLE, IndexError) as error:
        raise ProviderError(f"The provider sent a malformed answer: {error}", reason="malformed") from error
    text = content if isinstance(content, str) else "".join(part.text for part in content or ())
    return ProviderReply(json.encode({"text": text.strip(), "usage": found.usage}), reply.request_id)
