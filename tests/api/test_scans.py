"""Scanned pages are read before an ingestion, whoever restarts meanwhile; on both databases."""

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import FormData

from shared.documents.tables import DocumentRow
from shared.jobs.tables import JobRow
from shared.settings import Settings
from shared.usage.tables import ChargeRow
from tests.api.test_parse import use_eyes
from tests.conftest import make_settings
from tests.files import scanned_pdf
from tests.installation import Installation, open_installation
from tests.libraries import DOCUMENTS, EMBEDDER, Library, open_library
from tests.people import add_user, key_of
from tests.providers import ScriptedProvider, hangs
from tests.servers import RedisServer
from tests.waiting import eventually

STORES = "/v1/vector_store"


async def upload(sluice: Installation, headers: dict[str, str], data: bytes) -> Any:
    form = FormData()
    form.add_field("file", data, filename="a.pdf", content_type="application/pdf")
    response = await sluice.client.post(f"{STORES}/s/files", data=form, headers=sluice.headers | headers)
    assert response.status == 201, await response.text()
    return (await response.json())["file"]


def impatient(tmp_path: Path, redis_server: RedisServer, url: str) -> Settings:
    """Return settings of an installation that does not wait for providers when it stops."""
    return make_settings(tmp_path, redis_server, database_url=url, vector_store_model=EMBEDDER, drain_s=0.3)


async def test_a_file_is_read_on_after_a_restart_and_no_page_twice(
    tmp_path: Path, redis_server: RedisServer, prepared_url: str, provider: ScriptedProvider
) -> None:
    settings = impatient(tmp_path, redis_server, prepared_url)
    async with open_library(settings) as library:
        await use_eyes(library.installation, provider)
        provider.script = [provider.default, hangs()]
        await library.installation.post(STORES, {"name": "s"}, headers=library.headers)
        file = await upload(library.installation, library.headers, scanned_pdf(None, "Words.", None))
        assert file["status"] == "enqueued"
        await eventually(lambda: len(provider.requests) == 2)
        async with asyncio.timeout(10):
            while [job.status for job in await library.installation.rows(JobRow)].count("completed") != 1:
                await asyncio.sleep(0.02)

    async with open_installation(settings) as sluice:

        async def is_over() -> Any:
            found = (await (await sluice.get(f"{STORES}/s/files/{file['id']}", headers=library.headers)).json())["file"]
            return found if found["status"] in ("completed", "failed") else None

        done = await eventually(is_over)
        jobs, charges = await sluice.rows(JobRow), await sluice.rows(ChargeRow)

    assert (done["status"], done["error"], done["items"]) == ("completed", None, 1)
    assert sorted(job.kind for job in jobs) == ["ingestion", "ocr", "ocr"]
    assert len(charges) == 3
    assert len(provider.requests) == 3  # the page that hung was asked for again


async def test_who_may_not_use_the_reader_has_the_words_alone(library: Library, provider: ScriptedProvider) -> None:
    sluice = library.installation
    await use_eyes(sluice, provider)
    limits = [{"router": 2, "type": "rpm", "value": None}]
    role = await (await sluice.post("/v1/admin/roles", {"name": "slow", "limits": limits})).json()
    user = await add_user(sluice, "slow@example.com", role=role["id"])
    slow = Library(sluice, await key_of(sluice, user["id"]))

    response = await slow.upload(await slow.collection(), scanned_pdf(None, "Words."), "a.pdf")

    assert response.status == 201, await response.text()
    document = (await response.json())["id"]
    chunks = (await slow.read(f"{DOCUMENTS}/{document}/chunks"))["data"]
    assert [chunk["content"] for chunk in chunks] == ["Words."]  # he may not use the model that reads images
    assert provider.requests == []


async def test_a_file_that_is_deleted_while_pages_are_read_is_gone(
    tmp_path: Path, redis_server: RedisServer, prepared_url: str, provider: ScriptedProvider
) -> None:
    async with open_library(impatient(tmp_path, redis_server, prepared_url)) as library:
        sluice = library.installation
        await use_eyes(sluice, provider)
        provider.script = [hangs()]
        await sluice.post(STORES, {"name": "s"}, headers=library.headers)
        file = await upload(sluice, library.headers, scanned_pdf(None))
        await eventually(lambda: provider.requests)

        assert await library.delete(f"{STORES}/s/files/{file['id']}") == 204

        assert await sluice.rows(DocumentRow) == []
        [ingestion] = await sluice.rows(JobRow, JobRow.kind == "ingestion")
        assert ingestion.status == "cancelled"
