"""What every inference request may say of its job: `metadata`, `store`, `user`."""

from typing import Any

import pytest

from shared.jobs.tables import JobRow
from tests.installation import Installation
from tests.providers import ScriptedProvider, continues, embeds, ranks, sends
from tests.recordings import TRANSCRIPTIONS, form_of, transcribe

SAID = {"metadata": {"run": "nightly"}, "store": False, "user": "somebody"}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Hello"},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/v1/audio/speech": {"input": "Hello", "voice": "alloy"},
    "/v1/ocr": {"document": {"document_url": "data:application/pdf;base64,JVBERi0xLjc="}},
}
MODELS = {
    "/v1/completions": "simulator",
    "/v1/embeddings": "simulator-embedding",
    "/v1/rerank": "simulator-rerank",
    "/v1/audio/speech": "simulator-speech",
    "/v1/ocr": "simulator-ocr",
}
HOUR_MS = 3_600_000


async def assert_kept(sluice: Installation, job_id: str) -> None:
    """What was said is with the job, which is in no list and whose result is kept for an hour."""
    job = await sluice.job(job_id)
    row = (await sluice.rows(JobRow))[0]
    assert (job["metadata"], job["user"], row.store) == (SAID["metadata"], SAID["user"], False)
    assert row.result_expires_ms - row.finished_ms == HOUR_MS
    assert (await (await sluice.get("/v1/jobs")).json())["data"] == []


@pytest.mark.parametrize("path", list(BODIES))
async def test_what_a_body_says_of_its_job_is_kept_with_it(both: Installation, path: str) -> None:
    response = await both.post(path, {"model": MODELS[path]} | BODIES[path] | SAID)

    assert response.status == 200, await response.text()
    await assert_kept(both, response.headers["x-job-id"])


@pytest.mark.parametrize("metadata", [{"metadata": '{"run": "nightly"}'}, {"metadata[run]": "nightly"}])
async def test_what_a_form_says_of_its_job_is_kept_with_it(both: Installation, metadata: dict[str, str]) -> None:
    response = await transcribe(both, store="false", user="somebody", **metadata)

    assert response.status == 200, await response.text()
    await assert_kept(both, response.headers["x-job-id"])


@pytest.mark.parametrize("path", list(BODIES))
@pytest.mark.parametrize(
    ("member", "value"),
    [("metadata", "nightly"), ("metadata", {"a": 1}), ("metadata", {"a": "\0"}), ("store", "maybe"), ("user", "\0")],
)
async def test_what_a_job_cannot_keep_is_422(sluice: Installation, path: str, member: str, value: Any) -> None:
    response = await sluice.post(path, {"model": MODELS[path]} | BODIES[path] | {member: value})

    assert response.status == 422
    assert (await response.json())["detail"][0]["loc"][1] == member
    assert await sluice.rows(JobRow) == []


@pytest.mark.parametrize("field", [{"metadata": "nightly"}, {"metadata": '{"a": 1}'}, {"store": "maybe"}])
async def test_fields_that_a_job_cannot_keep_are_422(sluice: Installation, field: dict[str, str]) -> None:
    response = await transcribe(sluice, **field)

    assert response.status == 422
    assert (await response.json())["detail"][0]["loc"][1] in field
    assert await sluice.rows(JobRow) == []


SERVERS = {
    "/v1/completions": ("openai", "text-generation", continues("Hi"), {"user"}),
    "/v1/embeddings": ("openai", "text-embeddings-inference", embeds(), {"user"}),
    "/v1/rerank": ("vllm", "text-classification", ranks(0.5), set[str]()),
    "/v1/audio/speech": ("openai", "text-to-speech", sends(b"sound", "audio/mpeg"), set[str]()),
    "/v1/ocr": ("mistral", "image-to-text", sends(b'{"pages": []}'), set[str]()),
}
"""Path → type of a provider, type of its router, what it answers, members that it gets."""


@pytest.mark.parametrize("path", list(SERVERS))
async def test_a_provider_gets_what_its_operation_knows(
    sluice: Installation, provider: ScriptedProvider, path: str
) -> None:
    kind, router_type, provider.default, sent = SERVERS[path]
    await sluice.add_model("public", provider.url, type=kind, router_type=router_type)

    response = await sluice.post(path, {"model": "public"} | BODIES[path] | SAID)

    assert response.status == 200, await response.text()
    assert set(provider.requests[0]) == {"model"} | set(BODIES[path]) | sent


async def test_a_provider_of_transcripts_does_not_get_the_fields_of_the_job(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = sends(b'{"text": "Hello"}')
    await sluice.add_model("ears", provider.url, router_type="automatic-speech-recognition")
    fields = {"model": "ears", "store": "true", "user": "me", "metadata[run]": "nightly", "other[run]": "kept"}

    response = await sluice.client.post(TRANSCRIPTIONS, data=form_of(**fields), headers=sluice.headers)

    assert response.status == 200, await response.text()
    assert set(provider.requests[0]) == {"file", "model", "response_format", "other[run]"}
