"""/v1/documents: files that are read, cut and embedded; and their chunks."""

from typing import Annotated

from msgspec import Meta, json

from api.call import Call
from api.http import Reply, Routes
from api.knowledge import (
    INGESTION_ERRORS,
    add_document,
    find_embedding_router,
    find_ingestion,
    fingerprint_of,
    ingest,
    open_document,
)
from api.once import keep_answer
from shared.chunks.queries import get_chunk, list_chunks, remove_chunk, to_chunk
from shared.chunks.schemas import (
    Chunk,
    CreateChunksRequest,
    CreatedChunks,
    ListChunksQuery,
    RequiredQuery,
)
from shared.collections.queries import get_own_collection
from shared.collections.tables import CollectionRow
from shared.documents.queries import COMPLETED, DOCUMENT, REMOVED, find_same, get_own_document
from shared.documents.queries import get_document as query_document
from shared.documents.queries import list_documents as query_documents
from shared.documents.removal import remove_document
from shared.documents.schemas import CreateDocumentForm, Document, IngestionRequest, ListDocumentsQuery
from shared.documents.tables import DocumentRow
from shared.errors import InvalidFieldError, NotFoundError
from shared.jobs.schemas import Job
from shared.lists import ListPage, RowId, one_of
from shared.parsing.types import file_type_of
from shared.splitting.splitter import Splitting

routes = Routes("Documents")
PATH = "/v1/documents"
CHUNKS = PATH + "/{document_id}/chunks"
DocumentId = Annotated[int, Meta(ge=1, le=2**31 - 1)]
ChunkId = Annotated[int, Meta(ge=0, le=2**31 - 1)]


@routes.post(PATH, status=201, raises=INGESTION_ERRORS, accepted=Job)
async def create_document(call: Call, form: CreateDocumentForm, query: RequiredQuery) -> Reply[Document]:
    """Put a file into a collection: read it, cut it into chunks, embed them.

    201 means that searches find it.  Without a file, an empty document is made, which takes chunks.  A file that is in
    the collection already, with the same name and options, is not taken again.  Scanned pages of a PDF are read by the
    caller's model of type `image-to-text` with the lowest id, if there is one.  With `Prefer: respond-async` the answer
    is 202 and a job.
    """
    del query  # accepted, without meaning
    metadata = form.check()
    collection_id = one_of("collection_id", form.collection_id, "collection", form.collection, "body")
    if collection_id is None:
        raise InvalidFieldError(["body", "collection_id"], "Object missing required field `collection_id`")
    async with call.state.database.read() as session:
        collection = await get_own_collection(session, call.caller.user_id, collection_id)
    if form.file is None:
        return await _create_empty(call, collection, form.name or "")
    if (earlier := await find_ingestion(call)) is not None:
        return earlier
    request = IngestionRequest(
        document_id=0,
        type=file_type_of(form.file, form.name),
        file=form.file,
        splitting=_splitting(form),
        metadata=metadata,
    )
    router = await find_embedding_router(call)
    name = form.name or form.file.name
    fingerprint = fingerprint_of(form.file, name, request)
    async with call.state.database.read() as session:
        same = await find_same(session, collection_id, fingerprint)
    if same is not None:
        return _created(same)
    size = form.file.size_bytes
    document = await open_document(call, collection, DOCUMENT, name, fingerprint=fingerprint, size_bytes=size)
    request.document_id = document.id or 0
    return await ingest(call, router, document, request, endpoint=PATH, size_bytes=size)


def _splitting(form: CreateDocumentForm) -> Splitting:
    return Splitting(
        chunk_size=0 if form.disable_chunking else form.chunk_size,
        chunk_min_size=form.chunk_min_size,
        chunk_overlap=form.chunk_overlap,
        separators=form.separators,
        is_separator_regex=form.is_separator_regex,
        preset=form.preset_separators,
    )


async def _create_empty(call: Call, collection: CollectionRow, name: str) -> Reply[Document]:
    async with call.state.database.transaction() as session:
        document = await add_document(session, collection, DOCUMENT, name, status=COMPLETED)
        await keep_answer(session, call, _to_document(document))
    return _created(document)


def _created(row: DocumentRow) -> Reply[Document]:
    return Reply(body=json.encode(_to_document(row)), status=201)


@routes.get(PATH)
async def list_documents(call: Call, query: ListDocumentsQuery) -> ListPage[Document]:
    """List documents of the caller's own and of public collections, ordered by id, name or created."""
    async with call.state.database.read() as session:
        rows, total = await query_documents(session, call.caller.user_id, query)
    return ListPage(data=[_to_document(row) for row in rows], total=total, offset=query.offset, limit=query.limit)


