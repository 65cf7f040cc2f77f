"""/v1/vector_store: collections of texts and files that are searched by meaning."""

from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from api.call import Call
from api.http import Routes
from api.once import keep_answer
from api.respond import ERRORS
from api.stores import owner_of, router_of, search_store
from api.trim import trimmed
from shared.clock import now_ms, to_iso
from shared.collections.errors import FeatureNotEnabledError, StoreNotFoundError, VectorSizeError
from shared.collections.queries import VECTOR_STORE
from shared.collections.tables import CollectionRow
from shared.dialects import VULTR
from shared.documents.removal import hide_collection, remove_collection
from shared.errors import ConflictError, ModelNotAllowedError, ModelNotFoundError, WrongModelTypeError
from shared.vector_stores.queries import count_contents, get_store, list_slugs, list_stores
from shared.vector_stores.schemas import (
    ListQuery,
    Store,
    StoreHits,
    StoreList,
    StoreNameRequest,
    StoreReply,
    StoreSearchRequest,
)
from shared.vector_stores.slugs import free_slug

routes = Routes("Vector store", dialect=VULTR)
PATH = "/v1/vector_store"
_TRIES = 5
_MODEL_ERRORS = (FeatureNotEnabledError, ModelNotFoundError, ModelNotAllowedError, WrongModelTypeError)


@routes.post(PATH, status=201, raises=(*_MODEL_ERRORS, ConflictError))
async def create_vector_store(call: Call, body: StoreNameRequest) -> StoreReply:
    """Create a vector store; its id is made of its name and stays."""
    name = trimmed(body.name, "name")
    router = await router_of(call, None)
    for _ in range(_TRIES):
        try:
            return await _create(call, name, router.name)
        except IntegrityError:  # somebody took the id at the same moment
            continue
    raise ConflictError("The name is taken.")


async def _create(call: Call, name: str, model: str) -> StoreReply:
    now, owner = now_ms(), owner_of(call)
    async with call.state.database.transaction() as session:
        slug = free_slug(name, await list_slugs(session, owner))
        row = CollectionRow(
            surface=VECTOR_STORE, user_id=owner.user_id, owner_key_id=owner.key_id, name=name, slug=slug,
            embedding_model=model, created_ms=now, updated_ms=now,
        )  # fmt: skip
        session.add(row)
        await session.flush()
        return await keep_answer(session, call, StoreReply(collection=await _to_store(session, row)))


@routes.get(PATH, raises=(StoreNotFoundError,))
async def list_vector_stores(call: Call, query: ListQuery) -> StoreList:
    """List the caller's vector stores, the oldest first."""
    async with call.state.database.read() as session:
        rows, has_more = await list_stores(session, owner_of(call), query)
        found = StoreList(collections=[await _to_store(session, row) for row in rows])
    if query.limit is not None:
        found.has_more, found.last_id = has_more, rows[-1].slug if rows else None
    return found


@routes.get(PATH + "/{store_id}", raises=(StoreNotFoundError,))
async def get_vector_store(call: Call, store_id: str) -> StoreReply:
    """Get a vector store."""
    async with call.state.database.read() as session:
        row = await get_store(session, owner_of(call), store_id)
        return StoreReply(collection=await _to_store(session, row))


@routes.put(PATH + "/{store_id}", raises=(StoreNotFoundError,))
async def update_vector_store(call: Call, store_id: str, body: StoreNameRequest) -> StoreReply:
    """Rename a vector store; its id stays."""
    async with call.state.database.transaction() as session:
        row = await get_store(session, owner_of(call), store_id)
        row.name, row.updated_ms = trimmed(body.name, "name"), now_ms()
        return StoreReply(collection=await _to_store(session, row))


@routes.delete(PATH + "/{store_id}", status=204, raises=(StoreNotFoundError,))
async def delete_vector_store(call: Call, store_id: str) -> None:
    """Delete a vector store with its items and files."""
    async with call.state.database.transaction() as session:
        row = await get_store(session, owner_of(call), store_id)
        hide_collection(row)
    await remove_collection(call.state.database, call.state.files, row.id or 0)
    await call.state.index.forget(row.id or 0)


@routes.post(PATH + "/{store_id}/search", raises=(*ERRORS, StoreNotFoundError, FeatureNotEnabledError, VectorSizeError))
async def search_vector_store(call: Call, store_id: str, body: StoreSearchRequest) -> StoreHits:
    """Find the items that are nearest to a text, by the cosine of their vectors."""
    text = trimmed(body.input, "input")
    async with call.state.database.read() as session:
        store = await get_store(session, owner_of(call), store_id)
    results, usage = await search_store(call, store, text, body.limit, body.score_threshold)
    return StoreHits(results=results, usage=usage)


async def _to_store(session: AsyncSession, row: CollectionRow) -> Store:
    items, files = await count_contents(session, row.id or 0)
    return Store(
        id=row.slug or "",
        name=row.name,
        created=to_iso(row.created_ms),
        embedding_model=row.embedding_model,
        dimensions=row.dimensions,
        items=items,
        files=files,
    )
