"""POST /v1/ocr, through HTTP, file store, queue, worker, provider and back."""

import base64
import io
import json
from typing import Any

import pytest

from shared.jobs.tables import JobRow
from shared.ssrf import is_denied
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.installation import Installation
from tests.people import ROLES, add_user, changed, create, key_of, read, refused
from tests.providers import ScriptedProvider, fails, sends
from tests.recordings import stored_files

OCR = "/v1/ocr"
PUBLIC = "https://93.184.215.14/a.pdf"
PAGES = {
    "model": "upstream",
    "pages": [
        {"index": 0, "markdown": "# One two", "dimensions": {"dpi": 1, "height": 2, "width": 3}, "hyperlinks": []},
        {"index": 1, "markdown": "three", "images": [{"id": "a.png", "top_left_x": 1, "image_base64": "eA=="}]},
    ],
    "usage_info": {"pages_processed": 2, "doc_size_bytes": 5},
}


def data_uri(data: bytes = b"%PDF-1.7 hello", media_type: str = "application/pdf") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


PNG = b"\x89PNG\r\n\x1a\n"


def pdf(size: int) -> bytes:
    return b"%PDF-1.7 ".ljust(size, b"\0")


def document(url: str | None = None, **members: Any) -> dict[str, Any]:
    return {"type": "document_url", "document_url": data_uri() if url is None else url} | members


async def ocr(sluice: Installation, named: dict[str, Any] | None = None, **members: Any) -> Any:
    headers = sluice.headers | {"Content-Type": "application/json"} | members.pop("headers", {})
    body = io.BytesIO(json.dumps({"document": named or document()} | members).encode())
    return await sluice.client.post(OCR, data=body, headers=headers)


async def add_reader(sluice: Installation, url: str, kind: str = "mistral", **members: Any) -> None:
    await sluice.add_model("eyes", url, type=kind, router_type="image-to-text", **members)


async def test_a_document_becomes_pages(both: Installation) -> None:
    response = await ocr(both, document(document_name="Bill"), model="simulator-ocr")

    answer = await response.json()
    assert response.status == 200, answer
    assert (answer["model"], answer["id"]) == ("simulator-ocr", response.headers["x-job-id"])
    assert answer["pages"][0]["markdown"].startswith("# Bill\n\n")
    assert answer["usage_info"] == {"pages_processed": 1, "doc_size_bytes": 14}
    assert answer["usage"]["completion_tokens"] > 20
    assert answer["document_annotation"] is None
    assert (await both.job(answer["id"]))["kind"] == "ocr"


@pytest.mark.parametrize("kind", ["albert", "mistral"])
async def test_the_provider_gets_the_body_as_received(
    sluice: Installation, provider: ScriptedProvider, kind: str
) -> None:
    provider.default = sends(json.dumps(PAGES).encode())
    await add_reader(sluice, provider.url, kind, model_name="ocr-1", prices=(0, 10))

    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema_definition": {"type": "object"}}}
    response = await ocr(
        sluice, document(PUBLIC), model="eyes", pages=[0, 1], other=1, document_annotation_format=schema
    )

    answer = await response.json()
    assert response.status == 200, answer
    assert provider.requests == [
        {
            "document": document(PUBLIC), "model": "ocr-1", "pages": [0, 1], "other": 1,
            "document_annotation_format": schema,
        }
    ]  # fmt: skip
    first, second = answer["pages"]
    assert first == PAGES["pages"][0] | {"images": []}  # type: ignore[index,operator]
    assert (second["dimensions"], second["images"][0]["bottom_right_x"]) == (None, None)
    assert answer["usage_info"] == PAGES["usage_info"]
    assert answer["usage"]["prompt_tokens"] == 0
    record = (await sluice.rows(UsageRecordRow))[0]
    assert (record.endpoint, record.is_estimated, record.completion_tokens) == (OCR, True, 4)
    assert [row.amount_micros for row in await sluice.rows(ChargeRow)] == [40]


