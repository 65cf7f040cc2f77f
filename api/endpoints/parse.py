"""POST /v1/parse-beta: the text of a PDF, page by page."""

from base64 import b64encode
from typing import Final

from api.call import Call
from api.http import Routes
from api.knowledge import parse_file
from api.recognition import find_reader, recognise
from api.respond import ERRORS
from shared.chunks.schemas import RequiredQuery
from shared.collections.errors import FeatureNotEnabledError, ParsingFailedError
from shared.files.errors import UnsupportedFileTypeError
from shared.parse.schemas import PageMetadata, ParsedDocument, ParsedDocumentPage, ParseForm, bad_range
from shared.parsing.protocol import ParsedPage, ParseRequest
from shared.parsing.types import file_type_of
from shared.usage.schemas import zero_usage

routes = Routes("Parse")
PATH: Final = "/v1/parse-beta"


@routes.post(PATH, raises=(*ERRORS, UnsupportedFileTypeError, ParsingFailedError, FeatureNotEnabledError))
async def create_parse(call: Call, form: ParseForm, query: RequiredQuery) -> ParsedDocument:
    """Read a PDF: one page after another as markdown, with its images.

    Scanned pages, or all with `force_ocr`, are read by the caller's model of type `image-to-text` with the lowest id.
    """
    del query  # accepted, without meaning
    wanted = form.pages()
    if file_type_of(form.file) != "pdf":
        raise UnsupportedFileTypeError("file", "File must be a pdf file.")
    reader = await find_reader(call)
    if form.force_ocr and reader is None:
        raise FeatureNotEnabledError
    found = await parse_file(call, ParseRequest(type="pdf", pages=wanted, with_images=True))
    if wanted is not None and wanted[-1] >= found.page_count:
        raise bad_range(f"The document has {found.page_count} pages")
    pages, usage = found.pages, zero_usage()
    scanned = [page.number for page in pages if form.force_ocr or page.is_scanned]
    if scanned and reader is not None:
        drawn = await parse_file(call, ParseRequest(type="pdf", pages=scanned, as_pictures=True))
        texts, usage = await recognise(call, reader, drawn.pages, PATH)
        pages = [ParsedPage(one.number, texts.get(one.number, one.text), one.images) for one in pages]
    return ParsedDocument(data=[_to_page(page, form.file.name) for page in pages], usage=usage)


def _to_page(page: ParsedPage, name: str) -> ParsedDocumentPage:
    images = {one: f"data:image/jpeg;base64,{b64encode(data).decode()}" for one, data in page.images.items()}
    return ParsedDocumentPage(
        content=page.text, images=images, metadata=PageMetadata(document_name=name, page=page.number)
    )
