"""POST /v1/ocr."""

from typing import Final

from msgspec import json

from api.call import Call, Draft
from api.http import Reply, Routes
from api.limits import Estimate
from api.recognition import find_reader
from api.respond import ERRORS, respond
from api.submission import Submission, find_router
from shared.directory import Router
from shared.errors import ModelNotFoundError, StorageUnavailableError
from shared.files.errors import FileTooLargeError, UnsupportedFileTypeError
from shared.files.store import FileStoreError
from shared.ids import new_ulid
from shared.jobs.schemas import OCR, Job
from shared.models.schemas import OCR_TYPES
from shared.ocr.documents import INLINE_CHARACTERS, STORED, check_data_uri, size_of, with_url
from shared.ocr.schemas import OcrRequest, OcrResult
from shared.ssrf import UrlNotAllowedError, check_public_url

routes = Routes("OCR")
PATH: Final = "/v1/ocr"


async def prepare_ocr(draft: Draft, body: OcrRequest) -> Submission:
    """Return what this request asks for."""
    url = body.check()
    is_data = url.lower().startswith("data:")
    if is_data:
        await check_data_uri(body.document, url)
    router = await _lowest(draft) if body.model is None else await find_router(draft, body.model, OCR_TYPES)
    if not is_data:
        await check_public_url(url, f"document.{body.document.member}")
    elif len(url) > INLINE_CHARACTERS:
        await _store(draft, body, url)
    return Submission(
        kind=OCR,
        endpoint=PATH,
        router=router,
        model=body.model or router.name,
        store=body.store,
        metadata=body.metadata,
        end_user=body.user,
        estimate=Estimate(prompt_tokens=0, output_tokens=0),
    )


@routes.post(
    PATH,
    raises=(*ERRORS, FileTooLargeError, UnsupportedFileTypeError, UrlNotAllowedError),
    accepted=Job,
    prepare=prepare_ocr,
)
async def create_ocr(call: Call, body: OcrRequest) -> Reply[OcrResult]:
    """Read a document or an image: its text as markdown, page by page.

    The document is a data URI of at most 20 MiB or a public URL, which the provider fetches.  Without `model`, the
    caller's model of type `image-to-text` with the lowest id reads it.
    """
    return await respond(call, await prepare_ocr(call, body))


async def _lowest(draft: Draft) -> Router:
    router = await find_reader(draft)
    if router is None:
        raise ModelNotFoundError
    draft.model = router.name
    return router


async def _store(draft: Draft, body: OcrRequest, url: str) -> None:
    """Put the document into the file store, as it stands in JSON; the request keeps its size in its place."""
    draft.file_id = new_ulid()
    try:
        await draft.state.files.put(draft.file_id, json.encode(url)[1:-1])
    except FileStoreError as error:
        raise StorageUnavailableError from error
    draft.body = with_url(draft.body, body.document, f"{STORED}{size_of(url)}")
