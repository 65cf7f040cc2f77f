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
from worker.jobs.batches import call_in_batches, count_batches
from worker.jobs.embedding import decode_answer
from worker.jobs.upstream import MALFORMED, call_provider, malformed, request_id_of

_FLOATS: Final = json.Decoder(list[float])


class Embedded(Struct, frozen=True):
    """What one call gave."""

    vectors: list[Vector]
    """Of length 1."""
    prompt_tokens: int
    is_estimated: bool
    request_id: str | None


async def embed(ctx: JobContext, texts: Sequence[str], done: list[Embedded]) -> list[Vector]:
    """Return the vectors of the texts, in as many calls as the provider needs; raises `ProviderError`.

    What the calls gave is added to `done`, all calls of the attempt: they have been made, whatever comes.
    """

    async def call(_start: int, batch: Sequence[str]) -> Embedded:
        ctx.count_so_far = lambda: count_batches(done)
        body = json.encode({"model": ctx.provider.model_name, "input": batch})
        reply = await call_provider(ctx, "embedding", body)
        try:
            written, reported = decode_answer(reply.body, len(batch))
            vectors = [unit_vector(one) for one in _floats(written)]
        except (*MALFORMED, ValueError, struct.error, OverflowError) as error:
            raise malformed(error) from error
        tokens = count_input_tokens(list(batch)) if reported is None else reported
        made = Embedded(vectors, tokens, reported is None, request_id_of(reply))
        done.append(made)
        return made

    return [vector for one in await call_in_batches(ctx, texts, call) for vector in one.vectors]


def _floats(written: Sequence[Raw]) -> Vector:
    """Return vectors as the rows of a matrix; raises `ValueError` if they are none, or of different sizes."""
    values = np.asarray([_FLOATS.decode(one) for one in written], np.float32)
    if values.ndim != 2 or not values.shape[1] or not np.isfinite(values).all():
        raise ValueError("an embedding is a list of numbers")
    return values
