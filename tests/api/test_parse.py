"""PDFs page by page, and scanned pages through a model that reads images; on both databases."""

import json
from typing import Any

import pytest
from aiohttp import FormData

from shared.jobs.tables import JobRow
from tests.files import encrypted_pdf, pdf, scanned_pdf, word_file
from tests.installation import Installation
from tests.libraries import DOCUMENTS, Library
from tests.people import person, refused
from tests.providers import ScriptedProvider, fails, sends

PARSE = "/v1/parse-beta"
READ = {"pages": [{"index": 0, "markdown": "# Read by eyes", "images": [], "dimensions": None}]}


async def parse(
    installation: Installation, data: bytes | None, name: str = "a.pdf", headers: dict[str, str] | None = None,
    **fields: Any,
) -> Any:  # fmt: skip
    form = FormData()
    for key, value in fields.items():
        form.add_field(key, value)
    if data is not None:
        form.add_field("file", data, filename=name, content_type="application/octet-stream")
    else:
        form.add_field("x", "y", content_type="text/plain")
    return await installation.client.post(PARSE, data=form, headers=installation.headers | (headers or {}))


async def use_eyes(installation: Installation, provider: ScriptedProvider) -> None:
    """Let a scripted server read images, instead of the simulator."""
    for one in (await (await installation.get("/v1/admin/providers?router=6")).json())["data"]:
        assert (await installation.delete(f"/v1/admin/providers/{one['id']}")).status == 200
    await installation.add_provider(6, provider.url, type="mistral")
    assert installation.runtime is not None
    await installation.runtime.directory.refresh()
    provider.default = sends(json.dumps(READ).encode())


async def test_pages_come_in_order(both: Installation) -> None:
    data = pdf([f"Page number {number}." for number in range(12)])

    every = await (await parse(both, data)).json()
    some = await (await parse(both, data, page_range="10, 2-4,3")).json()

    assert [page["content"] for page in every["data"]] == [f"Page number {number}." for number in range(12)]
    assert [page["metadata"] for page in some["data"]] == [
        {"document_name": "a.pdf", "page": number} for number in (2, 3, 4, 10)
    ]
    assert every["usage"]["total_tokens"] == every["usage"]["requests"] == 0
    assert await both.rows(JobRow) == []


async def test_images_are_named_in_the_text(both: Installation, provider: ScriptedProvider) -> None:
    await use_eyes(both, provider)

    answer = await (await parse(both, scanned_pdf("Words.", None))).json()

    first, second = answer["data"]
    assert (first["content"], first["images"]) == ("Words.", {})
    assert list(second["images"]) == ["_page_1_image_0.jpeg"]
    assert second["images"]["_page_1_image_0.jpeg"].startswith("data:image/jpeg;base64,/9j/")
    assert second["content"] == "# Read by eyes"
    assert answer["usage"]["requests"] == len(provider.requests) == 1
    assert provider.requests[0]["document"]["image_url"].startswith("data:image/jpeg;base64,")


async def test_every_page_is_read_if_that_is_asked_for(both: Installation, provider: ScriptedProvider) -> None:
    await use_eyes(both, provider)

    answer = await (await parse(both, pdf(["One.", "Two."]), force_ocr="true")).json()

    assert [page["content"] for page in answer["data"]] == ["# Read by eyes"] * 2
    assert [job.kind for job in await both.rows(JobRow)] == ["ocr", "ocr"]


async def test_what_cannot_be_parsed(both: Installation) -> None:
    good = pdf(["One.", "Two."])
    blind = await person(both)
    off = (403, "Feature not enabled, please contact an administrator.")

    assert await refused(await parse(both, word_file("x"), "a.docx")) == (422, "File must be a pdf file.")
    assert await refused(await parse(both, good, "a.exe")) == (422, "Unsupported file type.")
    assert await refused(await parse(both, encrypted_pdf())) == (422, "Parsing document failed.")
    assert await refused(await parse(both, good, force_ocr="true", headers=blind)) == off
    for page_range in ("2", "0-5", "x", "1-", "-1", "3-1", "0,,1", "0-999999", "0-9999,10000"):
        response = await parse(both, good, page_range=page_range)
        assert (response.status, (await response.json())["error"]["param"]) == (422, "page_range"), page_range
    assert (await parse(both, None)).status == 422


async def test_scanned_pages_become_chunks(library: Library, provider: ScriptedProvider) -> None:
    await use_eyes(library.installation, provider)
    collection = await library.collection()

    document = await library.document(collection, scanned_pdf("Words of the first page.", None), "a.pdf", chunk_size=30)

    chunks = (await library.read(f"{DOCUMENTS}/{document}/chunks"))["data"]
    assert [(chunk["page"], chunk["content"]) for chunk in chunks] == [
        (0, "Words of the first page."), (1, "# Read by eyes"),
    ]  # fmt: skip
    assert sorted(job.kind for job in await library.installation.rows(JobRow)) == ["ingestion", "ocr"]


async def test_a_reader_that_fails_leaves_nothing(library: Library, provider: ScriptedProvider) -> None:
    await use_eyes(library.installation, provider)
    provider.default = fails(400, "Too blurred.")
    collection = await library.collection()

    response = await library.upload(collection, scanned_pdf(None, None), "a.pdf")

    assert await refused(response) == (400, "Too blurred.")
    assert (await library.read(DOCUMENTS))["total"] == 0


@pytest.mark.parametrize("text", ["", "Hello"])
async def test_without_a_reader_scanned_pages_are_empty(both: Installation, text: str) -> None:
    blind = await person(both)

    answer = await (await parse(both, scanned_pdf(text or None), headers=blind)).json()

    [page] = answer["data"]
    assert page["content"] == (text or "![](_page_0_image_0.jpeg)")
