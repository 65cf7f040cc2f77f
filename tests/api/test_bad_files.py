"""Files that are damaged, hostile or not what they say: a clear 4xx, nothing left, and the worker goes on."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.chunks.tables import ChunkRow
from shared.documents.tables import DocumentRow
from tests.conftest import make_settings
from tests.files import encrypted_pdf, entity_bomb, pdf, pdf_bomb, word_bomb, word_file
from tests.libraries import DOCUMENTS, EMBEDDER, Library, open_library
from tests.servers import RedisServer

PDF, DOCX = "application/pdf", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
DEEP = b"<div>" * 200_000


@pytest_asyncio.fixture
async def strict(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> AsyncIterator[Library]:
    """A library whose files must be read within 4 s and 400 MiB, on each database in turn."""
    settings = make_settings(
        tmp_path, redis_server, database_url=prepared_url, vector_store_model=EMBEDDER, document_parsing_timeout_s=4,
        document_parsing_memory_bytes=400 * 2**20,
    )  # fmt: skip
    async with open_library(settings) as opened:
        yield opened


async def test_every_format_is_read(library: Library) -> None:
    collection = await library.collection()
    html = (
        "<html><head><title>x</title></head><body><h1>Trains</h1><script>no()</script><p>They leave.</p></body></html>"
    )
    files = {
        "a.pdf": (pdf(["First page.", "", "Third page."]), ["First page.\n\nThird page."]),
        "b.docx": (word_file("They leave.", heading="Trains"), ["## Trains\n\nThey leave.\n\n| hour | train |"]),
        "c.html": (html.encode(), ["# Trains\n\nThey leave."]),
        "d.md": (b"\xef\xbb\xbf# Trains\r\n\r\nThey leave.\n", ["# Trains\n\nThey leave."]),
        "e.txt": ("Züge fahren.".encode("latin-1"), ["Züge fahren."]),
        "f.json": (b'{"trains":["leave"]}', ['{\n  "trains": [\n    "leave"\n  ]\n}']),
        "g.csv": (b"hour,train\n7,north\n", ["hour,train\n7,north"]),
    }
    for name, (data, expected) in files.items():
        document = await library.document(collection, data, name)
        chunks = (await library.read(f"{DOCUMENTS}/{document}/chunks"))["data"]
        assert [chunk["content"] for chunk in chunks] == expected, name


async def test_chunks_keep_their_pages(library: Library) -> None:
    collection = await library.collection()
    pages = ["The first page.", "", "The third page is about trains.", "The last one."]

    document = await library.document(collection, pdf(pages), "a.pdf", chunk_size=32)

    chunks = (await library.read(f"{DOCUMENTS}/{document}/chunks"))["data"]
    assert [(chunk["page"], chunk["content"]) for chunk in chunks] == [(0, pages[0]), (2, pages[2]), (3, pages[3])]


@pytest.mark.parametrize(
    ("name", "content_type", "data"),
    [
        ("encrypted.pdf", PDF, encrypted_pdf()),
        ("truncated.pdf", PDF, pdf(["Hello"])[:60]),
        ("not.pdf", PDF, b"%PDF-1.7\n" + bytes(range(256)) * 50),
        ("empty.pdf", PDF, pdf([])),
        ("blank.pdf", PDF, pdf(["", ""])),
        ("many.pdf", PDF, pdf([""] * 10_000)),
        ("bomb.pdf", PDF, pdf_bomb(600)),
        ("bomb.docx", DOCX, word_bomb(200)),
        ("lying.docx", DOCX, word_bomb(90, is_honest=False)),
        ("entities.docx", DOCX, entity_bomb()),
        ("not.docx", DOCX, b"PK\x03\x04 nothing"),
        ("other.docx", DOCX, pdf(["Hello"])),
        ("binary.txt", "text/plain", bytes(range(256)) * 10),
        ("noise.txt", "text/plain", bytes(range(128, 160)) * 10),
        ("broken.json", "application/json", b'{"a": '),
        ("deep.html", "text/html", DEEP),
        ("blank.html", "text/html", b"<script>alert(1)</script>"),
        ("zero.txt", "text/plain", b""),
    ],
)
async def test_a_bad_file_is_a_422(strict: Library, name: str, content_type: str, data: bytes) -> None:
    collection = await strict.collection()

    response = await strict.upload(collection, data, name, content_type)

    answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (422, "parsing_failed"), answer
    assert await strict.installation.rows(DocumentRow) == await strict.installation.rows(ChunkRow) == []
    assert (await strict.upload(collection, "Trains leave.")).status == 201


async def test_a_separator_that_takes_for_ever_ends_in_time(strict: Library) -> None:
    collection = await strict.collection()

    response = await strict.upload(
        collection, "a" * 5000 + "b", separators=["(a+)+$"], is_separator_regex="true", chunk_size=10
    )

    assert (response.status, (await response.json())["error"]["code"]) == (422, "parsing_failed")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.exe", "application/x-exe"), ("a.pdf", "text/plain"), ("a.md", "application/pdf"),
        ("a", "application/octet-stream"),        ("a.zip", "application/zip"), ("a.txt", "application/x-tar"),
    ],
)  # fmt: skip
async def test_other_types_are_refused(strict: Library, name: str, content_type: str) -> None:
    response = await strict.upload(await strict.collection(), b"Hello", name, content_type)

    answer = await response.json()
    assert (response.status, answer["detail"]) == (422, "Unsupported file type.")


async def test_too_large_a_file_is_a_413(strict: Library) -> None:
    response = await strict.upload(await strict.collection(), bytes(20 * 1024 * 1024 + 1))

    assert (response.status, (await response.json())["detail"]) == (
        413, "File size limit exceeded (max: 20971520 bytes).",
    )  # fmt: skip


async def test_others_are_served_while_files_are_read(strict: Library) -> None:
    collection = await strict.collection()
    began = time.monotonic()

    files = [pdf_bomb(100), pdf_bomb(101), pdf(["Hello"], count=2_000_000_000)]
    responses = [await strict.upload(collection, one, "a.pdf") for one in files]

    assert {response.status for response in responses} <= {201, 422}
    assert (await strict.read("/v1/collections"))["total"] == 1
    assert time.monotonic() - began < 30
