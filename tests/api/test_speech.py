"""POST /v1/audio/speech, and the voices and models there are."""

import io
import json
import wave
from typing import Any

import pytest

from shared.jobs.tables import JobResultRow, JobRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.installation import Installation
from tests.people import ROLES, ROUTERS, add_user, create, key_of, read, refused
from tests.providers import ScriptedProvider, fails, sends

SPEECH = "/v1/audio/speech"
SOUND = bytes(range(256)) * 4


async def speak(sluice: Installation, text: str = "Trains leave every hour.", **members: Any) -> Any:
    headers = members.pop("headers", {})
    body = {"model": "simulator-speech", "input": text, "voice": "alloy"} | members
    return await sluice.post(SPEECH, body, headers=headers)


async def add_speaker(sluice: Installation, url: str, **members: Any) -> None:
    await sluice.add_model("mouth", url, router_type="text-to-speech", **members)


async def test_a_text_becomes_sound(both: Installation) -> None:
    response = await speak(both, response_format="wav")

    sound = await response.read()
    assert (response.status, response.headers["Content-Type"]) == (200, "audio/wav")
    assert response.headers["x-audio-characters"] == "24"
    with wave.open(io.BytesIO(sound)) as file:
        assert file.getnframes() == file.getframerate()  # four words and a pause, a fifth of a second each
    job = await both.job(response.headers["x-job-id"])
    assert (job["kind"], job["status"], job["endpoint"]) == ("audio.speech", "completed", SPEECH)


