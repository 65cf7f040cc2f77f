"""POST /v1/audio/transcriptions, through form, file store, queue, worker, provider and back."""

import asyncio
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from shared.clock import now_ms
from shared.jobs.tables import JobResultRow, JobRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.api.test_retention import change, sweep
from tests.installation import Installation
from tests.providers import ScriptedProvider, fails, says, sends
from tests.recordings import bytes_of, recording, stored_files, transcribe
from worker.providers.base import ProviderCall, ProviderError, ProviderFile

SEGMENTS = [
    {"id": 0, "start": 0, "end": 1.5, "text": " Hello there", "avg_logprob": -0.1},
    {"id": 1, "start": 3661.25, "end": 3662, "text": "second --> line\n\nend"},
]
VERBOSE = {"text": "Hello there second", "language": "english", "duration": 2.0, "segments": SEGMENTS}


def answers(document: Any) -> Any:
    return sends(json.dumps(document).encode(), "application/json; charset=utf-8")


async def add_transcriber(sluice: Installation, url: str, kind: str = "openai", **members: Any) -> None:
    await sluice.add_model("ears", url, type=kind, router_type="automatic-speech-recognition", **members)


async def test_a_recording_becomes_text(both: Installation) -> None:
    response = await transcribe(both)

    answer = await response.json()
    assert response.status == 200, answer
    assert len(answer["text"].split()) == 20
    assert answer["model"] == "simulator-transcription"
    assert answer["id"] == response.headers["x-job-id"]
    assert answer["usage"]["completion_tokens"] == 20
    job = await both.job(answer["id"])
    assert (job["kind"], job["status"], job["endpoint"]) == (
        "audio.transcription", "completed", "/v1/audio/transcriptions",
    )  # fmt: skip


async def test_the_same_recording_becomes_the_same_text(sluice: Installation) -> None:
    texts = [(await (await transcribe(sluice, recording(length))).json())["text"] for length in (0.1, 0.1, 0.2)]

    assert texts[0] == texts[1] != texts[2]


async def test_the_recording_is_in_the_file_store_and_the_row_names_it(both: Installation) -> None:
    data = recording(60)

    job_id = (await (await transcribe(both, data)).json())["id"].removeprefix("job_")

    request = json.loads((await both.rows(JobRow))[0].request)
    assert request == {
        "model": "simulator-transcription",
        "file": {
            "name": "a.wav",
            "content_type": "audio/wav",
            "size_bytes": len(data),
            "sha256": sha256(data).hexdigest(),
        },
    }
    assert stored_files(both) == [job_id]
    assert await bytes_of(both, job_id) == data


@pytest.mark.parametrize("how", ["deleted", "expired"])
async def test_the_recording_is_removed_with_the_job(both: Installation, how: str) -> None:
    job_id = (await (await transcribe(both)).json())["id"].removeprefix("job_")

    if how == "deleted":
        assert (await both.delete(f"/v1/jobs/job_{job_id}")).status == 200
    else:
        await change(both, job_id, result_expires_ms=now_ms())
        await sweep(both)

    assert stored_files(both) == []
    assert await both.rows(JobResultRow) == []


async def test_a_transcript_can_be_fetched_later(both: Installation) -> None:
    accepted = await transcribe(both, headers={"Prefer": "respond-async"}, response_format="text")

    assert accepted.status == 202
    result = await both.get(f"/v1/jobs/{(await accepted.json())['id']}/result?wait=10")
    assert result.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert len((await result.text()).split()) == 20


async def test_text_is_the_transcript_only(sluice: Installation) -> None:
    response = await transcribe(sluice, response_format="text", simulator='{"text": "Grüß Gott"}')

    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert await response.read() == "Grüß Gott".encode()


