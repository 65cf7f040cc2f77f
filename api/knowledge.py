"""What routes of collections and of vector stores have in common: the embedding model, jobs that fill documents."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from msgspec import json
from msgspec.structs import replace
from sqlmodel.ext.asyncio.session import AsyncSession

from api.answer import answer
from api.call import Call
from api.http import Reply
from api.idempotency import Earlier, find_earlier, prefers_of
from api.limits import Estimate
from api.prefer import Prefer
from api.recognition import find_reader
from api.replay import replay
from api.respond import ERRORS, preference_of, submit_bound
from api.stream_forms import chunk_form
from api.submission import Submission, find_router
from api.submit import submit
from shared.clock import now_ms
from shared.collections.errors import FeatureNotEnabledError, ParsingFailedError, VectorSizeError
from shared.collections.tables import CollectionRow
from shared.directory import Router
from shared.documents.queries import FAILED, PROCESSING
from shared.documents.removal import remove_document
from shared.documents.schemas import IngestionRequest
from shared.documents.tables import DocumentRow
from shared.errors import ApiError, NotFoundError, StorageUnavailableError
from shared.files.errors import UnsupportedFileTypeError
from shared.files.store import FileGoneError, FileStoreError
from shared.files.uploads import UploadedFile
from shared.ids import new_ulid
from shared.jobs.schemas import INGESTION, public_id
from shared.models.schemas import EMBEDDING_TYPES
from shared.parsing.pool import ParsingError
from shared.parsing.protocol import ParseAnswer, ParseRequest


class VectorizationFailedError(ApiError):
    """The embedding model failed."""

    status, code = 503, "vectorization_failed"


INGESTION_ERRORS: Final = (
    *ERRORS, FeatureNotEnabledError, ParsingFailedError, VectorSizeError, VectorizationFailedError,
    UnsupportedFileTypeError, NotFoundError,
)  # fmt: skip
_CHARACTERS_PER_TOKEN: Final = 4
_SMALL_CHUNK_BYTES: Final = 64
"""No request can be for more prompts: each is held at most for the context of the model."""


async def find_embedding_router(call: Call, message: str | None = None) -> Router:
    """Return the router that makes vectors; raises `FeatureNotEnabledError` and the errors of `find_router`."""
    name = call.state.settings.vector_store_model
    if name is None:
        raise FeatureNotEnabledError if message is None else FeatureNotEnabledError(message)
    await call.state.index.check()
    return await find_router(call, name, EMBEDDING_TYPES)


def fingerprint_of(file: UploadedFile, name: str, request: IngestionRequest) -> str:
    """Return what two uploads have in common if they would become the same document."""
    how = json.encode([file.sha256, name, request.type, request.splitting, request.metadata, request.form])
    return hashlib.sha256(how).hexdigest()


async def parse_file(call: Call, question: ParseRequest) -> ParseAnswer:
    """Return what the file of the request holds.

    Raises `ParsingFailedError`, and `StorageUnavailableError` if the file cannot be read.
    """
    try:
        question.data = await call.state.files.read(call.file_id or "")
        return await call.state.parsers.parse(question)
    except ParsingError as error:
        raise ParsingFailedError from error
    except (FileStoreError, FileGoneError) as error:
        raise StorageUnavailableError from error


async def open_document(call: Call, collection: CollectionRow, kind: str, name: str, **members: Any) -> DocumentRow:
    """Insert a document; unless `status` is given it waits for its content, hidden, and its job gets the id it names.

    Raises `NotFoundError` if the collection was deleted meanwhile.
    """
    if "status" not in members:
        call.file_id = call.file_id or new_ulid()
        members |= {"status": PROCESSING, "job_id": call.file_id}
    async with call.state.database.transaction() as session:
        return await add_document(session, collection, kind, name, **members)


async def add_document(
    session: AsyncSession, collection: CollectionRow, kind: str, name: str, **members: Any
) -> DocumentRow:
    """Insert a document; raises `NotFoundError` if the collection was deleted meanwhile."""
    row = DocumentRow(collection_id=collection.id or 0, kind=kind, name=name, created_ms=now_ms(), **members)
    if await session.get(CollectionRow, row.collection_id) is None:
        raise NotFoundError("Collection not found.")
    session.add(row)
    await session.flush()
    return row


async def ingest(
    call: Call, router: Router, document: DocumentRow, request: IngestionRequest, *, endpoint: str, size_bytes: int
) -> Reply[Any]:
    """Make the job that fills the document; return its answer as a 201, or a 202 if the caller does not wait.

    That of a PDF begins when the caller's model for it, if there is one, has read the scanned pages.
    """
    async with _no_leftovers(call, document):
        submission, prefer = await _submission(call, router, request, endpoint, size_bytes), preference_of(call)
        if call.key is not None:
            call.key.prefers = prefers_of(prefer)
        found = await submit_bound(call, submission, prefer, call.key)
        call.key = None
        if isinstance(found, Earlier):
            return await _replay(call, found)
        return _created(await answer(call, found))


async def find_ingestion(call: Call) -> Reply[Any] | None:
    """Return the answer of the job that a request with the same idempotency key made before."""
    found = None if call.key is None else await find_earlier(call, call.key)
    if found is None:
        return None
    call.key = None
    return await _replay(call, found)


async def _replay(call: Call, earlier: Earlier) -> Reply[Any]:
    return _created(cast(Reply[Any], await replay(call, earlier, preference_of(call), chunk_form)))


def _created(reply: Reply[Any]) -> Reply[Any]:
    return replace(reply, status=201) if reply.status == 200 else reply


async def ingest_later(
    call: Call, router: Router, document: DocumentRow, request: IngestionRequest, *, endpoint: str, size_bytes: int
) -> None:
    """Make the job that fills the document, as `ingest` does; binds the key of the request to it."""
    async with _no_leftovers(call, document):
        submission = await _submission(call, router, request, endpoint, size_bytes)
        await submit(call, submission, Prefer(respond_async=True), call.key)
        call.key = None


async def _submission(
    call: Call, router: Router, request: IngestionRequest, endpoint: str, size_bytes: int
) -> Submission:
    call.body = json.encode(request)
    estimate = Estimate(
        prompt_tokens=max(size_bytes // _CHARACTERS_PER_TOKEN, 1), output_tokens=0, answers=0,
        prompts=max(size_bytes // _SMALL_CHUNK_BYTES, 1), file_tokens=size_bytes,
    )  # fmt: skip
    model = call.model or router.name
    is_held = request.type == "pdf" and await find_reader(call) is not None
    return Submission(kind=INGESTION, endpoint=endpoint, router=router, model=model, estimate=estimate, is_held=is_held)


@asynccontextmanager
async def _no_leftovers(call: Call, document: DocumentRow) -> AsyncIterator[None]:
    """Whatever happens, no document remains that nothing will fill."""
    try:
        yield
    finally:
        if call.headers.get("x-job-id") != public_id(document.job_id or "") or await _has_failed(call, document):
            await remove_document(call.state.database, call.state.files, document.id or 0)


async def _has_failed(call: Call, document: DocumentRow) -> bool:
    async with call.state.database.read() as session:
        row = await session.get(DocumentRow, document.id)
    return row is not None and row.status == FAILED
