"""Transcriptions of the simulator: the same words for the same bytes."""

import asyncio
import hashlib
from typing import Any, Final

from msgspec import Struct, json

from shared.unreadable import UNREADABLE
from worker.providers.base import ProviderCall, ProviderError, ProviderReply
from worker.providers.simulator.script import Script, begin
from worker.providers.simulator.words import made_up_words

_WORDS_PER_SEGMENT: Final = 5
_SECONDS_PER_WORD: Final = 0.4


class _Fields(Struct):
    """What the simulator reads of the form; `simulator` is a JSON text there."""

    prompt: str = ""
    language: str = ""
    response_format: str = "json"
    simulator: str = "{}"


async def complete_transcription(call: ProviderCall) -> ProviderReply:
    """Return the transcript; raises `ProviderError`."""
    try:
        fields = json.decode(call.body, type=_Fields)
        script = json.decode(fields.simulator, type=Script, strict=False)
    except UNREADABLE as error:
        raise ProviderError(
            f"simulator: {error}", blame="request", reason="http_400", status=400, param="simulator"
        ) from error
    fails = await begin(script, call.attempt)
    data = b"" if call.file is None else await call.file.read()
    words = script.text.split(" ") if script.text is not None else _words(data, script)
    await asyncio.sleep(script.chunk_delay_ms * len(words) / 1000)
    if fails == "cut":
        raise ProviderError("The provider closed the connection.", reason="connection")
    if fails == "malformed":
        return ProviderReply(b'{"text": ', None)
    answer: dict[str, Any] = {"text": " ".join(words)}
    if fields.response_format in ("verbose_json", "diarized_json"):
        segments = _segments(words, is_diarized=fields.response_format == "diarized_json")
        duration = len(words) * _SECONDS_PER_WORD
        answer |= {"task": "transcribe", "language": fields.language or "en", "duration": duration}
        answer["segments"] = segments
    if script.usage:
        answer["usage"] = {"type": "tokens", "input_tokens": len(fields.prompt.split()), "output_tokens": len(words)}
    return ProviderReply(json.encode(answer), "sim-request-1")


def _words(data: bytes, script: Script) -> list[str]:
    return made_up_words(hashlib.sha256(data).digest(), script.tokens)


def _segments(words: list[str], *, is_diarized: bool) -> list[dict[str, Any]]:
    segments: list[dict[str, Any]] = []
    for number, first in enumerate(range(0, len(words), _WORDS_PER_SEGMENT)):
        part = words[first : first + _WORDS_PER_SEGMENT]
        start = first * _SECONDS_PER_WORD
        segment = {"id": number, "text": " ".join(part), "start": start, "end": start + len(part) * _SECONDS_PER_WORD}
        segments.append(segment | ({"speaker": "A"} if is_diarized else {}))
    return segments
