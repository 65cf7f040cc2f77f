"""A worker is killed while it fills a document: the document is whole in the end, and paid for once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import ClientSession, FormData

from shared.chunks.tables import ChunkRow
from shared.documents.tables import DocumentRow, ItemRow
from shared.usage.tables import ChargeRow
from tests.faults.conftest import new_folder
from tests.faults.processes import Processes, rows
from tests.waiting import eventually


@pytest_asyncio.fixture
async def library(tmp_path: Path, prepared_url: str) -> AsyncIterator[Processes]:
    """A running installation with an embedding model, on each database in turn."""
    options = {"lease_s": 2, "vector_store_model": "simulator-embedding", "database_url": prepared_url}
    running = Processes(new_folder(tmp_path), **options)
    try:
        await running.start()
        yield running
    finally:
        await running.close()


async def call(http: ClientSession, library: Processes, method: str, path: str, **options: Any) -> Any:
    url = f"{library.url}/v1/vector_store{path}"
    async with http.request(method, url, headers=library.headers, **options) as response:
        assert response.status < 300, await response.text()
        return await response.json()


async def test_a_killed_worker_leaves_no_half_document_and_no_chunk_twice(library: Processes) -> None:
    text = "\n\n".join(f"# Part {part}\n\n" + f"About part {part}, in words. " * 60 for part in range(100))
    form = FormData()
    form.add_field("file", text.encode(), filename="a.md", content_type="text/markdown")
    async with ClientSession() as http:
        await call(http, library, "POST", "", json={"name": "s"})
        library.arm("before_finish")
        file = (await call(http, library, "POST", "/s/files", data=form))["file"]

        async def is_over() -> bool:
            found = await call(http, library, "GET", f"/s/files/{file['id']}")
            return found["file"]["status"] in ("completed", "failed")

        await eventually(is_over, within_s=30)
        done = (await call(http, library, "GET", f"/s/files/{file['id']}"))["file"]
        items = (await call(http, library, "GET", "/s/items"))["items"]

    assert not (library.folder / "fault-before_finish").exists()
    assert done["status"] == "completed"
    assert done["items"] == len(items) >= 100
    assert [item["description"] for item in items] == [f"a.md [{n}/{len(items)}]" for n in range(1, len(items) + 1)]
    chunks = await rows(library, ChunkRow)
    assert len({chunk.number for chunk in chunks}) == len(chunks) == len(items)
    assert len(await rows(library, ItemRow)) == len(items)
    [document] = await rows(library, DocumentRow)
    assert (document.attempt, document.chunks) == (2, len(items))
    assert len(await rows(library, ChargeRow)) == 1
