"""Job kind `rerank`: score documents against a query, in as many calls as the provider needs; best first."""

from collections.abc import Sequence
from math import isfinite

from msgspec import Raw, Struct, json

from shared.directory import Provider, Router
from shared.tokens import count_input_tokens
from shared.usage.schemas import Usage
from worker.context import JobContext, Produced, Runtime
from worker.jobs.batches import call_in_batches, count_batches
from worker.jobs.upstream import (
    MALFORMED,
    UpstreamUsage,
    call_provider,
    identity_of,
    malformed,
    request_id_of,
    to_members,
    to_prompt_tokens,
)


class _Asked(Struct, kw_only=True):
    query: str
    documents: list[str]
    top_n: int | None = None


class _Result(Struct):
    index: int
    relevance_score: float


class _UpstreamReranks(Struct):
    results: list[_Result]
    usage: UpstreamUsage | None = None


class _Batch(Struct, frozen=True):
    """What one call gave; indexes are those of the caller's documents."""

    results: list[_Result]
    prompt_tokens: int
    is_estimated: bool
    request_id: str | None


_ASKED = json.Decoder(_Asked, strict=False)
_ANSWER = json.Decoder(_UpstreamReranks)


async def run_rerank(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    asked, members = _read(ctx.provider, ctx.request)
    query, documents = asked.query, asked.documents

    async def rank(start: int, batch: Sequence[str]) -> _Batch:
        members["documents"] = Raw(json.encode(batch))
        reply = await call_provider(ctx, "rerank", json.encode(members))
        try:
            answer = _ANSWER.decode(reply.body)
            _check(answer.results, len(batch))
        except (*MALFORMED, ValueError) as error:
            raise malformed(error) from error
        for result in answer.results:
            result.index += start
        reported = to_prompt_tokens(answer.usage)
        tokens = count_input_tokens([query, *batch]) if reported is None else reported
        return _Batch(answer.results, tokens, reported is None, request_id_of(reply))

    batches = await call_in_batches(ctx, documents, rank)
    results = [result for batch in batches for result in batch.results]
    results.sort(key=lambda result: (-result.relevance_score, result.index))
    return Produced(
        tokens=count_batches(batches),
        render=lambda usage: _render(ctx, results[: asked.top_n], usage),
        provider_request_id=batches[-1].request_id,
    )


async def to_rerank_body(_runtime: Runtime, _router: Router, provider: Provider, request: bytes) -> bytes:
    """Return the body of the call, if one is enough."""
    return json.encode(_read(provider, request)[1])


def _read(provider: Provider, request: bytes) -> tuple[_Asked, dict[str, Raw]]:
    """Return what is asked for, without white space around it, and the members that the provider gets."""
    asked = _ASKED.decode(request)
    asked.query, asked.documents = asked.query.strip(), [document.strip() for document in asked.documents]
    members = to_members(request, provider.model_name, "rerank")
    members |= {"query": Raw(json.encode(asked.query)), "documents": Raw(json.encode(asked.documents))}
    return asked, members


def _check(results: list[_Result], documents: int) -> None:
    """Raise `ValueError` unless each result is about another one of the documents."""
    indexes = {result.index for result in results}
    if not results or len(indexes) < len(results) or not indexes <= set(range(documents)):
        raise ValueError(f"results for {documents} documents were expected")
    if not all(isfinite(result.relevance_score) for result in results):
        raise ValueError("a score is not a number")


def _render(ctx: JobContext, results: list[_Result], usage: Usage) -> bytes:
    ranked = [{"relevance_score": result.relevance_score, "index": result.index} for result in results]
    return json.encode({**identity_of(ctx), "object": "list", "results": ranked, "usage": usage})