async def test_a_long_document_is_kept_in_the_file_store(both: Installation, provider: ScriptedProvider) -> None:
    provider.script = [fails(500), sends(json.dumps(PAGES).encode())]
    await add_reader(both, provider.url)
    uri = data_uri(PNG.ljust(3_000_000, b"\0"), "image/png")
    image = {"image_url": {"url": uri, "detail": "high"}}

    response = await ocr(both, image, model="eyes")

    answer = await response.json()
    assert response.status == 200, answer
    assert [request["document"] for request in provider.requests] == [image, image]
    row = (await both.rows(JobRow))[0]
    assert json.loads(row.request)["document"] == {"image_url": {"url": "stored:3000000", "detail": "high"}}
    assert stored_files(both) == [row.id]
    assert (await both.delete(f"/v1/jobs/{answer['id']}")).status == 200
    assert stored_files(both) == []


async def test_the_document_may_be_given_in_several_ways(sluice: Installation) -> None:
    image = data_uri(PNG, "image/png")
    ways = [
        {"document_url": data_uri()}, {"document_url": PUBLIC}, {"image_url": image}, {"image_url": {"url": image}},
        {"type": "image_url", "image_url": "http://93.184.215.14:8080/x.png"}, {"document_url": image},
        {"document_url": "https://example.invalid/a.pdf"},
    ]  # fmt: skip

    for way in ways:
        response = await ocr(sluice, way)
        assert response.status == 200, (way, await response.text())


async def test_what_does_not_fit_is_refused_with_the_place(both: Installation) -> None:
    needs_schema = {"type": "json_schema"}
    cases: list[tuple[list[str], dict[str, Any]]] = [
        (["document"], {}),
        (["document", "document_url"], {"document": {}}),
        (["document", "document_url"], {"document": document("ftp://h/x")}),
        (["document", "document_url"], {"document": document("stored:")}),
        (["document", "document_url"], {"document": document("file:///etc/passwd")}),
        (["document", "document_url"], {"document": document("data:application/pdf,abc")}),
        (["document", "document_url"], {"document": document("data:application/pdf;base64,")}),
        (["document", "document_url"], {"document": document("data:application/pdf;base64,abc")}),
        (["document", "document_url"], {"document": document("data:application/pdf;base64,ab*=")}),
        (["document", "image_url"], {"document": {"type": "image_url", "document_url": PUBLIC}}),
        (["document", "type"], {"document": {"type": "file", "document_url": PUBLIC}}),
        (["pages", 0], {"document": document(), "pages": [-1]}),  # type: ignore[list-item]
        (["bbox_annotation_format", "json_schema"], {"document": document(), "bbox_annotation_format": needs_schema}),
        (["model"], {"document": document(), "model": ""}),
    ]

    for place, body in cases:
        response = await both.post(OCR, body)
        answer = await response.json()
        assert response.status == 422, (body, answer)
        assert answer["detail"][0]["loc"][1:] == place, body
    for uri, member in ((data_uri(b"x", "audio/wav"), "document_url"), (data_uri(b"x"), "image_url")):
        assert await refused(await ocr(both, {member: uri})) == (422, "Unsupported file type.")
    assert await both.rows(JobRow) == []


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"hello", "application/pdf"), (bytes(1024) + b"%PDF-", "application/pdf"), (b"%PDF-1.7", "image/png"),
        (b"MZ\x90\0", "image/jpeg"), (b"<svg/>", "image/svg+xml"), (b"RIFF\0\0\0\0WAVE", "image/webp"),
        (b"hello", "application/octet-stream"), (b"\0\0\0\x18ftypisom", "image/avif"),
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_not_what_it_says_is_refused(sluice: Installation, data: bytes, media_type: str) -> None:
    answer = await refused(await ocr(sluice, document(data_uri(data, media_type))))

    assert answer == (422, "Unsupported file type.")
    assert await sluice.rows(JobRow) == []


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"\n" * 1000 + b"%PDF-2.0", "application/pdf"), (b"\xff\xd8\xff\xe0", "image/png"), (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "IMAGE/WEBP"), (b"II*\0", "image/tiff"), (b"\0\0\0\x18ftypavif", "image/avif"),
        (PNG, "application/octet-stream"), (b"%PDF-1.4", "application/octet-stream"), (b"Hello", "text/plain"),
        (b"PK\3\4", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ],
    ids=str,
)  # fmt: skip
async def test_what_it_is_counts_not_what_it_is_called(sluice: Installation, data: bytes, media_type: str) -> None:
    assert (await ocr(sluice, document(data_uri(data, media_type)))).status == 200