@routes.get(PATH + "/{document_id}", raises=(NotFoundError,))
async def get_document(call: Call, document_id: RowId, query: RequiredQuery) -> Document:
    """Get a document of one's own or of a public collection."""
    del query
    async with call.state.database.read() as session:
        return _to_document(await query_document(session, call.caller.user_id, document_id))


@routes.delete(PATH + "/{document_id}", status=204, raises=(NotFoundError,))
async def delete_document(call: Call, document_id: DocumentId, query: RequiredQuery) -> None:
    """Delete a document with its chunks and its file."""
    del query
    async with call.state.database.transaction() as session:
        row = await get_own_document(session, call.caller.user_id, document_id)
        row.status = REMOVED
    await remove_document(call.state.database, call.state.files, document_id)


@routes.post(CHUNKS, status=201, raises=INGESTION_ERRORS, accepted=Job)
async def create_document_chunks(
    call: Call, document_id: DocumentId, body: CreateChunksRequest, query: RequiredQuery
) -> Reply[CreatedChunks]:
    """Add chunks to a document; all of them, or none."""
    del query
    body.check()
    async with call.state.database.read() as session:
        target = await get_own_document(session, call.caller.user_id, document_id)
        collection = await session.get_one(CollectionRow, target.collection_id)
    if (earlier := await find_ingestion(call)) is not None:
        return earlier
    router = await find_embedding_router(call)
    addition = await open_document(call, collection, "addition", target.name)
    request = IngestionRequest(document_id=addition.id or 0, target_id=document_id, form="chunks", chunks=body.chunks)
    return await ingest(call, router, addition, request, endpoint=CHUNKS, size_bytes=len(call.body))


@routes.get(CHUNKS, raises=(NotFoundError,))
async def list_document_chunks(call: Call, document_id: DocumentId, query: ListChunksQuery) -> ListPage[Chunk]:
    """List the chunks of a document of one's own, by id."""
    return await _list_chunks(call, document_id, query)


async def _list_chunks(call: Call, document_id: int, query: ListChunksQuery) -> ListPage[Chunk]:
    async with call.state.database.read() as session:
        document = await get_own_document(session, call.caller.user_id, document_id)
        rows = await list_chunks(session, document_id, query.offset, query.limit)
    data = [to_chunk(row) for row in rows]
    return ListPage(data=data, total=document.chunks, offset=query.offset, limit=query.limit)


@routes.get(CHUNKS + "/{chunk_id}", raises=(NotFoundError,))
async def get_document_chunk(call: Call, document_id: DocumentId, chunk_id: ChunkId, query: RequiredQuery) -> Chunk:
    """Get a chunk of a document of one's own."""
    del query
    return await _get_chunk(call, document_id, chunk_id)


async def _get_chunk(call: Call, document_id: int, chunk_id: int) -> Chunk:
    async with call.state.database.read() as session:
        await get_own_document(session, call.caller.user_id, document_id)
        return to_chunk(await get_chunk(session, document_id, chunk_id))


@routes.delete(CHUNKS + "/{chunk_id}", status=204, raises=(NotFoundError,))
async def delete_document_chunk(call: Call, document_id: DocumentId, chunk_id: ChunkId, query: RequiredQuery) -> None:
    """Delete a chunk; its id is not used again."""
    del query
    async with call.state.database.transaction() as session:
        document = await get_own_document(session, call.caller.user_id, document_id)
        await remove_chunk(session, document, chunk_id)


@routes.get("/v1/chunks/{document}", raises=(NotFoundError,))
async def get_chunks(call: Call, document: RowId, query: ListChunksQuery) -> ListPage[Chunk]:
    """List the chunks of a document; the older path of it."""
    return await _list_chunks(call, document, query)


@routes.get("/v1/chunks/{document}/{chunk}", raises=(NotFoundError,))
async def get_single_chunk(call: Call, document: RowId, chunk: RowId, query: RequiredQuery) -> Chunk:
    """Get a chunk of a document; the older path of it."""
    del query
    return await _get_chunk(call, document, chunk)


def _to_document(row: DocumentRow) -> Document:
    return Document(
        id=row.id or 0,
        name=row.name,
        collection_id=row.collection_id,
        created=row.created_ms // 1000,
        chunks=row.chunks,
    )
