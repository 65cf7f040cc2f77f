"""/v1/collections: what documents are put into, and searched together."""

from collections.abc import Sequence
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from api.call import Call
from api.http import Routes
from api.once import keep_answer
from api.submission import find_router
from api.trim import trimmed
from shared.chunks.schemas import RequiredQuery
from shared.clock import now_ms
from shared.collections.errors import MasterNotAllowedError
from shared.collections.queries import (
    COLLECTIONS,
    count_documents,
    get_own_collection,
    list_owners,
)
from shared.collections.queries import get_collection as query_collection
from shared.collections.queries import list_collections as query_collections
from shared.collections.schemas import (
    Collection,
    CreateCollectionRequest,
    ListCollectionsQuery,
    UpdateCollectionRequest,
)
from shared.collections.tables import CollectionRow
from shared.documents.removal import hide_collection, remove_collection
from shared.errors import (
    ModelNotAllowedError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    WrongModelTypeError,
)
from shared.lists import ListPage, RowId
from shared.models.schemas import RERANK_TYPES

routes = Routes("Collections")
PATH = "/v1/collections"
_MODEL_ERRORS = (ModelNotFoundError, ModelNotAllowedError, WrongModelTypeError)


@routes.post(PATH, status=201, raises=(MasterNotAllowedError, *_MODEL_ERRORS))
async def create_collection(call: Call, body: CreateCollectionRequest) -> Collection:
    """Create a collection; public ones, which everybody may read, need a permission."""
    name = trimmed(body.name, "name")
    if call.caller.is_master:
        raise MasterNotAllowedError
    _check_visibility(call, body.visibility)
    if body.rerank_model:
        await find_router(call, body.rerank_model, RERANK_TYPES)
    now = now_ms()
    row = CollectionRow(
        surface=COLLECTIONS, user_id=call.caller.user_id, name=name, description=body.description,
        visibility=body.visibility, rerank_model=body.rerank_model or None, created_ms=now, updated_ms=now,
    )  # fmt: skip
    async with call.state.database.transaction() as session:
        session.add(row)
        await session.flush()
        return await keep_answer(session, call, (await _to_collections(session, [row]))[0])


def _check_visibility(call: Call, visibility: str | None) -> None:
    if (
        visibility == "public"
        and not call.caller.is_admin
        and "create_public_collection" not in call.caller.permissions
    ):
        raise PermissionDeniedError("Missing permission to update collection visibility to public.")


@routes.get(PATH)
async def list_collections(call: Call, query: ListCollectionsQuery) -> ListPage[Collection]:
    """List the caller's own collections and everybody's public ones, ordered by id, name, created or updated."""
    async with call.state.database.read() as session:
        rows, total = await query_collections(session, call.caller.user_id, query)
        data = await _to_collections(session, rows)
    return ListPage(data=data, total=total, offset=query.offset, limit=query.limit)


@routes.get(PATH + "/{collection_id}", raises=(NotFoundError,))
async def get_collection(call: Call, collection_id: RowId) -> Collection:
    """Get a collection, one's own or a public one."""
    async with call.state.database.read() as session:
        row = await query_collection(session, call.caller.user_id, collection_id)
        return (await _to_collections(session, [row]))[0]


@routes.patch(PATH + "/{collection_id}", status=204, raises=(NotFoundError, *_MODEL_ERRORS))
async def update_collection(call: Call, collection_id: RowId, body: UpdateCollectionRequest) -> None:
    """Rename a collection, describe it, or change who may read it."""
    changes: dict[str, Any] = {"description": body.description, "visibility": body.visibility}
    if body.name is not None:
        changes["name"] = trimmed(body.name, "name")
    if body.rerank_model:
        await find_router(call, body.rerank_model, RERANK_TYPES)
    async with call.state.database.transaction() as session:
        row = await get_own_collection(session, call.caller.user_id, collection_id)
        _check_visibility(call, body.visibility)
        for name, value in changes.items():
            if value is not None:
                setattr(row, name, value)
        if body.rerank_model is not None:
            row.rerank_model = body.rerank_model or None
        row.updated_ms = now_ms()


@routes.delete(PATH + "/{collection_id}", status=204, raises=(NotFoundError,))
async def delete_collection(call: Call, collection_id: RowId, query: RequiredQuery) -> None:
    """Delete a collection with its documents, chunks and files."""
    del query  # accepted, without meaning
    async with call.state.database.transaction() as session:
        row = await get_own_collection(session, call.caller.user_id, collection_id)
        hide_collection(row)
    await remove_collection(call.state.database, call.state.files, collection_id)
    await call.state.index.forget(collection_id)


async def _to_collections(session: AsyncSession, rows: Sequence[CollectionRow]) -> list[Collection]:
    documents = await count_documents(session, [row.id or 0 for row in rows])
    owners = await list_owners(session, [row.user_id for row in rows])
    return [
        Collection(
            id=row.id or 0,
            name=row.name,
            owner=owners[row.user_id],
            description=row.description,
            visibility=row.visibility,  # type: ignore[arg-type]  # a column
            rerank_model=row.rerank_model,
            created=row.created_ms // 1000,
            updated=row.updated_ms // 1000,
            documents=documents[row.id or 0],
        )
        for row in rows
    ]
