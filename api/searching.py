"""Search for a caller: the vector of the query by a job of the embedding model, then the index."""

import asyncio
from base64 import b64decode
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct, json

from api.call import Call
from api.inner_jobs import run_inner
from api.knowledge import find_embedding_router
from api.limits import Estimate
from api.reranking import RERANKED, rerank, reranker_of
from api.submission import Submission
from shared.chunks.queries import read_chunks, to_chunk
from shared.collections.errors import VectorSizeError
from shared.collections.queries import list_visible
from shared.collections.tables import CollectionRow
from shared.directory import Router
from shared.jobs.schemas import EMBEDDING
from shared.retrieval.index import fuse, unit_vector
from shared.retrieval.scope import Hit, Scope
from shared.retrieval.sqlite import Vector
from shared.search.schemas import SearchArgs, SearchResult
from shared.tokens import count_tokens
from shared.usage.schemas import Usage, zero_usage
from shared.usage.sums import usage_sum

SEARCH: Final = "/v1/search"
_MOST_FUSED: Final = 1000


class Found(Struct, frozen=True):
    """What a search gave."""

    results: list[SearchResult]
    usage: Usage


class _Embedding(Struct):
    embedding: str


class _Embedded(Struct):
    data: list[_Embedding]
    usage: Usage


_EMBEDDED: Final = json.Decoder(_Embedded)


async def embed_query(call: Call, router: Router, text: str, endpoint: str) -> tuple[Vector, Usage]:
    """Return the vector of a query, of length 1, from a job of its own; raises the errors of one."""
    model = call.model or router.name
    estimate = Estimate(prompt_tokens=count_tokens(text), output_tokens=0, answers=0)
    submission = Submission(kind=EMBEDDING, endpoint=endpoint, router=router, model=model, estimate=estimate)
    body = json.encode({"model": model, "input": [text], "encoding_format": "base64"})
    found = _EMBEDDED.decode(await run_inner(call, submission, body))
    return unit_vector(np.frombuffer(b64decode(found.data[0].embedding), "<f4")), found.usage


async def search(call: Call, args: SearchArgs, collection_ids: Sequence[int], query: str) -> Found:
    """Return the chunks that answer the query best, of collections that the caller may read.

    Raises `NotFoundError` for a collection he may not, `VectorSizeError` for one whose vectors another model made.
    """
    async with call.state.database.read() as session:
        collections = await list_visible(session, call.caller.user_id, collection_ids)
    if not collections:
        return Found([], zero_usage())
    await call.state.index.check()
    vector, usage, ids = None, zero_usage(), [row.id or 0 for row in collections]
    if args.method != "lexical":
        router = await find_embedding_router(call)
        vector, usage = await embed_query(call, router, query, SEARCH)
        ids = _comparable(collections, len(vector), router.name, is_named=bool(collection_ids))
    reranker = reranker_of(collections)
    most = max(args.offset + args.limit, RERANKED if reranker is not None else 0)
    hits = await _rank(call, args, [row.id or 0 for row in collections], ids, query, vector, most)
    if args.method == "semantic":
        hits = [Hit(hit.chunk_id, hit.document_id, hit.number, _share(hit.score)) for hit in hits]
    if reranker is not None and hits:
        hits, more = await rerank(call, reranker, query, hits, SEARCH)
        usage = usage_sum(usage, more)
    page = hits[args.offset : args.offset + args.limit]
    async with call.state.database.read() as session:
        rows = await read_chunks(session, [hit.chunk_id for hit in page])
    results = [
        SearchResult(method=args.method, score=hit.score, chunk=to_chunk(rows[hit.chunk_id]))
        for hit in page
        if hit.chunk_id in rows
    ]
    return Found(results, usage)


def _comparable(rows: Sequence[CollectionRow], size: int, model: str, *, is_named: bool) -> list[int]:
    """Return the collections whose vectors have the size of the query's; raises `VectorSizeError` for a named one."""
    for row in rows:
        if is_named and row.dimensions not in (None, size):
            raise VectorSizeError(model, row.dimensions or 0, size)
    return [row.id or 0 for row in rows if row.dimensions == size]


async def _rank(  # noqa: PLR0913, PLR0917  # what a search consists of
    call: Call, args: SearchArgs, ids: Sequence[int], comparable: Sequence[int], query: str, vector: Vector | None,
    most: int,
) -> list[Hit]:  # fmt: skip
    index = call.state.index
    if args.method == "lexical":
        return await index.by_words(_scope(args, ids), query, most)
    if vector is None:
        raise TypeError("a search by vectors needs one")
    if args.method == "semantic":
        at_least = 2 * args.score_threshold - 1 if args.score_threshold > 0 else -2.0
        return await index.by_vector(_scope(args, comparable), vector, most, at_least)
    wide = max(_MOST_FUSED, 2 * most)
    lists = await asyncio.gather(
        index.by_vector(_scope(args, comparable), vector, wide), index.by_words(_scope(args, ids), query, wide)
    )
    return fuse(lists, args.rff_k, most)


def _scope(args: SearchArgs, collection_ids: Sequence[int]) -> Scope:
    filters = args.metadata_filters
    members: dict[str, Any] = {}
    if filters is not None:
        members = {"comparisons": filters.comparisons([]), "operator": filters.operator or "and"}
    return Scope(collection_ids=collection_ids, document_ids=args.document_ids, **members)


def _share(cosine: float) -> float:
    """Return a cosine as a score from 0 to 1."""
    return min(max((1 + cosine) / 2, 0.0), 1.0)