async def test_the_provider_gets_the_recording_and_the_fields_as_received(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.default = answers({"text": "Hello"})
    await add_transcriber(sluice, provider.url, model_name="whisper-1", key="sk-upstream")
    data = recording()

    response = await transcribe(
        sluice, data, name="größe.wav", model="ears", language="haitian creole", prompt="Names", temperature="0.30",
        other="kept", response_format="text",
    )  # fmt: skip

    assert (response.status, await response.text()) == (200, "Hello")
    assert provider.bodies == [data]
    assert provider.requests[0].pop("file")[1] == "audio/wav"
    assert provider.requests[0] == {
        "model": "whisper-1", "language": "ht", "prompt": "Names", "temperature": "0.30", "other": "kept",
        "response_format": "json",
    }  # fmt: skip
    assert provider.headers[0]["Authorization"] == "Bearer sk-upstream"


async def test_fields_that_were_not_sent_are_not_invented(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = answers({"text": "Hello"})
    await add_transcriber(sluice, provider.url)

    await transcribe(sluice, model="ears", language="", prompt="")

    assert set(provider.requests[0]) == {"file", "model", "response_format"}


@pytest.mark.parametrize("kind", ["openai", "vllm", "albert"])
async def test_subtitles_are_made_from_segments(sluice: Installation, provider: ScriptedProvider, kind: str) -> None:
    await add_transcriber(sluice, provider.url, kind)
    provider.script = [sends(b"as it is", "text/plain") if kind == "openai" else answers(VERBOSE)] * 2

    srt = await transcribe(sluice, model="ears", response_format="srt")
    vtt = await transcribe(sluice, model="ears", response_format="vtt")

    asked = {"openai": ["srt", "vtt"], "vllm": ["verbose_json"] * 2, "albert": ["json"] * 2}[kind]
    assert [request["response_format"] for request in provider.requests] == asked
    assert {srt.headers["Content-Type"], vtt.headers["Content-Type"]} == {"text/plain; charset=utf-8"}
    if kind == "openai":
        assert (await srt.text(), await vtt.text()) == ("as it is", "as it is")
        return
    assert await srt.text() == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello there\n\n2\n01:01:01,250 --> 01:01:02,000\nsecond -> line end\n"
    )
    assert (await vtt.text()).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there\n\n01:01:01.250")


@pytest.mark.parametrize("wanted", ["srt", "vtt", "verbose_json", "diarized_json"])
async def test_what_needs_segments_is_refused_without_them(
    both: Installation, provider: ScriptedProvider, wanted: str
) -> None:
    provider.default = answers({"text": "Hello"})
    await add_transcriber(both, provider.url, "albert", prices=(1, 1))

    response = await transcribe(both, model="ears", response_format=wanted)

    error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (422, "unsupported_response_format", "response_format")
    assert [charge.amount_micros for charge in await both.rows(ChargeRow)] == [0]


async def test_verbose_json_keeps_what_the_provider_adds(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = answers(VERBOSE | {"words": [{"word": "Hello", "start": 0, "end": 1}]})
    await add_transcriber(sluice, provider.url)

    fields = {"timestamp_granularities[]": "word"}
    answer = await (await transcribe(sluice, model="ears", response_format="verbose_json", **fields)).json()

    assert provider.requests[0]["timestamp_granularities[]"] == ["word"]
    assert (answer["language"], answer["duration"], answer["words"][0]["word"]) == ("english", 2.0, "Hello")
    assert answer["segments"][0] == SEGMENTS[0] | {"type": "transcript.text.segment", "speaker": None}


async def test_reported_tokens_are_charged(sluice: Installation, provider: ScriptedProvider) -> None:
    details = {"text_tokens": 4, "audio_tokens": 10}
    usage = {"type": "tokens", "input_tokens": 14, "input_token_details": details, "output_tokens": 5}
    provider.default = answers({"text": "Hello", "usage": usage})
    await add_transcriber(sluice, provider.url, prices=(2, 10), model_total_params=1, model_hosting_zone="ATA")

    answer = await (await transcribe(sluice, model="ears")).json()

    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (14, 5)
    assert answer["usage"]["prompt_tokens_details"] == details
    assert answer["usage"]["cost"] == 78 / 1_000_000
    assert answer["usage"]["impacts"]["kWh"] > 0
    record = (await sluice.rows(UsageRecordRow))[0]
    assert (record.endpoint, record.is_estimated) == ("/v1/audio/transcriptions", False)
    assert [charge.amount_micros for charge in await sluice.rows(ChargeRow)] == [78]


@pytest.mark.parametrize("usage", [None, {"type": "duration", "seconds": 3}, {"prompt_tokens": 0}, "odd"])
async def test_tokens_are_counted_if_none_are_reported(
    sluice: Installation, provider: ScriptedProvider, usage: Any
) -> None:
    provider.default = answers({"text": "one two three", "usage": usage})
    await add_transcriber(sluice, provider.url)

    answer = await (await transcribe(sluice, model="ears", prompt="spell names")).json()

    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (2, 3)
    assert (await sluice.rows(UsageRecordRow))[0].is_estimated


async def test_mistral_is_asked_in_a_chat(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = says(" Bonjour ")
    await add_transcriber(sluice, provider.url, "mistral", model_name="voxtral")

    response = await transcribe(sluice, b"ID3abc", model="ears", language="french", temperature="0.5")

    answer = await response.json()
    assert (response.status, answer["text"], answer["usage"]["prompt_tokens"]) == (200, "Bonjour", 9), answer
    sent = provider.requests[0]
    sound, text = sent["messages"][0]["content"]
    assert sound == {"type": "input_audio", "input_audio": "SUQzYWJj"}
    assert (text["type"], "`fr`" in text["text"]) == ("text", True)
    assert (sent["model"], sent["temperature"], set(sent)) == ("voxtral", 0.5, {"model", "messages", "temperature"})


async def test_another_provider_is_tried_with_the_same_recording(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    provider.script = [fails(500), answers({"text": "Hello"})]
    await add_transcriber(sluice, provider.url)

    response = await transcribe(sluice, model="ears")

    assert response.status == 200
    assert provider.bodies == [recording()] * 2


async def test_a_recording_is_sent_with_its_length(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = answers({"text": "Hello"})
    await add_transcriber(sluice, provider.url)
    data = recording(200)

    response = await transcribe(sluice, data, model="ears")

    assert (response.status, provider.bodies) == (200, [data])
    assert int(provider.headers[0]["Content-Length"]) > len(data) > 3_000_000
    assert "Transfer-Encoding" not in provider.headers[0]


async def test_a_store_that_is_out_of_order_is_not_the_providers_fault(
    both: Installation, provider: ScriptedProvider
) -> None:
    jobs = Path(both.state.settings.data_dir) / "files" / "jobs"

    async def lose_the_store(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.to_thread(jobs.rename, jobs.with_name("elsewhere"))
        jobs.write_text("in the way")
        return web.json_response({}, status=500)

    provider.script = [lose_the_store]
    await add_transcriber(both, provider.url)

    response = await transcribe(both, model="ears")

    job_id = response.headers["x-job-id"]
    attempts = (await (await both.get(f"/v1/jobs/{job_id}/attempts")).json())["data"]
    assert (response.status, (await response.json())["error"]["code"]) == (503, "storage_unavailable")
    assert [one["retry_reason"] for one in attempts] == ["http_5xx", "file_store", "file_store"]
    models = (await (await both.get("/v1/admin/routers?order_by=id&order_direction=desc&limit=1")).json())["data"]
    health = await (await both.get(f"/v1/admin/routers/{models[0]['id']}/health")).json()
    assert [one["failures"] for one in health["providers"]] == [1]


@pytest.mark.parametrize("document", [b"", b"[]", b'{"text": 1}', b'{"segments": []}', b"\xff"])
async def test_a_malformed_answer_is_the_providers_fault(
    sluice: Installation, provider: ScriptedProvider, document: bytes
) -> None:
    provider.default = sends(document)
    await add_transcriber(sluice, provider.url)

    response = await transcribe(sluice, model="ears")

    assert (response.status, (await response.json())["error"]["code"]) == (503, "provider_unavailable")


async def test_a_file_that_breaks_off_is_not_the_providers_fault(
    sluice: Installation, provider: ScriptedProvider
) -> None:
    async def read(request: web.Request) -> web.StreamResponse:
        return web.json_response({"text": (await request.read()).decode()})

    provider.routes = {"/v1/audio/transcriptions": read}
    await add_transcriber(sluice, provider.url)
    assert sluice.runtime is not None
    router = await sluice.runtime.directory.find_router("ears")
    assert router is not None

    async def chunks() -> AsyncIterator[bytes]:
        yield b"RIFF"
        raise ProviderError("the disk is gone", blame="sluice", reason="file_store")

    file = ProviderFile(size_bytes=100, chunks=chunks(), name="a.wav", content_type="audio/wav")
    call = ProviderCall(
        provider=router.providers[0], operation="transcription", body=b"{}", attempt=1, traceparent=None, file=file
    )
    with pytest.raises(ProviderError, match="the disk is gone") as caught:
        await sluice.runtime.adapters["openai"].complete(call)

    assert caught.value.blame == "sluice"