async def test_a_document_over_the_limit_is_refused(sluice: Installation) -> None:
    limit = 20 * 1024 * 1024
    response = await ocr(sluice, document(data_uri(pdf(limit + 1))))

    assert await refused(response) == (413, "File size limit exceeded (max: 20971520 bytes).")
    assert (await ocr(sluice, document(data_uri(pdf(limit))))).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "localhost.", "10.1.2.3:8080", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]",
        "0x7f000001", "2130706433", "127.1", "0177.0.0.1", "0", "[fd00::1]", "[64:ff9b::7f00:1]", "100.64.0.1",
        "user@93.184.215.14", "93.184.215.14\\@127.0.0.1", "127%2e0.0.1", "metadata.google.internal", "intranet",
        "\uff11\uff12\uff17.0.0.1", "a b", "", "[", "h:99999", "1.2.3.4.5",
    ],
)  # fmt: skip
async def test_a_private_address_is_refused(sluice: Installation, host: str) -> None:
    response = await ocr(sluice, document(f"http://{host}/a.pdf"))

    error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (400, "url_not_allowed", "document.document_url")
    assert await sluice.rows(JobRow) == []


def test_ipv4_and_ipv6_are_told_apart() -> None:
    assert not is_denied("8.8.8.8")
    assert not is_denied("2606:4700::1111")
    assert is_denied("fe80::1%eth0")


async def test_without_a_model_the_first_one_reads(both: Installation, provider: ScriptedProvider) -> None:
    await add_reader(both, provider.url)
    routers = {one["name"]: one["id"] for one in (await read(both, "/v1/admin/routers?limit=100"))["data"]}
    role = await create(both, ROLES, name="second", limits=[{"router": routers["eyes"], "type": "rpm"}])
    me = await key_of(both, (await add_user(both, role=role["id"]))["id"])
    provider.default = sends(json.dumps(PAGES).encode())

    first, second = await ocr(both), await ocr(both, headers=me)
    await changed(both, f"{ROLES}/{role['id']}", {"limits": []})
    none = await ocr(both, headers=me)

    assert (await first.json())["model"] == "simulator-ocr"
    assert (await second.json())["model"] == "eyes"
    assert await refused(none) == (404, "Model not found.")


async def test_a_refused_document_is_not_kept(both: Installation) -> None:
    long = document(data_uri(pdf(10_000)))
    await both.add_model("paid", router_type="image-to-text", prices=(1, 1))
    poor = await key_of(both, (await add_user(both, budget=0))["id"])

    answers = [
        await refused(await ocr(both, long, model="nobody")),
        await refused(await ocr(both, long, model="simulator")),
        await refused(await ocr(both, long, model="paid", headers=poor)),
    ]

    assert answers == [(404, "Model not found."), (422, "Wrong model type."), (400, "Insufficient budget.")]
    assert stored_files(both) == []
    assert await both.rows(JobRow) == []


async def test_pages_can_be_fetched_later(both: Installation) -> None:
    accepted = await ocr(both, headers={"Prefer": "respond-async"}, simulator={"text": "Hello"})

    assert accepted.status == 202
    result = await both.get(f"/v1/jobs/{(await accepted.json())['id']}/result?wait=10")
    assert (await result.json())["pages"][0]["markdown"] == "Hello"


@pytest.mark.parametrize("raw", [b"{}", b'{"pages": 1}', b'{"pages": [1]}', b'{"pages": [{"images": 5}]}', b"x"])
async def test_a_malformed_answer_is_the_providers_fault(
    sluice: Installation, provider: ScriptedProvider, raw: bytes
) -> None:
    provider.default = sends(raw)
    await add_reader(sluice, provider.url)

    response = await ocr(sluice, model="eyes")

    assert (response.status, (await response.json())["error"]["code"]) == (503, "provider_unavailable")
