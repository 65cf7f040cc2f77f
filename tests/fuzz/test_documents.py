"""Files of callers, read by a real parser process: text comes out, or the reason why not; the process serves on."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from shared.parsing.formats import MAX_CHARACTERS
from shared.parsing.pool import ParserPool, ParsingError
from shared.parsing.protocol import ParseRequest
from shared.parsing.types import FileType
from shared.splitting.splitter import Splitting
from tests.files import encrypted_pdf, entity_bomb, pdf, scanned_pdf, word_file
from tests.fuzz.profile import share_of
from tests.fuzz.strategies import broken, faulty_json

LIBRARY: Final = Path(__file__).parents[1] / "data/library"
WORD: Final = word_file("One.", "Two.", heading="Title")
TEXTS: Final[dict[FileType, tuple[bytes, ...]]] = {
    "pdf": (pdf(["One.", "", "Three."]), scanned_pdf("Hi", None), encrypted_pdf(), pdf(["a"], count=10**9)),
    "docx": (WORD, entity_bomb()),
    "html": ((LIBRARY / "declaration.html").read_bytes()[:3000], b"<p>a<b>b</p><table><tr><td>c", b"<div>" * 500),
    "markdown": ((LIBRARY / "amendments.md").read_bytes()[:3000], b"# a\n\n- b\n"),
    "text": ((LIBRARY / "gettysburg.txt").read_bytes(), "é\ufeff\u2028".encode("utf-16"), b"\xe9t\xe9 " * 50),
    "csv": (b'a,b\n1,"2\n3"\n',),
}
MEMORY_BYTES: Final = 2**30
TIMEOUT_S: Final = 20


@pytest_asyncio.fixture
async def parsers() -> AsyncIterator[ParserPool]:
    pool = ParserPool(1, TIMEOUT_S, MEMORY_BYTES)
    yield pool
    await pool.close()


async def read(parsers: ParserPool, file_type: FileType, data: bytes, *, as_pictures: bool = False) -> None:
    """Check what comes of a file, and that the next one is read as ever."""
    splitting = None if as_pictures else Splitting(chunk_size=50)
    pictures = {"as_pictures": as_pictures, "with_images": True} if file_type == "pdf" else {}
    for wanted in (None, splitting):
        request = ParseRequest(type=file_type, data=data, splitting=wanted, **pictures)
        try:
            found = await parsers.parse(request)
        except ParsingError:
            continue
        assert sum(len(page.text) for page in found.pages) <= MAX_CHARACTERS
        assert all(chunk.text.strip() for chunk in found.chunks)
    sound = await parsers.parse(ParseRequest(type="text", data=b"sound"))
    assert [page.text for page in sound.pages] == ["sound"]


@share_of(0.7)
@given(st.data())
async def test_files(parsers: ParserPool, data: st.DataObject) -> None:
    file_type: FileType = data.draw(st.sampled_from(sorted(TEXTS)))
    other = data.draw(st.sampled_from([file_type, file_type, file_type, *sorted(TEXTS)]))
    written = data.draw(broken(st.sampled_from(TEXTS[other]), most=4))

    await read(parsers, file_type, written, as_pictures=data.draw(st.booleans()))


@share_of(0.5)
@given(faulty_json({"a": [1, {"b": "c"}], "d": None}, [[[]]], "text"))
async def test_documents_of_json(parsers: ParserPool, data: bytes) -> None:
    await read(parsers, "json", data)
