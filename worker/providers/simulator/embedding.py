"""Embeddings of the simulator: unit vectors, the same for the same text, near one another if texts share words."""

import asyncio
import hashlib
import struct
from collections.abc import Iterable
from itertools import islice
from math import sqrt
from typing import Any, Final

from msgspec import Struct

from shared.chat.schemas import Message
from shared.chat.text import to_text
from shared.text_input import Input, TextInput, to_inputs
from shared.tokens import count_input_tokens
from worker.providers.base import ProviderCall, ProviderReply
from worker.providers.simulator.script import Script, answer, read_request, refusal

_DIMENSIONS: Final = 64
_MAX_DIMENSIONS: Final = 4096
_MAX_WORDS: Final = 50
_MIDDLE: Final = 127.5
"""Of a byte."""


class SimulatedRequest(Struct, kw_only=True):
    """What the simulator reads of a request."""

    model: str
    input: TextInput = ""
    messages: list[Message] = []
    dimensions: int | None = None
    truncate_prompt_tokens: int | None = None
    simulator: Script = Script()


async def embed(call: ProviderCall) -> ProviderReply:
    """Return the embeddings; raises `ProviderError`."""
    request = read_request(call.body, SimulatedRequest)
    dimensions = request.dimensions or _DIMENSIONS
    if dimensions > _MAX_DIMENSIONS:
        raise refusal(f"simulator: at most {_MAX_DIMENSIONS} dimensions", "dimensions")
    inputs = [to_text(request.messages)] if request.messages else to_inputs(request.input, "input")
    vectors = []
    for one in inputs:
        vectors.append(_vector(one, dimensions))
        await asyncio.sleep(0)  # many take long
    reply: dict[str, Any] = {
        "object": "list",
        "model": request.model,
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)],
    }
    if request.simulator.usage:
        most = request.truncate_prompt_tokens or -1
        counts = [count_input_tokens([one]) for one in inputs]
        tokens = sum(counts) if most < 0 else sum(min(count, most) for count in counts)
        reply["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return await answer(request.simulator, call.attempt, reply)


def _vector(one: Input, dimensions: int) -> tuple[float, ...]:
    """Return a vector of length 1 whose numbers are exact as 32-bit floats."""
    words: Iterable[str] = one.lower().split() if isinstance(one, str) else map(str, one)
    totals = [0.0] * dimensions
    for piece in (*islice(words, _MAX_WORDS), str(one)):  # the whole keeps texts of the same words apart
        digest = hashlib.shake_256(piece.encode()).digest(dimensions)
        totals = [total + byte - _MIDDLE for total, byte in zip(totals, digest, strict=True)]
    length = sqrt(sum(total * total for total in totals))
    form = f"<{dimensions}f"
    return struct.unpack(form, struct.pack(form, *(total / length for total in totals)))
