"""POST /v1/ocr."""

from typing import Final

from api.call import Call
from api.http import Reply, Routes
from api.limits import Estimate
from api.recognition import find_reader
from api.respond import ERRORS, respond
from api.submit import Submission, find_router
from shared.directory import Router
from shared.errors import ModelNotFoundError, StorageUnavailableError
from shared.files.errors import FileTooLargeError, UnsupportedFileTypeError
from shared.files.store import FileStoreError
from shared.ids import new_ulid
from shared.jobs.schemas import OCR, Job
from shared.models.schemas import OCR_TYPES
from shared.ocr.documents import INLINE_CHARACTERS, STORED, check_data_uri, with_url
from shared.ocr.schemas import OcrRequest, OcrResult
from shared.ssrf import UrlNotAllowedError, check_public_url

routes = Routes("OCR")
PATH: Final = "/v1/ocr"


@routes.post(
    PATH,
    raises=(*ERRORS, FileTooLargeError, UnsupportedFileTypeError, UrlNotAllowedError),
    accepted=Job,
    is_inference=True,
)
async def create_ocr(call: Call, body: OcrRequest) -> Reply[OcrResult]:
    """Read a document or an image: its text as markdown, page by page.

    The document is a data URI of at most 20 MiB or a public URL, which the provider fetches.  Without `model`, the
    caller's model of type `image-to-text` with the lowest id reads it.
    """
    url = body.check()
    is_data = url.lower().startswith("data:")
    if is_data:
        await check_data_uri(body.document, url)
    router = await _lowest(call) if body.model is None else await find_router(call, body.model, OCR_TYPES)
    if not is_data:
        await check_public_url(url, f"document.{body.document.member}")
    elif len(url) > INLINE_CHARACTERS:
        await _store(call, body, url)
    submission = Submission(
        kind=OCR,
        endpoint=PATH,
        router=router,
        model=body.model or router.name,
        estimate=Estimate(prompt_tokens=0, output_tokens=0),
    )
    return await respond(call, submission)


async def _lowest(call: Call) -> Router:
    router = await find_reader(call)
    if router is None:
        raise ModelNotFoundError
    call.model = router.name
    return router


async def _store(call: Call, body: OcrRequest, url: str) -> None:
    """Put the document into the file store; the request keeps a word in its place."""
    call.file_id = new_ulid()
    try:
        await call.state.files.put(call.file_id, url.encode())
    except FileStoreError as error:
        raise StorageUnavailableError from error
    call.body = with_url(call.body, body.document, STORED)
