"""Multipart forms: streamed into the file store, refused with nothing left behind."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientConnectionError, FormData

from shared.jobs.tables import JobRow
from shared.request_logs.tables import RequestLogRow
from shared.usage.tables import ChargeRow
from tests.installation import Installation
from tests.people import ROLES, add_user, create, key_of, read, refused
from tests.providers import ScriptedProvider, sends
from tests.recordings import MODEL, TRANSCRIPTIONS, bytes_of, form_of, recording, stored_files, transcribe
from tests.waiting import eventually

LIMIT = 20 * 1024 * 1024
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
MODEL_PART = b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nsimulator-transcription\r\n--b--\r\n'


async def send(sluice: Installation, body: Any, content_type: str = "multipart/form-data; boundary=b") -> Any:
    return await sluice.client.post(TRANSCRIPTIONS, data=body, headers=sluice.headers | {"Content-Type": content_type})


async def assert_nothing_is_left(sluice: Installation) -> None:
    assert await sluice.rows(JobRow) == []
    assert await sluice.rows(ChargeRow) == []
    assert stored_files(sluice) == []


async def test_a_file_of_exactly_the_limit_is_taken(sluice: Installation) -> None:
    response = await transcribe(sluice, recording() + bytes(LIMIT - len(recording())))

    assert response.status == 200
    assert len(await bytes_of(sluice, response.headers["x-job-id"].removeprefix("job_"))) == LIMIT


async def test_a_file_over_the_limit_is_refused(both: Installation) -> None:
    response = await transcribe(both, bytes(LIMIT + 1))

    answer = await response.json()
    assert response.status == 413
    assert answer["detail"] == "File size limit exceeded (max: 20971520 bytes)."
    assert answer["error"]["code"] == "file_too_large"
    await assert_nothing_is_left(both)


async def test_a_file_without_end_is_refused_at_the_limit(sluice: Installation) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield HEAD
        while True:
            sent += 65536
            yield bytes(65536)

    try:
        response = await send(sluice, endless())
        assert response.status == 413
    except ClientConnectionError:  # the answer may be lost when the connection is closed on a caller who goes on
        pass
    assert (await sluice.rows(RequestLogRow))[0].error_code == "file_too_large"
    await assert_nothing_is_left(sluice)


@pytest.mark.parametrize("is_first", [True, False])
async def test_fields_may_come_in_any_order(sluice: Installation, is_first: bool) -> None:
    form = FormData()
    parts = [("model", MODEL, {}), ("file", recording(), {"filename": "a.wav"}), ("response_format", "text", {})]
    for name, value, options in parts if is_first else reversed(parts):
        form.add_field(name, value, **options)

    response = await sluice.client.post(TRANSCRIPTIONS, data=form, headers=sluice.headers)

    assert (response.status, response.content_type) == (200, "text/plain")


async def test_what_does_not_fit_is_refused_with_the_place(both: Installation) -> None:
    cases: list[tuple[FormData, str, str]] = [
        (form_of(model=""), "model", "value_error"),
        (form_of(response_format="xml"), "response_format", "value_error"),
        (form_of(temperature="1.1"), "temperature", "value_error"),
        (form_of(temperature="warm"), "temperature", "type_error"),
        (form_of(language="klingon"), "language", "value_error"),
        (form_of(language="French"), "language", "value_error"),
        (form_of(prompt="a\x00b"), "prompt", "value_error"),
        (form_of(b""), "file", "value_error"),
    ]
    without_model, without_file, as_text, twice = *(FormData(default_to_multipart=True) for _ in range(3)), form_of()
    without_model.add_field("file", recording(), filename="a.wav")
    without_file.add_field("model", MODEL)
    without_file.add_field("other", b"x", filename="a.wav")
    as_text.add_field("file", "text")
    as_text.add_field("model", MODEL)
    twice.add_field("file", recording(), filename="b.wav")
    cases += [(without_model, "model", "missing"), (without_file, "file", "missing")]
    cases += [(as_text, "file", "value_error"), (twice, "file", "value_error")]

    for form, name, kind in cases:
        response = await both.client.post(TRANSCRIPTIONS, data=form, headers=both.headers)
        answer = await response.json()
        assert response.status == 422, answer
        assert (answer["detail"][0]["loc"], answer["detail"][0]["type"]) == (["body", name], kind)
        assert answer["error"]["param"] == name
    await assert_nothing_is_left(both)


async def test_what_is_no_form_is_refused(sluice: Installation) -> None:
    part = HEAD + recording()
    bodies = [b"", b"x", b"--b", b"--b\r\n", HEAD, part, part + b"\r\n--c--\r\n", b"--b\r\nA: b\r\n\r\nx\r\n--b--\r\n"]
    headers_without_end = b"--b\r\n" + b"A: b\r\n" * 100_000

    for body in [*bodies, headers_without_end]:
        response = await send(sluice, body)
        assert response.status in (400, 422), body[:100]
    for content_type in ("application/json", "application/x-www-form-urlencoded", "multipart/mixed; boundary=b", "x"):
        response = await send(sluice, b"{}", content_type)
        assert (response.status, (await response.json())["error"]["code"]) == (422, "invalid_request")
    assert (await send(sluice, b"x", "multipart/form-data")).status == 400
    await assert_nothing_is_left(sluice)


async def test_odd_names_and_types_of_files_are_tidied(sluice: Installation, provider: ScriptedProvider) -> None:
    provider.default = sends(b'{"text": "Hello"}')
    await sluice.add_model("ears", provider.url, router_type="automatic-speech-recognition")
    model = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nears\r\n--b\r\n'
    rest = b"\r\n\r\nID3\r\n--b--\r\n"
    heads = [
        b'Content-Disposition: form-data; name="file"; filename="\xff\xfe.wav"',
        b'Content-Disposition: form-data; name="file"; filename=""\r\nContent-Type:',
        b'Content-Disposition: form-data; name="file"; filename="a\\"b.wav"\r\nContent-Type: \xe9/\xff',
        b"Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''%e2%82%ac.wav\r\nContent-Type: a; b=c",
    ]

    for head in heads:
        response = await send(sluice, model + head + rest)
        assert response.status == 200, (head, await response.text())
    assert {request["file"][1] for request in provider.requests} == {"application/octet-stream"}
    bad_name = b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--b--\r\n'
    bad_text = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n\xff\r\n--b--\r\n'
    assert [(await send(sluice, body)).status for body in (bad_name, bad_text)] == [400, 400]


async def test_long_and_many_fields_are_refused(sluice: Installation) -> None:
    long, many = form_of(prompt="x" * 2**20), form_of()
    for _ in range(1001):
        many.add_field("a[]", "b")

    statuses = [
        (await sluice.client.post(TRANSCRIPTIONS, data=form, headers=sluice.headers)).status for form in (long, many)
    ]

    assert statuses == [413, 400]
    await assert_nothing_is_left(sluice)


async def test_a_caller_who_leaves_leaves_nothing(sluice: Installation) -> None:
    going = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield HEAD + recording()
        going.set()
        await asyncio.sleep(3600)

    task = asyncio.ensure_future(send(sluice, broken()))
    await going.wait()
    await asyncio.sleep(0.1)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    async def is_empty() -> bool:
        return stored_files(sluice) == []

    await eventually(is_empty)
    await assert_nothing_is_left(sluice)


async def test_what_is_not_audio_is_refused(sluice: Installation) -> None:
    for data, name in ((b"%PDF-1.7", "a.pdf"), (b"\x89PNG\r\n", "a"), (b"RIFF\0\0\0\0WEBP", "a.webp"), (b"Hi", "wav")):
        response = await transcribe(sluice, data, name=name)
        answer = await response.json()
        assert (response.status, answer["detail"], answer["error"]["code"]) == (
            422, "Unsupported file type.", "unsupported_file_type",
        )  # fmt: skip
    await assert_nothing_is_left(sluice)


async def test_bytes_or_name_are_enough_to_be_audio(sluice: Installation) -> None:
    recordings = (
        (b"ID3\x04", "a.pdf"), (b"\xff\xfb\x90\x00", "x"), (b"fLaC", "x"), (b"OggS", "x"), (b"\0\0\0\x20ftypM4A ", "x"),
        (b"\x1aE\xdf\xa3", "x"), (recording(), "x"), (b"anything", "a.MP3"), (b"anything", "b.m4a"),
    )  # fmt: skip

    for data, name in recordings:
        assert (await transcribe(sluice, data, name=name)).status == 200, name


async def test_a_refused_recording_is_not_kept(both: Installation) -> None:
    await both.add_model("paid", router_type="automatic-speech-recognition", prices=(1, 1))
    role = (
        await create(both, ROLES, name="limited", limits=[{"router": await router_id(both, MODEL), "type": "rpm"}])
    )["id"]
    poor = await key_of(both, (await add_user(both, "poor@example.com", budget=0))["id"])
    other = await key_of(both, (await add_user(both, "other@example.com", role=role))["id"])

    answers = [
        await refused(await transcribe(both, model="nobody")),
        await refused(await transcribe(both, model="simulator")),
        await refused(await transcribe(both, model="paid", headers=other)),
        await refused(await transcribe(both, model="paid", headers=poor)),
        await refused(await transcribe(both, headers={"Authorization": "Bearer nobody"})),
    ]

    assert answers == [
        (404, "Model not found."), (422, "Wrong model type."), (404, "Model not found."), (400, "Insufficient budget."),
        (401, "Invalid API key."),
    ]  # fmt: skip
    await assert_nothing_is_left(both)


async def test_requests_per_minute_are_counted(sluice: Installation) -> None:
    limits = [{"router": await router_id(sluice, MODEL), "type": "rpm", "value": 1}]
    role = await create(sluice, ROLES, name="limited", limits=limits)
    me = await key_of(sluice, (await add_user(sluice, role=role["id"]))["id"])

    first, second = await transcribe(sluice, headers=me), await transcribe(sluice, headers=me)

    assert (first.status, first.headers["x-ratelimit-remaining-requests"]) == (200, "0")
    assert await refused(second) == (429, "1 requests per minute exceeded (remaining: 0).")
    assert stored_files(sluice) == [first.headers["x-job-id"].removeprefix("job_")]


async def router_id(sluice: Installation, name: str) -> int:
    routers = (await read(sluice, "/v1/admin/routers?limit=100"))["data"]
    return next(int(router["id"]) for router in routers if router["name"] == name)
