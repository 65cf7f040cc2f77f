"""Search in vector stores, for their own route and for RAG chats."""

from collections.abc import Sequence
from typing import Final

from api.call import Call, Draft
from api.searching import embed_query
from api.submission import find_router
from shared.clock import to_iso
from shared.collections.errors import FeatureNotEnabledError, VectorSizeError
from shared.collections.tables import CollectionRow
from shared.directory import Router
from shared.documents.tables import DocumentRow
from shared.models.schemas import EMBEDDING_TYPES
from shared.retrieval.scope import Scope
from shared.retrieval.sqlite import Vector
from shared.usage.schemas import Usage
from shared.vector_stores.queries import StoreOwner, read_hits
from shared.vector_stores.schemas import StoreHit

_WIDER: Final = 4
_DIGITS: Final = 6


def owner_of(draft: Draft) -> StoreOwner:
    """Return whose vector stores the caller's key reaches."""
    caller = draft.caller
    return StoreOwner(caller.user_id, caller.key_id or 0 if caller.is_subscription else 0)


async def router_of(call: Call, store: CollectionRow | None) -> Router:
    """Return the router whose vectors a vector store has; raises `FeatureNotEnabledError` if there is none."""
    name = (store.embedding_model if store is not None else None) or call.state.settings.vector_store_model
    if name is None:
        raise FeatureNotEnabledError
    await call.state.index.check()
    return await find_router(call, name, EMBEDDING_TYPES)


async def search_store(
    call: Call, store: CollectionRow, text: str, limit: int, at_least: float
) -> tuple[list[StoreHit], Usage]:
    """Return the items nearest to a text, one result each, and what the text's vector cost."""
    router = await router_of(call, store)
    vector, usage = await embed_query(call, router, text, f"/v1/vector_store/{store.slug}/search")
    if store.dimensions not in (None, len(vector)):
        raise VectorSizeError(router.name, store.dimensions or 0, len(vector))
    return ([] if store.dimensions is None else await _nearest(call, store, vector, limit, at_least)), usage


async def _nearest(call: Call, store: CollectionRow, vector: Vector, limit: int, at_least: float) -> list[StoreHit]:
    """Look wider until there are enough different items."""
    scope, most = Scope(collection_ids=[store.id or 0]), limit * _WIDER
    while True:
        hits = await call.state.index.by_vector(scope, vector, most, at_least if at_least > 0 else -2.0)
        async with call.state.database.read() as session:
            rows = await read_hits(session, [hit.chunk_id for hit in hits])
        best: dict[str, StoreHit] = {}
        for hit in hits:
            if hit.chunk_id in rows:
                chunk, item, document = rows[hit.chunk_id]
                best.setdefault(
                    item.id,
                    StoreHit(
                        id=f"item_{item.id}", created=to_iso(item.created_ms), content=chunk.content,
                        description=item.description, score=round(hit.score, _DIGITS), file_id=file_id_of(document),
                    ),
                )  # fmt: skip
        if len(best) >= limit or len(hits) < most:
            return _ordered(list(best.values()))[:limit]
        most *= _WIDER


def _ordered(hits: Sequence[StoreHit]) -> list[StoreHit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def file_id_of(document: DocumentRow) -> str | None:
    """Return the public id of the file that an item is from."""
    return f"file-{document.job_id}" if document.kind == "file" else None
