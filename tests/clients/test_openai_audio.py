"""The stock `openai` client: transcriptions and speech."""

import io
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.installation import ADMIN_KEY, Installation
from tests.recordings import recording

LISTENER, SPEAKER = "simulator-transcription", "simulator-speech"


@pytest_asyncio.fixture
async def client(sluice: Installation) -> AsyncIterator[AsyncOpenAI]:
    """The asynchronous client, which repeats nothing."""
    async with AsyncOpenAI(base_url=f"{sluice.url}/v1", api_key=ADMIN_KEY, max_retries=0) as connected:
        yield connected


async def test_a_recording_becomes_text(client: AsyncOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(recording())

    transcript = await client.audio.transcriptions.create(
        model=LISTENER,
        file=file,
        language="fr",
        prompt="Names",
        temperature=0.5,
        extra_body={"simulator": '{"tokens": 3}'},
    )

    assert len(transcript.text.split()) == 3
    assert transcript._request_id is not None


async def test_text_and_subtitles_are_strings(client: AsyncOpenAI) -> None:
    text = await client.audio.transcriptions.create(model=LISTENER, file=("a.wav", recording()), response_format="text")
    srt = await client.audio.transcriptions.create(model=LISTENER, file=("a.wav", recording()), response_format="srt")
    vtt = await client.audio.transcriptions.create(model=LISTENER, file=("a.wav", recording()), response_format="vtt")

    assert isinstance(text, str)
    assert str(srt).startswith("1\n00:00:00,000 --> 00:00:02,000\n")
    assert str(vtt).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n")


async def test_verbose_answers_have_segments(client: AsyncOpenAI) -> None:
    transcript = await client.audio.transcriptions.create(
        model=LISTENER,
        file=("a.wav", recording()),
        response_format="verbose_json",
        timestamp_granularities=["segment"],
    )

    assert transcript.segments is not None
    assert [segment.id for segment in transcript.segments] == [0, 1, 2, 3]
    assert " ".join(segment.text for segment in transcript.segments) == transcript.text


async def test_what_was_spoken_is_heard(client: AsyncOpenAI, tmp_path: Path) -> None:
    speech = await client.audio.speech.create(model=SPEAKER, voice="alloy", input="Hello there", response_format="wav")
    target = tmp_path / "speech.wav"
    speech.write_to_file(target)

    with wave.open(io.BytesIO(target.read_bytes())) as file:
        assert file.getnframes() > 0
    assert (await client.audio.transcriptions.create(model=LISTENER, file=target)).text


async def test_speech_can_be_read_in_pieces(client: AsyncOpenAI) -> None:
    async with client.audio.speech.with_streaming_response.create(
        model=SPEAKER, voice="nova", input="Hello"
    ) as response:
        pieces = [piece async for piece in response.iter_bytes(1024)]

    assert response.headers["Content-Type"] == "audio/mpeg"
    assert b"".join(pieces).startswith(b"\xff\xfb")


async def test_errors_have_the_clients_own_classes(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="Unsupported file type"):
        await client.audio.transcriptions.create(model=LISTENER, file=("a.pdf", b"%PDF"))
    with pytest.raises(openai.UnprocessableEntityError, match="Wrong model type"):
        await client.audio.transcriptions.create(model=SPEAKER, file=("a.wav", recording()))
    with pytest.raises(openai.BadRequestError, match="Voice `nobody` not found"):
        await client.audio.speech.create(model=SPEAKER, voice="nobody", input="Hi")
    with pytest.raises(openai.NotFoundError, match="Model not found"):
        await client.audio.speech.create(model="nobody", voice="alloy", input="Hi")
