"""Job kind `embedding`: turn inputs into vectors, in as many calls as the provider needs.

Providers are asked for floats, which all of them know; base64 is made here, and read here if it comes all the same.
Vectors that are wanted as the provider wrote them are not decoded.
"""

import struct
from base64 import b64decode, b64encode
from collections.abc import Sequence
from math import isfinite
from typing import Any, Final

from msgspec import Raw, Struct, json
from msgspec.structs import replace

from shared.chat.schemas import Message
from shared.chat.text import has_other_parts, to_text
from shared.directory import Provider, Router
from shared.text_input import Input, TextInput, to_inputs
from shared.tokens import count_input_tokens
from shared.usage.schemas import Usage
from worker.context import JobContext, Produced, Runtime
from worker.jobs.batches import call_in_batches, count_batches
from worker.jobs.token_ids import cut, with_texts
from worker.jobs.upstream import (
    MALFORMED,
    OF_SLUICE,
    UpstreamUsage,
    call_provider,
    identity_of,
    malformed,
    request_id_of,
    takes_all,
    to_members,
    to_prompt_tokens,
)
from worker.providers.base import ProviderError

_FLOAT_BYTES: Final = 4
_OF_NUMBERS: Final = b"+-.0123456789eE, \t\r\n"
"""What a list of numbers is made of, beside its brackets."""
_OF_ENGINES: Final = (
    "truncate_prompt_tokens", "add_special_tokens", "chat_template", "chat_template_kwargs", "mm_processor_kwargs",
)  # fmt: skip
"""Members that other servers refuse."""


class _Asked(Struct, kw_only=True):
    input: TextInput | None = None
    messages: list[Message] | None = None
    encoding_format: str | None = None
    dimensions: int | None = None
    truncate_prompt_tokens: int | None = None


class _UpstreamEmbedding(Struct):
    embedding: Raw
    index: int | None = None


class _UpstreamEmbeddings(Struct):
    data: list[_UpstreamEmbedding]
    usage: UpstreamUsage | None = None


class _Batch(Struct, frozen=True):
    """What one call gave: vectors in order, in the form that the caller wants."""

    vectors: list[Raw | str]
    prompt_tokens: int
    is_estimated: bool
    request_id: str | None


_ASKED: Final = json.Decoder(_Asked, strict=False)
_ANSWER: Final = json.Decoder(_UpstreamEmbeddings)
_FLOATS: Final = json.Decoder(list[float])


