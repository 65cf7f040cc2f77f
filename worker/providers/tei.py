"""Adapter for Hugging Face's text-embeddings-inference: embeddings in OpenAI's form, rerank in its own.

Source: the API reference of text-embeddings-inference, `/rerank`.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiohttp import ClientSession
from msgspec import Raw, Struct, json
from msgspec.structs import replace

from shared.unreadable import UNREADABLE
from worker.providers.base import Operation, ProviderCall, ProviderError, ProviderReply
from worker.providers.openai_compatible import OpenAICompatible

_PATHS: Final[Mapping[Operation, str]] = {"embedding": "v1/embeddings", "rerank": "rerank"}
_MAX_INPUTS: Final = 32
"""Its own default."""


class _Asked(Struct):
    query: Raw
    documents: Raw


class _Score(Struct):
    index: int
    score: float


class TextEmbeddingsInference:
    """Embeds and reranks; it does not generate."""

    max_inputs = _MAX_INPUTS
    takes_token_ids = True
    parameters: Mapping[Operation, frozenset[str]] = {"rerank": frozenset({"query", "documents", "top_n"})}

    def __init__(self, http: ClientSession) -> None:
        self._server = OpenAICompatible(http, _PATHS)

    async def complete(self, call: ProviderCall) -> ProviderReply:
        """Return the answer; raises `ProviderError`."""
        if call.operation != "rerank":
            return await self._server.complete(call)
        reply = await self._server.complete(replace(call, body=_to_body(call.body)))
        return replace(reply, body=_from_body(reply.body))

    def stream(self, call: ProviderCall) -> AsyncIterator[list[bytes]]:
        """Raise `ProviderError`: nothing is streamed."""
        return self._server.stream(call)


def _to_body(body: bytes) -> bytes:
    asked = json.decode(body, type=_Asked)
    options = {"raw_scores": False, "return_text": False, "truncate": False, "truncation_direction": "right"}
    return json.encode({"query": asked.query, "texts": asked.documents, **options})


def _from_body(body: bytes) -> bytes:
    try:
        scores = json.decode(body, type=list[_Score])
    except UNREADABLE as error:
        raise ProviderError(f"The provider sent a malformed answer: {error}", reason="malformed") from error
    return json.encode({"results": [{"index": one.index, "relevance_score": one.score} for one in scores]})
