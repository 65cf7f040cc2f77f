"""Second step: vectors of texts, in batches, from the provider of the attempt."""

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Raw, Struct, json

from shared.retrieval.index import unit_vector
from shared.retrieval.sqlite import Vector
from shared.tokens import count_input_tokens
from worker.context import JobContext
from worker.jobs.batches import call_in_batches
from worker.jobs.embedding import decode_answer
from worker.jobs.upstream import MALFORMED, call_provider, malformed, request_id_of

BATCH: Final = 32
_FLOATS: Final = json.Decoder(list[float])


class Embedded(Struct, frozen=True):
    """What one call gave."""

    vectors: list[Vector]
    """Of length 1."""
    prompt_tokens: int
    is_estimated: bool
    request_id: str | None


async def embed(ctx: JobContext, texts: Sequence[str]) -> list[Embedded]:
    """Return the vectors of the texts, in as many calls as the provider needs; raises `ProviderError`."""

    async def call(_start: int, batch: Sequence[str]) -> Embedded:
        body = json.encode({"model": ctx.provider.model_name, "input": batch})
        reply = await call_provider(ctx, "embedding", body)
        try:
            written, reported = decode_answer(reply.body, len(batch))
            vectors = [unit_vector(one) for one in _floats(written)]
        except (*MALFORMED, ValueError, struct.error, OverflowError) as error:
            raise malformed(error) from error
        tokens = count_input_tokens(list(batch)) if reported is None else reported
        return Embedded(vectors, tokens, reported is None, request_id_of(reply))

    return await call_in_batches(texts, min(BATCH, ctx.runtime.adapters[ctx.provider.type].max_inputs), call)


def _floats(written: Sequence[Raw]) -> Vector:
    """Return vectors as the rows of a matrix; raises `ValueError` if they are none, or of different sizes."""
    values = np.asarray([_FLOATS.decode(one) for one in written], np.float32)
    if values.ndim != 2 or not values.shape[1] or not np.isfinite(values).all():
        raise ValueError("an embedding is a list of numbers")
    return values
