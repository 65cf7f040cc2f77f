"""`Idempotency-Key` of requests whose work is done by jobs on the way to their answer: ingestions, searches, scans."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

import api.knowledge
import api.searching
from shared.documents.tables import DocumentRow
from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.api.test_documents import use_provider
from tests.libraries import SEARCH, Library
from tests.providers import ScriptedProvider, hangs
from tests.waiting import eventually

KEY = {"Idempotency-Key": "k-1"}
TEXT = "Trains leave every hour."


def lose_one(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """Have the database away at the next call of a function."""
    real = getattr(module, name)

    async def fail(*_args: Any) -> Any:
        monkeypatch.setattr(module, name, real)
        raise OperationalError("SELECT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(module, name, fail)


async def upload(library: Library, collection: int) -> Any:
    return await library.upload(collection, TEXT, headers=KEY)


async def test_a_document_whose_answer_was_lost_is_made_once(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = await library.collection()
    lose_one(monkeypatch, api.knowledge, "answer")

    lost = await upload(library, collection)
    (job,) = await library.installation.rows(JobRow)
    await eventually(lambda: is_over(library, job.id))
    again = await upload(library, collection)

    assert (lost.status, again.status, again.headers["Idempotency-Replayed"]) == (503, 201, "true")
    assert again.headers["x-job-id"] == f"job_{job.id}"
    assert [row.id for row in await library.installation.rows(DocumentRow)] == [(await again.json())["id"]]
    assert len(await library.installation.rows(ChargeRow)) == 1


async def is_over(library: Library, job_id: str) -> bool:
    (row,) = await library.installation.rows(JobRow, JobRow.id == job_id)
    return row.finished_ms is not None


async def test_uploads_of_one_moment_make_one_document(library: Library) -> None:
    collection = await library.collection()

    responses = await asyncio.gather(*(upload(library, collection) for _ in range(5)))

    assert {response.status for response in responses} <= {201, 409}
    (document,) = await library.installation.rows(DocumentRow)
    (job,) = await library.installation.rows(JobRow)
    await eventually(lambda: is_over(library, job.id))
    assert (await (await upload(library, collection)).json())["id"] == document.id
    assert len(await library.installation.rows(JobRow)) == 1


async def test_an_ingestion_is_in_flight_as_long_as_its_job_runs(library: Library, provider: ScriptedProvider) -> None:
    await use_provider(library, provider)
    provider.default = hangs()
    collection = await library.collection()
    first = asyncio.ensure_future(upload(library, collection))
    await eventually(lambda: provider.running == 1)

    second = await upload(library, collection)

    (job,) = await library.installation.rows(JobRow)
    assert (second.status, (await second.json())["error"]["code"]) == (409, "idempotency_in_flight")
    assert second.headers["Location"] == f"/v1/jobs/job_{job.id}"
    await library.installation.post(f"/v1/jobs/job_{job.id}/cancel", headers=library.headers)
    await first


async def test_a_search_whose_answer_was_lost_is_charged_once(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.document(await library.collection(), TEXT)
    charges = len(await library.installation.rows(ChargeRow))
    lose_one(monkeypatch, api.searching, "read_chunks")

    lost, found, again = [
        await library.installation.post(SEARCH, {"query": "trains"}, headers=library.headers | KEY) for _ in range(3)
    ]

    assert (lost.status, found.status, again.status) == (503, 200, 200)
    assert [hit["chunk"]["content"] for hit in (await found.json())["data"]] == [TEXT]
    assert await found.read() == await again.read()
    assert len(await library.installation.rows(ChargeRow)) == charges + 1
