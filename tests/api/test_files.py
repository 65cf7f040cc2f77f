"""/v1/files: upload, list, get, read, delete."""

from io import BytesIO
from typing import Any

import pytest
from aiohttp import FormData

from shared.clock import now_ms
from shared.files.tables import FileRow
from tests.installation import Installation
from tests.people import add_user, key_of

FILES = "/v1/files"


def upload_form(data: bytes = b"one\ntwo\n", name: str = "a.jsonl", **members: str) -> FormData:
    form = FormData(quote_fields=False)
    for member, value in ({"purpose": "batch"} | members).items():
        form.add_field(member, value)
    form.add_field("file", BytesIO(data), filename=name)
    return form


async def upload(installation: Installation, data: bytes = b"one\ntwo\n", **members: Any) -> Any:
    headers = installation.headers | members.pop("headers", {})
    return await installation.client.post(FILES, data=upload_form(data, **members), headers=headers)


async def uploaded(installation: Installation, data: bytes = b"one\ntwo\n", **members: Any) -> Any:
    response = await upload(installation, data, **members)
    assert response.status == 200, await response.text()
    return await response.json()


async def test_an_upload_is_kept_and_read_again(both: Installation) -> None:
    file = await uploaded(both, b"x" * 3_000_000, name="ä.jsonl")

    assert (file["object"], file["bytes"], file["filename"], file["purpose"]) == ("file", 3_000_000, "ä.jsonl", "batch")
    assert file["expires_at"] - file["created_at"] == 30 * 86_400
    assert await (await both.get(f"{FILES}/{file['id']}")).json() == file
    content = await both.get(f"{FILES}/{file['id']}/content")
    assert await content.read() == b"x" * 3_000_000
    assert content.headers["Content-Type"] == "application/octet-stream"
    assert content.headers["Content-Length"] == "3000000"
    assert "%C3%A4.jsonl" in content.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("bytes=2-4", 206, b"cde"),
        ("bytes=5-", 206, b"fgh"),
        ("bytes=-3", 206, b"fgh"),
        ("bytes=6-100", 206, b"gh"),
        ("bytes=0-7", 200, b"abcdefgh"),
        ("bytes=4-2", 200, b"abcdefgh"),
        ("lines=1-2", 200, b"abcdefgh"),
        ("bytes=0-1,3-4", 200, b"abcdefgh"),
        (f"bytes={'9' * 5000}-", 200, b"abcdefgh"),
    ],
)
async def test_a_part_of_a_file_is_read(sluice: Installation, header: str, status: int, body: bytes) -> None:
    file = await uploaded(sluice, b"abcdefgh")

    response = await sluice.get(f"{FILES}/{file['id']}/content", headers={"Range": header})

    assert (response.status, await response.read()) == (status, body)


@pytest.mark.parametrize("header", ["bytes=8-", "bytes=-0"])
async def test_a_range_behind_the_end_is_refused(sluice: Installation, header: str) -> None:
    file = await uploaded(sluice, b"abcdefgh")

    response = await sluice.get(f"{FILES}/{file['id']}/content", headers={"Range": header})

    assert (response.status, (await response.json())["error"]["code"]) == (416, "range_not_satisfiable")
    assert response.headers["Content-Range"] == "bytes */8"


async def test_files_are_listed_by_page_and_purpose(both: Installation) -> None:
    files = [await uploaded(both, purpose=purpose) for purpose in ("batch", "user_data", "batch", "batch")]

    first = await (await both.get(f"{FILES}?limit=2&purpose=batch")).json()
    second = await (await both.get(f"{FILES}?limit=2&purpose=batch&after={first['last_id']}")).json()
    oldest = await (await both.get(f"{FILES}?order=asc&limit=1")).json()

    assert [file["id"] for file in first["data"]] == [files[3]["id"], files[2]["id"]]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert [file["id"] for file in second["data"]] == [files[0]["id"]]
    assert oldest["data"] == [files[0]]


async def test_an_expiry_is_kept(sluice: Installation) -> None:
    file = await uploaded(sluice, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    other = await uploaded(sluice, purpose="user_data")

    assert file["expires_at"] - file["created_at"] == 3600
    assert other["expires_at"] is None


@pytest.mark.parametrize(
    ("data", "members", "status", "code"),
    [
        (b"", {}, 400, "empty_file"),
        (b"x", {"purpose": "nothing"}, 422, "invalid_request"),
        (b"x", {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, 422, "invalid_request"),
        (b"x", {"expires_after[anchor]": "last_used_at", "expires_after[seconds]": "3600"}, 422, "invalid_request"),
        (b"x", {"expires_after[seconds]": "3600"}, 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_a_file_is_refused_and_not_kept(
    sluice: Installation, data: bytes, members: dict[str, str], status: int, code: str
) -> None:
    response = await upload(sluice, data, **members)

    assert (response.status, (await response.json())["error"]["code"]) == (status, code)
    assert await sluice.rows(FileRow) == []
    assert [path async for path in stored_uploads(sluice)] == []


async def test_a_file_without_a_name_is_refused(sluice: Installation) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\nabc\r\n--x--\r\n'
    )
    headers = sluice.headers | {"Content-Type": "multipart/form-data; boundary=x"}

    response = await sluice.client.post(FILES, data=body, headers=headers)

    assert (response.status, (await response.json())["error"]["code"]) == (400, "empty_file")


async def stored_uploads(installation: Installation) -> Any:
    for path in (installation.state.settings.data_path / "files" / "uploads").glob("*"):
        yield path


async def test_a_file_whose_time_is_over_is_not_listed(both: Installation) -> None:
    file = await uploaded(both)
    async with both.state.database.transaction() as session:
        (await session.get_one(FileRow, file["id"].removeprefix("file-"))).expires_ms = now_ms()

    assert (await (await both.get(FILES)).json())["data"] == []
    assert (await both.get(f"{FILES}/{file['id']}")).status == 410


async def test_a_deleted_file_leaves_a_tombstone(both: Installation) -> None:
    file = await uploaded(both)

    deleted = await (await both.delete(f"{FILES}/{file['id']}")).json()
    again = await both.get(f"{FILES}/{file['id']}/content")

    assert deleted == {"id": file["id"], "object": "file", "deleted": True}
    answer = await again.json()
    assert (again.status, answer["error"]["code"]) == (410, "file_gone")
    assert answer["tombstone"]["reason"] == "deleted"
    assert [path async for path in stored_uploads(both)] == []
    assert (await (await both.get(FILES)).json())["data"] == []


async def test_files_of_others_are_not_found(sluice: Installation) -> None:
    file = await uploaded(sluice)
    other = await key_of(sluice, (await add_user(sluice))["id"])

    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        response = await sluice.client.request(method, f"{FILES}/{file['id']}{path}", headers=other)
        assert (response.status, (await response.json())["error"]["code"]) == (404, "file_not_found")
    assert (await (await sluice.client.get(FILES, headers=other)).json())["data"] == []