async def test_the_sound_is_kept_byte_for_byte(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = sends(SOUND * 1000, "audio/flac; rate=1")
    await add_speaker(both, provider.url)

    response = await speak(both, model="mouth", voice="anyone")
    first = await response.read()
    stored = await both.get(f"/v1/jobs/{response.headers['x-job-id']}/result")

    assert first == await stored.read() == SOUND * 1000
    assert {response.headers["Content-Type"], stored.headers["Content-Type"]} == {"audio/flac"}
    assert [row.body for row in await both.rows(JobResultRow)] == [SOUND * 1000]


async def test_the_sound_can_be_fetched_later(both: Installation) -> None:
    accepted = await speak(both, headers={"Prefer": "respond-async"})

    assert accepted.status == 202
    assert "x-audio-characters" not in accepted.headers
    result = await both.get(f"/v1/jobs/{(await accepted.json())['id']}/result?wait=10")
    assert (result.status, result.headers["Content-Type"]) == (200, "audio/mpeg")
    assert (await result.read())[:2] == b"\xff\xfb"
    logged = (await (await both.post("/v1/requests", {"period": 15, "endpoint": SPEECH})).json())["requests"]
    assert [(one["endpoint"], one["response_code"]) for one in logged] == [("audio/speech", 200)]


async def test_the_provider_gets_the_body_as_received(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = sends(SOUND, "audio/mpeg")
    await add_speaker(sluice, provider.url, model_name="tts-1", key="sk-upstream")

    await speak(sluice, "Größe", model="mouth", voice="own", speed=1.5, instructions="Slowly", other=[1])

    assert provider.requests == [
        {
            "model": "tts-1", "input": "Größe", "voice": "own", "speed": 1.5, "instructions": "Slowly", "other": [1],
        }
    ]  # fmt: skip
    assert provider.headers[0]["Authorization"] == "Bearer sk-upstream"


@pytest.mark.parametrize(("asked", "found"), [({}, "audio/mpeg"), ({"response_format": "opus"}, "audio/ogg")])
async def test_an_answer_without_a_type_has_that_of_its_format(
    sluice: Installation, provider: ScriptedProvider, asked: dict[str, str], found: str
) -> None:
    provider.default = sends(SOUND, "application/octet-stream")
    await add_speaker(sluice, provider.url)

    assert (await speak(sluice, model="mouth", **asked)).headers["Content-Type"] == found


@pytest.mark.parametrize(("raw", "kind"), [(b"", "audio/mpeg"), (b"{}", "application/json"), (b"<p>", "text/html")])
async def test_what_is_no_sound_is_the_providers_fault(
    sluice: Installation, provider: ScriptedProvider, raw: bytes, kind: str
) -> None:
    provider.default = sends(raw, kind)
    await add_speaker(sluice, provider.url)

    response = await speak(sluice, model="mouth")

    assert (response.status, (await response.json())["error"]["code"]) == (503, "provider_unavailable")


async def test_characters_are_billed(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = sends(SOUND, "audio/mpeg")
    await add_speaker(both, provider.url, prices=(15, 0), model_total_params=1, model_hosting_zone="FRA")
    poor = await key_of(both, (await add_user(both, budget=0))["id"])

    response = await speak(both, "Grüße an alle", model="mouth")

    assert response.headers["x-audio-characters"] == "13"
    assert [(row.amount_micros, row.prompt_tokens) for row in await both.rows(ChargeRow)] == [(195, 13)]
    record = (await both.rows(UsageRecordRow))[0]
    assert (record.endpoint, record.energy_nwh > 0) == (SPEECH, True)
    month = (await read(both, "/v1/usage"))["current_month"]
    assert (month["tts"], month["chat"], month["requests"]) == (13, 0, 1)
    assert (month["by_model"][0]["input_tokens"], month["by_model"][0]["cost"]) == (0, 0.000195)
    assert await refused(await speak(both, model="mouth", headers=poor)) == (400, "Insufficient budget.")


async def test_what_does_not_fit_is_refused_with_the_place(both: Installation) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("input", {"input": ""}), ("input", {"input": "ä" * 2001}), ("voice", {"voice": ""}), ("voice", {"voice": 1}),
        ("response_format", {"response_format": "midi"}), ("speed", {"speed": 0.2}), ("speed", {"speed": 4.1}),
        ("stream_format", {"stream_format": "sse"}),
    ]  # fmt: skip

    for name, members in cases:
        response = await speak(both, **members)
        assert response.status == 422, members
        assert (await response.json())["detail"][0]["loc"] == ["body", name]
    for name in ("model", "input", "voice"):
        body = {"model": "simulator-speech", "input": "Hi", "voice": "alloy"}
        del body[name]
        assert (await (await both.post(SPEECH, body)).json())["detail"][0]["loc"] == ["body", name]
    assert await both.rows(JobRow) == []
    assert (await speak(both, "ä" * 2000)).status == 200


async def test_refusals_leave_no_job(sluice: Installation) -> None:
    answers = [
        await refused(await speak(sluice, model="nobody")),
        await refused(await speak(sluice, model="simulator")),
        await refused(await speak(sluice, voice="nobody")),
    ]

    assert answers == [(404, "Model not found."), (422, "Wrong model type."), (400, "Voice `nobody` not found.")]
    assert await sluice.rows(JobRow) == []


async def test_a_provider_that_lacks_the_voice_says_so(sluice: Installation, provider: ScriptedProvider) -> None:
    error = {"error": {"message": "No such voice.", "type": "x", "param": "voice", "code": None}}
    provider.default = sends(json.dumps(error).encode(), status=422)
    await add_speaker(sluice, provider.url)

    response = await speak(sluice, model="mouth", voice="nobody")

    body = (await response.json())["error"]
    assert (response.status, body["code"], body["message"]) == (400, "voice_not_found", "No such voice.")


async def test_another_provider_is_tried(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.script = [fails(500), sends(SOUND, "audio/mpeg")]
    await add_speaker(sluice, provider.url)

    assert (await speak(sluice, model="mouth")).status == 200


async def test_the_simulator_obeys(sluice: Installation) -> None:
    failed = await speak(sluice, simulator={"fail": "400"})
    unknown = await speak(sluice, response_format="flac")
    pcm = await speak(sluice, response_format="pcm")

    assert (failed.status, unknown.status) == (400, 400)
    assert (pcm.headers["Content-Type"], len(await pcm.read())) == ("audio/pcm", 16000)


async def test_voices_and_models_are_those_of_the_caller(both: Installation, provider: ScriptedProvider) -> None:
    await add_speaker(both, provider.url)
    role = await create(both, ROLES, name="nothing", limits=[])
    nobody = await key_of(both, (await add_user(both, role=role["id"]))["id"])

    voices = (await read(both, "/v1/audio/voices"))["voices"]
    models = await read(both, "/v1/audio/models")

    ids = [voice["id"] for voice in voices]
    assert ids == sorted(ids)
    assert voices[0] == {"id": "alloy", "name": "Alloy", "language": "en", "models": ["simulator-speech"]}
    assert models["transcription"] == [
        {"model": "simulator-transcription", "id": "simulator-transcription", "description": ""}
    ]
    assert [(one["id"], one["max_characters"], one["voices"]) for one in models["speech"]] == [
        ("simulator-speech", 2000, ids), ("mouth", 2000, []),
    ]  # fmt: skip
    assert await (await both.get("/v1/audio/voices", headers=nobody)).json() == {"voices": []}
    assert await (await both.get("/v1/audio/models", headers=nobody)).json() == {"speech": [], "transcription": []}


BARK = [
    {"id": "es_speaker_1", "name": "Spanish 1", "language": "es"},
    {"id": "en_speaker_1", "name": None, "language": None},
]


async def add_bark(sluice: Installation, url: str) -> int:
    router = await create(sluice, ROUTERS, name="bark-small", type="text-to-speech", voices=BARK)
    assert router["voices"] == BARK
    await sluice.grant(router["id"])
    await sluice.add_provider(router["id"], url)
    return int(router["id"])


async def test_a_router_has_voices_of_its_own(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = sends(SOUND, "audio/mpeg")
    await add_bark(both, provider.url)

    spoken = await speak(both, model="bark-small", voice="en_speaker_1")
    unknown = await refused(await speak(both, model="bark-small", voice="alloy"))

    assert spoken.status == 200
    assert unknown == (400, "Voice `alloy` not found.")
    assert len(provider.requests) == 1
    voices = {voice["id"]: voice for voice in (await read(both, "/v1/audio/voices"))["voices"]}
    assert voices["es_speaker_1"] == {
        "id": "es_speaker_1", "name": "Spanish 1", "language": "es", "models": ["bark-small"],
    }  # fmt: skip
    assert (voices["en_speaker_1"]["name"], voices["en_speaker_1"]["language"]) == ("en_speaker_1", None)
    speech = {one["model"]: one["voices"] for one in (await read(both, "/v1/audio/models"))["speech"]}
    assert speech["bark-small"] == ["en_speaker_1", "es_speaker_1"]


async def test_voices_are_changed_and_forgotten(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = sends(SOUND, "audio/mpeg")
    path = f"{ROUTERS}/{await add_bark(both, provider.url)}"

    changed = await (await both.patch(path, {"voices": [{"id": "fr"}]})).json()
    kept = await (await both.patch(path, {"name": "bark"})).json()
    refusal = await speak(both, model="bark", voice="en_speaker_1")
    cleared = await (await both.patch(path, {"voices": None})).json()
    passed_on = await speak(both, model="bark", voice="en_speaker_1")

    assert changed["voices"] == kept["voices"] == [{"id": "fr", "name": None, "language": None}]
    assert (refusal.status, cleared["voices"], passed_on.status) == (400, None, 200)
    assert (await read(both, path))["voices"] is None


@pytest.mark.parametrize(
    "members",
    [
        {"voices": []}, {"voices": [{"id": ""}]}, {"voices": [{"id": "a"}, {"id": "a"}]}, {"voices": ["a"]},
        {"type": "text-generation", "voices": [{"id": "a"}]},
    ],
    ids=str,
)  # fmt: skip
async def test_voices_that_do_not_fit_are_refused(sluice: Installation, members: dict[str, Any]) -> None:
    response = await sluice.post(ROUTERS, {"name": "m", "type": "text-to-speech"} | members)

    assert response.status == 422
    assert (await response.json())["detail"][0]["loc"][:2] == ["body", "voices"]
