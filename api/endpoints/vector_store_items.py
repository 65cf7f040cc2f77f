"""/v1/vector_store/{id}/items and /files: what is in a vector store."""

from msgspec import json

from api.call import Call
from api.http import Reply, Routes
from api.knowledge import INGESTION_ERRORS, find_ingestion, fingerprint_of, ingest, ingest_later, open_document
from api.once import note_answer
from api.own_jobs import cancel
from api.stores import file_id_of, owner_of, router_of
from shared.clock import to_iso
from shared.collections.errors import ContentTooLongError, StoreNotFoundError
from shared.collections.tables import CollectionRow
from shared.dialects import VULTR
from shared.directory import Router
from shared.documents.descriptions import describe_text
from shared.documents.queries import COMPLETED, FAILED, REMOVED, find_same
from shared.documents.removal import remove_document
from shared.documents.schemas import IngestionRequest
from shared.documents.tables import DocumentRow, ItemRow
from shared.errors import InvalidFieldError, NotFoundError, StoredError
from shared.jobs.schemas import COMPLETED as JOB_COMPLETED
from shared.jobs.schemas import QUEUED, TERMINAL, Job, public_id
from shared.jobs.tables import JobRow
from shared.parsing.types import file_type_of
from shared.splitting.splitter import Splitting
from shared.tokens import count_tokens
from shared.vector_stores.queries import (
    get_file,
    get_item,
    get_store,
    list_files,
    list_items,
    read_content,
    remove_item,
)
from shared.vector_stores.schemas import (
    CreatedItem,
    CreateFileForm,
    CreateItemRequest,
    FileList,
    FileReply,
    FileStatus,
    Item,
    ItemList,
    ItemReply,
    ListedItem,
    ListQuery,
    StoreFile,
    UpdateItemRequest,
)

routes = Routes("Vector store", dialect=VULTR)
ITEMS = "/v1/vector_store/{store_id}/items"
FILES = "/v1/vector_store/{store_id}/files"
_CHARACTERS_PER_TOKEN = 4
_CHUNK_TOKENS, _OVERLAP_TOKENS = 400, 40
_SEPARATORS = [r"\n#{1,6} ", r"\n\s*\n", r"(?<=[.!?])\s", r"\n", " ", ""]
"""Headings, paragraphs, sentences, lines, words."""


@routes.post(ITEMS, status=201, raises=(*INGESTION_ERRORS, StoreNotFoundError, ContentTooLongError), accepted=Job)
async def create_item(call: Call, store_id: str, body: CreateItemRequest) -> Reply[CreatedItem]:
    """Add a text; the next search finds it."""
    store = await _store(call, store_id)
    if (earlier := await find_ingestion(call)) is not None:
        return earlier
    router = await router_of(call, store)
    splitting = _item_splitting(router, body)
    description = (body.description or "").strip()
    document = await open_document(call, store, "item", description, content=body.content)
    request = IngestionRequest(document_id=document.id or 0, form="item", text=body.content, splitting=splitting)
    size = len(body.content.encode())
    return await ingest(call, router, document, request, endpoint=ITEMS, size_bytes=size)


async def _store(call: Call, store_id: str) -> CollectionRow:
    async with call.state.database.read() as session:
        return await get_store(session, owner_of(call), store_id)