async def run_embedding(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    asked, members, inputs = await _read(ctx.runtime, ctx.router, ctx.provider, ctx.request)

    async def embed(_start: int, batch: Sequence[Input]) -> _Batch:
        if len(batch) < len(inputs):
            members["input"] = Raw(json.encode(batch))
        reply = await call_provider(ctx, "embedding", json.encode(members))
        try:
            written, reported = decode_answer(reply.body, len(batch))
            vectors = [_to_wanted(vector, asked) for vector in written]
        except (*MALFORMED, ValueError, struct.error, OverflowError) as error:
            raise malformed(error) from error
        tokens = count_input_tokens(batch) if reported is None else reported
        return _Batch(vectors, tokens, reported is None, request_id_of(reply))

    batches = await call_in_batches(ctx, inputs, embed)
    return Produced(
        tokens=count_batches(batches),
        render=lambda usage: _render(ctx, [vector for batch in batches for vector in batch.vectors], usage),
        provider_request_id=batches[-1].request_id,
    )


async def to_embedding_body(runtime: Runtime, router: Router, provider: Provider, request: bytes) -> bytes:
    """Return the body of the call, if one is enough; raises `ProviderError`."""
    return json.encode((await _read(runtime, router, provider, request))[1])


async def _read(
    runtime: Runtime, router: Router, provider: Provider, request: bytes
) -> tuple[_Asked, dict[str, Raw], list[Input]]:
    """Return what is asked for, the members that this provider gets, and the single inputs."""
    asked = _ASKED.decode(request)
    readable = request
    if asked.messages is None:
        inputs = to_inputs(asked.input or "", "input")
        readable = await with_texts(runtime, router, provider, request, "input", inputs)
    if readable is not request:
        asked = _ASKED.decode(readable)
    members = to_members(readable, provider.model_name, "embedding")
    for name in ("encoding_format", "additional_data", *OF_SLUICE):
        members.pop(name, None)
    found = _inputs(provider, asked, members)
    most = router.max_context_length if asked.truncate_prompt_tokens == -1 else asked.truncate_prompt_tokens
    if most and not takes_all(provider):
        found = await cut(runtime, router, found, most)
        members["input"] = Raw(json.encode(found))
    return asked, members, found


def _inputs(provider: Provider, asked: _Asked, members: dict[str, Raw]) -> list[Input]:
    """Return the single inputs; a conversation is one, as a text for providers that read none."""
    if not takes_all(provider):
        for name in _OF_ENGINES:
            members.pop(name, None)
    if asked.messages is None:
        return to_inputs(asked.input or "", "input")
    text = to_text(asked.messages)
    if not takes_all(provider):
        if has_other_parts(asked.messages):
            raise ProviderError(
                "The model embeds conversations of text only.", blame="request", reason="unsupported_value", status=400,
                code="unsupported_value", param="messages",
            )  # fmt: skip
        del members["messages"]
        members["input"] = Raw(json.encode(text))
    return [text]


def decode_answer(body: bytes, expected: int) -> tuple[list[Raw], int | None]:
    """Return the vectors of a provider's answer in the order of the inputs, and the tokens it reports.

    Raises `msgspec.DecodeError`, and `ValueError` if they are not one for each input.
    """
    answer = _ANSWER.decode(body)
    return _in_order(answer.data, expected), to_prompt_tokens(answer.usage)


def _in_order(data: list[_UpstreamEmbedding], expected: int) -> list[Raw]:
    """Return the vectors by index; raises `ValueError` if they are not one for each input."""
    numbered = [replace(one, index=place) if one.index is None else one for place, one in enumerate(data)]
    numbered.sort(key=lambda one: one.index or 0)
    if [one.index for one in numbered] != list(range(expected)):
        raise ValueError(f"{expected} embeddings were expected")
    return [one.embedding for one in numbered]


def _to_wanted(vector: Raw, asked: _Asked) -> Raw | str:
    """Return a vector as the caller wants it; raises `ProviderError` if it has another size."""
    written = bytes(vector)
    values: tuple[float, ...] | None = None
    if written.startswith(b'"'):
        packed = b64decode(json.decode(written, type=str), validate=True)
        values = struct.unpack(f"<{len(packed) // _FLOAT_BYTES}f", packed)
        size = len(packed) // _FLOAT_BYTES
        if not all(map(isfinite, values)):
            raise ValueError("an embedding has numbers that JSON does not have")
    elif written.translate(None, _OF_NUMBERS) == b"[]" and written[1:-1].strip():
        size = written.count(b",") + 1
    else:
        raise ValueError("an embedding is a list of numbers, or base64")
    if asked.dimensions is not None and size != asked.dimensions:
        raise ProviderError(
            f"The model's embeddings have {size} dimensions.", blame="request", reason="dimensions", status=400,
            code="unsupported_parameter", param="dimensions",
        )  # fmt: skip
    if asked.encoding_format != "base64":
        return vector if values is None else Raw(json.encode(values))
    floats: Sequence[float] = _FLOATS.decode(written) if values is None else values
    return b64encode(struct.pack(f"<{len(floats)}f", *floats)).decode()


def _render(ctx: JobContext, vectors: Sequence[Raw | str], usage: Usage) -> bytes:
    data: list[dict[str, Any]] = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
    ]
    return json.encode({**identity_of(ctx), "object": "list", "data": data, "usage": usage})
