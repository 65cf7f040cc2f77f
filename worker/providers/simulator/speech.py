"""Speech of the simulator: a tone as WAV or PCM, silence as MP3; the longer the text, the longer the sound."""

import asyncio
import hashlib
import io
import math
import struct
import wave
from typing import Final

from msgspec import Struct, json

from shared.unreadable import UNREADABLE
from worker.providers.base import ProviderCall, ProviderError, ProviderReply
from worker.providers.simulator.script import Script, begin

_RATE_HZ: Final = 8000
_SECONDS_PER_WORD: Final = 0.2
_LONGEST_S: Final = 10.0
_AMPLITUDE: Final = 8000
_SILENT_FRAME: Final = b"\xff\xfb\x90\xc4" + bytes(413)
"""MPEG-1 layer III, 128 kbit/s, 44.1 kHz, mono: 417 bytes, 26 ms."""
_FRAME_S: Final = 1152 / 44_100


class _Request(Struct):
    """What the simulator reads of a request."""

    input: str
    voice: str
    response_format: str | None = None
    speed: float | None = None
    simulator: Script = Script()


async def complete_speech(call: ProviderCall) -> ProviderReply:
    """Return the sound; raises `ProviderError`."""
    try:
        request = json.decode(call.body, type=_Request, strict=False)
    except UNREADABLE as error:
        raise ProviderError(
            f"simulator: {error}", blame="request", reason="http_400", status=400, param="simulator"
        ) from error
    fails = await begin(request.simulator, call.attempt)
    await asyncio.sleep(request.simulator.chunk_delay_ms * len(request.input.split()) / 1000)
    if fails == "cut":
        raise ProviderError("The provider closed the connection.", reason="connection")
    if fails == "malformed":
        return ProviderReply(b"", None)
    seconds = min(len(request.input.split()) * _SECONDS_PER_WORD + _SECONDS_PER_WORD, _LONGEST_S) / (request.speed or 1)
    match request.response_format or "mp3":
        case "mp3":
            return ProviderReply(_SILENT_FRAME * math.ceil(seconds / _FRAME_S), "sim-request-1", "audio/mpeg")
        case "wav":
            return ProviderReply(_wav(_tone(request.voice, seconds)), "sim-request-1", "audio/wav")
        case "pcm":
            return ProviderReply(_tone(request.voice, seconds), "sim-request-1", "audio/pcm")
    message = "The simulator speaks mp3, wav and pcm."
    raise ProviderError(message, blame="request", reason="http_400", status=400, param="response_format")


def _tone(voice: str, seconds: float) -> bytes:
    """Return 16-bit samples; every voice has its own pitch."""
    pitch_hz = 200 + hashlib.sha256(voice.encode()).digest()[0]
    period = [
        round(_AMPLITUDE * math.sin(2 * math.pi * pitch_hz * number / _RATE_HZ)) for number in range(_RATE_HZ)
    ]  # one second, repeated
    count = int(seconds * _RATE_HZ)
    samples = (period * (count // _RATE_HZ + 1))[:count]
    return struct.pack(f"<{count}h", *samples)


def _wav(samples: bytes) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE_HZ)
        file.writeframes(samples)
    return target.getvalue()