def _item_splitting(router: Router, body: CreateItemRequest) -> Splitting:
    """Return how to cut a text so that the model takes its parts; raises `ContentTooLongError`."""
    most, tokens = router.max_context_length, count_tokens(body.content)
    if most is None or tokens <= most:
        return Splitting(chunk_size=0)
    if body.auto_chunk is False:
        raise ContentTooLongError
    return Splitting(
        chunk_size=max(len(body.content) * most // (tokens * 2), 1), separators=_SEPARATORS, is_separator_regex=True
    )


@routes.get(ITEMS, raises=(StoreNotFoundError, NotFoundError))
async def list_store_items(call: Call, store_id: str, query: ListQuery) -> ItemList:
    """List items without their texts, the oldest first."""
    store = await _store(call, store_id)
    async with call.state.database.read() as session:
        rows, has_more = await list_items(session, store.id or 0, query)
    found = ItemList(items=[_listed(item, document) for item, document in rows])
    if query.limit is not None:
        found.has_more, found.last_id = has_more, found.items[-1].id if rows else None
    return found


@routes.get(ITEMS + "/{item_id}", raises=(StoreNotFoundError, NotFoundError))
async def get_store_item(call: Call, store_id: str, item_id: str) -> ItemReply:
    """Get an item with its text."""
    store = await _store(call, store_id)
    async with call.state.database.read() as session:
        item, document = await get_item(session, store.id or 0, item_id)
        return _item(item, document, await read_content(session, item, document))


@routes.put(ITEMS + "/{item_id}", raises=(StoreNotFoundError, NotFoundError))
async def update_item(call: Call, store_id: str, item_id: str, body: UpdateItemRequest) -> ItemReply:
    """Describe an item; null stands for the beginning of its text."""
    store = await _store(call, store_id)
    async with call.state.database.transaction() as session:
        item, document = await get_item(session, store.id or 0, item_id)
        content = await read_content(session, item, document)
        item.description = describe_text((body.description or "").strip(), content)
        return _item(item, document, content)


@routes.delete(ITEMS + "/{item_id}", status=204, raises=(StoreNotFoundError, NotFoundError))
async def delete_item(call: Call, store_id: str, item_id: str) -> None:
    """Delete an item; of a file, this chunk."""
    store = await _store(call, store_id)
    async with call.state.database.transaction() as session:
        item, document = await get_item(session, store.id or 0, item_id)
        if document.kind == "file":
            await remove_item(session, item, document)
        else:
            document.status = REMOVED
    if document.kind != "file":
        await remove_document(call.state.database, call.state.files, document.id or 0)


@routes.post(FILES, status=201, raises=(*INGESTION_ERRORS, StoreNotFoundError))
async def create_store_file(call: Call, store_id: str, form: CreateFileForm) -> FileReply:
    """Add a file; it is read, cut and embedded by a job, while `status` and `items` tell how far it is.

    A file that is there already, with the same name, is not taken again.
    """
    store = await _store(call, store_id)
    kind = file_type_of(form.file)
    if not form.file.size_bytes:
        raise InvalidFieldError(["body", "file"], "The file is empty")
    router = await router_of(call, store)
    most = min(_CHUNK_TOKENS, router.max_context_length or _CHUNK_TOKENS)
    splitting = Splitting(
        chunk_size=most * _CHARACTERS_PER_TOKEN,
        chunk_overlap=min(_OVERLAP_TOKENS, most - 1) * _CHARACTERS_PER_TOKEN,
        separators=_SEPARATORS,
        is_separator_regex=True,
    )
    request = IngestionRequest(document_id=0, form="file", type=kind, file=form.file, splitting=splitting)
    fingerprint = fingerprint_of(form.file, form.file.name, request)
    async with call.state.database.read() as session:
        same = await find_same(session, store.id or 0, fingerprint, unfinished=True)
    if same is not None:
        return FileReply(file=_file(same, None))
    size = form.file.size_bytes
    document = await open_document(call, store, "file", form.file.name, fingerprint=fingerprint, size_bytes=size)
    request.document_id = document.id or 0
    reply = FileReply(file=_file(document, None))
    note_answer(call, reply)
    await ingest_later(call, router, document, request, endpoint=FILES, size_bytes=size)
    return reply


@routes.get(FILES, raises=(StoreNotFoundError, NotFoundError))
async def list_store_files(call: Call, store_id: str, query: ListQuery) -> FileList:
    """List files, the oldest first."""
    store = await _store(call, store_id)
    async with call.state.database.read() as session:
        rows, has_more = await list_files(session, store.id or 0, query)
    found = FileList(files=[_file(document, job) for document, job in rows])
    if query.limit is not None:
        found.has_more, found.last_id = has_more, found.files[-1].id if rows else None
    return found


@routes.get(FILES + "/{file_id}", raises=(StoreNotFoundError, NotFoundError))
async def get_store_file(call: Call, store_id: str, file_id: str) -> FileReply:
    """Get a file; `retry-after` is there until it is completed or failed."""
    store = await _store(call, store_id)
    async with call.state.database.read() as session:
        document, job = await get_file(session, store.id or 0, file_id)
    found = _file(document, job)
    if found.status in ("enqueued", "processing"):
        call.headers["retry-after"] = "1"
    return FileReply(file=found)


@routes.delete(FILES + "/{file_id}", status=204, raises=(StoreNotFoundError, NotFoundError))
async def delete_store_file(call: Call, store_id: str, file_id: str) -> None:
    """Delete a file with its items; if it is being processed, that ends."""
    store = await _store(call, store_id)
    async with call.state.database.transaction() as session:
        document, job = await get_file(session, store.id or 0, file_id)
        document.status = REMOVED
    if job is not None and job.status not in TERMINAL:
        await cancel(call, job)
    await remove_document(call.state.database, call.state.files, document.id or 0)


def _listed(item: ItemRow, document: DocumentRow) -> ListedItem:
    is_whole = document.kind != "file"
    return ListedItem(
        id=f"item_{item.id}",
        created=to_iso(item.created_ms),
        description=item.description,
        file_id=file_id_of(document),
        chunks=document.chunks if is_whole else item.chunks,
        tokens=document.tokens if is_whole else item.tokens,
    )


def _item(item: ItemRow, document: DocumentRow, content: str) -> ItemReply:
    listed = _listed(item, document)
    return ItemReply(
        item=Item(
            id=listed.id,
            created=listed.created,
            description=listed.description,
            file_id=listed.file_id,
            chunks=listed.chunks,
            tokens=listed.tokens,
            content=content,
        )
    )


def _file(document: DocumentRow, job: JobRow | None) -> StoreFile:
    status, error = _state(document, job)
    return StoreFile(
        id=f"file-{document.job_id}",
        filename=document.name,
        status=status,
        error=error,
        items=document.chunks,
        tokens=document.tokens,
        bytes=document.size_bytes,
        created=to_iso(document.created_ms),
        job_id=public_id(document.job_id or ""),
    )


def _state(document: DocumentRow, job: JobRow | None) -> tuple[FileStatus, str | None]:
    """Return how far a file is, and why it failed; its job may have ended without telling the document yet."""
    if document.status == COMPLETED:
        return "completed", None
    if document.status == FAILED:
        return "failed", document.error
    if job is None or job.status == QUEUED:
        return "enqueued", None
    if job.status in TERMINAL - {JOB_COMPLETED}:
        return "failed", json.decode(job.error, type=StoredError).message if job.error else "The job was lost."
    return "processing", None
