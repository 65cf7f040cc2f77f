"""Order what a search has found by a model that compares it with the query."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct, json

from api.call import Call
from api.inner_jobs import run_inner
from api.limits import Estimate
from api.submission import Submission, find_router
from shared.chunks.queries import read_chunks
from shared.collections.tables import CollectionRow
from shared.jobs.schemas import RERANK
from shared.models.schemas import RERANK_TYPES
from shared.retrieval.scope import Hit
from shared.tokens import count_input_tokens
from shared.usage.schemas import Usage

RERANKED: Final = 100
"""The first hits of a search, whatever page is asked for; those behind them keep their order."""


class _Rank(Struct):
    index: int
    relevance_score: float


class _Ranks(Struct):
    results: list[_Rank]
    usage: Usage


_RANKS: Final = json.Decoder(_Ranks)


def reranker_of(collections: Sequence[CollectionRow]) -> str | None:
    """Return the model that orders what is found in these collections; None if they do not agree on one."""
    models = {row.rerank_model for row in collections}
    return models.pop() if len(models) == 1 else None


async def rerank(call: Call, model: str, query: str, hits: Sequence[Hit], endpoint: str) -> tuple[list[Hit], Usage]:
    """Return the hits in their new order, with new scores, and what that cost; raises the errors of a job."""
    router = await find_router(call, model, RERANK_TYPES)
    async with call.state.database.read() as session:
        rows = await read_chunks(session, [hit.chunk_id for hit in hits[:RERANKED]])
    first = [hit for hit in hits[:RERANKED] if hit.chunk_id in rows]
    documents = [rows[hit.chunk_id].content for hit in first]
    estimate = Estimate(prompt_tokens=count_input_tokens([query, *documents]), output_tokens=0, answers=0)
    submission = Submission(kind=RERANK, endpoint=endpoint, router=router, model=model, estimate=estimate)
    body = json.encode({"model": model, "query": query, "documents": documents})
    found = _RANKS.decode(await run_inner(call, submission, body))
    ordered = [
        Hit(first[one.index].chunk_id, first[one.index].document_id, first[one.index].number, one.relevance_score)
        for one in found.results
    ]
    return [*sorted(ordered, key=lambda hit: hit.order), *hits[RERANKED:]], found.usage
