"""A parser process: `python -m shared.parsing.child MEMORY_BYTES TIMEOUT_S`.  Reads requests from stdin, one at a time.

It may be killed at any moment: by its parent, by the limit of its memory, by the alarm if its parent is gone.
"""

import re
import resource
import signal
import sys
from zipfile import BadZipFile

from msgspec import DecodeError, msgpack
from pypdfium2 import PdfiumError

from shared.parsing.formats import (
    MAX_CHARACTERS,
    UnreadableError,
    read_docx,
    read_html,
    read_json,
    read_pdf,
    read_text,
)
from shared.parsing.protocol import LENGTH, ParseAnswer, ParsedChunk, ParsedPage, ParseRequest, encode
from shared.retrieval.terms import bag_of
from shared.splitting.splitter import split

MAX_CHUNKS = 20_000
_BETWEEN_PAGES = "\n\n"
_ALARM_AFTER_S = 5
_EXPECTED = (UnreadableError, PdfiumError, BadZipFile, DecodeError, RecursionError, MemoryError, ValueError, KeyError)
_READERS = {"html": read_html, "docx": read_docx, "json": read_json}


def answer(request: ParseRequest) -> ParseAnswer:
    """Read, and cut if asked for."""
    count = 1
    if request.texts is not None:
        pages = [ParsedPage(number, text) for number, text in enumerate(request.texts)]
    elif request.type == "pdf":
        pages, count = read_pdf(request)
    else:
        pages = [ParsedPage(0, _READERS.get(request.type or "", read_text)(request.data))]
    if sum(len(page.text) for page in pages) > MAX_CHARACTERS:
        raise UnreadableError("the file has too much text")
    if request.are_chunks:
        return ParseAnswer(chunks=[_chunk(page.text, None, request) for page in pages])
    if request.splitting is None:
        return ParseAnswer(pages=pages, page_count=count)
    has_pages = request.type == "pdf" or request.texts is not None
    return ParseAnswer(chunks=_cut(pages, request, has_pages=has_pages), page_count=count)


def _cut(pages: list[ParsedPage], request: ParseRequest, *, has_pages: bool) -> list[ParsedChunk]:
    assert request.splitting is not None  # noqa: S101  # checked by the caller
    texts = [page for page in pages if page.text.strip()]
    starts: list[int] = []
    end = 0
    for page in texts:
        starts.append(end)
        end += len(page.text) + len(_BETWEEN_PAGES)
    whole = _BETWEEN_PAGES.join(page.text for page in texts)
    spans = split(whole, request.splitting)
    if len(spans) > MAX_CHUNKS:
        raise UnreadableError(f"the file has more than {MAX_CHUNKS} chunks")
    chunks, place = [], 0
    for start, stop in spans:
        place = 0 if start < starts[place] else place  # an overlap may begin on the page before
        while place + 1 < len(starts) and starts[place + 1] <= start:
            place += 1
        chunks.append(_chunk(whole[start:stop], texts[place].number if has_pages else None, request))
    return chunks


def _chunk(text: str, page: int | None, request: ParseRequest) -> ParsedChunk:
    return ParsedChunk(text, page, bag_of(text, request.language))


def _reason(error: Exception) -> str:
    if isinstance(error, UnreadableError):
        return str(error)
    if isinstance(error, MemoryError):
        return "the file needs too much memory"
    if isinstance(error, PdfiumError) and "password" in str(error).lower():
        return "the file is encrypted"
    return "the file is damaged"


def main() -> None:
    """Serve until stdin is closed."""
    memory_bytes, timeout_s = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    decoder = msgpack.Decoder(ParseRequest)
    while head := stdin.read(LENGTH.size):
        body = stdin.read(LENGTH.unpack(head)[0])
        signal.alarm(timeout_s + _ALARM_AFTER_S)
        is_spent = False
        try:
            request = decoder.decode(body)
            request.data = stdin.read(request.data_bytes)
            found = answer(request)
        except re.error as error:
            found = ParseAnswer(error=f"a separator is no regular expression: {error}")
        except _EXPECTED as error:
            found = ParseAnswer(error=_reason(error))
            is_spent = isinstance(error, MemoryError)
        except Exception:  # noqa: BLE001  # libraries raise whatever they like for damaged files
            found = ParseAnswer(error="the file is damaged")
        signal.alarm(0)
        stdout.write(encode(found))
        stdout.flush()
        if is_spent:
            return


if __name__ == "__main__":
    main()
