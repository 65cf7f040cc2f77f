"""First step: the chunks of a file, or of texts, from a parser process."""

import structlog
from msgspec import json

from shared.chunks.schemas import to_text
from shared.documents.schemas import IngestionRequest
from shared.parsing.pool import ParsingError
from shared.parsing.protocol import ParsedChunk, ParseRequest
from worker.context import JobContext
from worker.jobs.files import read_file
from worker.providers.base import ProviderError

log = structlog.get_logger()


async def read_chunks(ctx: JobContext, request: IngestionRequest) -> list[ParsedChunk]:
    """Return the chunks in the order of the text; raises `ProviderError` that blames the request."""
    language = ctx.runtime.settings.index_language
    if request.chunks:
        texts = [chunk.content for chunk in request.chunks]
        question = ParseRequest(texts=texts, are_chunks=True, language=language)
    elif request.pages is not None:
        question = ParseRequest(texts=request.pages, splitting=request.splitting, language=language)
    elif request.text is not None:
        question = ParseRequest(type="text", data=request.text.encode(), splitting=request.splitting, language=language)
    else:
        data = await read_file(ctx)
        question = ParseRequest(type=request.type, data=data, splitting=request.splitting, language=language)
    try:
        found = await ctx.runtime.parsers.parse(question)
    except ParsingError as error:
        log.info("file_not_read", error=str(error), type=request.type)
        reason = f": {error}." if request.form == "file" else "."  # the other routes promise the text without it
        raise unreadable(f"Parsing document failed{reason}") from error
    if not found.chunks:
        raise unreadable("No chunks were extracted from the document.")
    return found.chunks


def unreadable(message: str) -> ProviderError:
    """Return the end of a job whose file has no text that can be read."""
    return ProviderError(
        message, blame="request", reason="parsing_failed", status=422, code="parsing_failed", param="file"
    )


def metadata_of(request: IngestionRequest, index: int) -> tuple[str | None, str | None]:
    """Return the metadata of a chunk as it was given, and as filters compare it."""
    metadata = request.chunks[index].metadata if request.chunks else request.metadata
    if metadata is None:
        return None, None
    texts = {key: to_text(value) for key, value in metadata.items()}
    return json.encode(metadata).decode(), json.encode(texts).decode()
