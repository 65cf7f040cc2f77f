"""Recordings to send, and what is left of them."""

import io
import wave
from pathlib import Path
from typing import Any

from aiohttp import FormData

from tests.installation import Installation

TRANSCRIPTIONS = "/v1/audio/transcriptions"
MODEL = "simulator-transcription"


def recording(seconds: float = 0.1) -> bytes:
    """Return silence as WAV."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * int(8000 * seconds))
    return target.getvalue()


def form_of(data: bytes | None = None, name: str = "a.wav", content_type: str = "audio/wav", **fields: Any) -> FormData:
    """Return a form with a recording and these fields."""
    form = FormData()
    form.add_field("file", io.BytesIO(recording() if data is None else data), filename=name, content_type=content_type)
    for field, value in ({"model": MODEL} | fields).items():
        form.add_field(field, value)
    return form


async def transcribe(
    sluice: Installation, data: bytes | None = None, headers: dict[str, str] | None = None, **fields: Any
) -> Any:
    """Send a recording; `name` and `content_type` are the file's, everything else a field."""
    form = form_of(data, **fields)
    return await sluice.client.post(TRANSCRIPTIONS, data=form, headers=sluice.headers | (headers or {}))


def stored_files(sluice: Installation) -> list[str]:
    """Return the names of all files in the store, also of those that are being written."""
    folder = Path(sluice.state.settings.data_dir) / "files"
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def bytes_of(sluice: Installation, job_id: str) -> bytes:
    """Return the stored file of a job."""
    return b"".join([chunk async for chunk in (await sluice.state.files.open(job_id)).chunks])
