"""POST /v1/audio/transcriptions."""

from typing import Final

from api.answer import answer
from api.call import Call
from api.http import Reply, Routes
from api.limits import Estimate
from api.submit import INFERENCE_ERRORS, Submission, find_router, submit
from shared.audio.schemas import AudioTranscription, CreateTranscriptionForm
from shared.files.errors import UnsupportedFileTypeError
from shared.jobs.schemas import AUDIO_TRANSCRIPTION, Job
from shared.models.schemas import TRANSCRIPTION_TYPES
from shared.tokens import count_tokens

routes = Routes("Audio")
TRANSCRIPTIONS: Final = "/v1/audio/transcriptions"
_BYTES_PER_TOKEN: Final = 200
"""Of speech at 16 kbit/s, which is about the least, when a provider counts 10 tokens per second."""


@routes.post(
    TRANSCRIPTIONS,
    raises=(*INFERENCE_ERRORS, UnsupportedFileTypeError),
    accepted=Job,
    is_inference=True,
    other_media_types=("text/plain",),
)
async def create_transcription(call: Call, form: CreateTranscriptionForm) -> Reply[AudioTranscription]:
    """Turn a recording of at most 20 MiB into text.

    `text`, `srt` and `vtt` are answered as `text/plain`.  Subtitles are those of the provider, or made from the
    segments it reports; without any they are refused with 422 `unsupported_response_format`, as is `verbose_json`.
    """
    form.check()
    router = await find_router(call, form.model, TRANSCRIPTION_TYPES)
    estimate = Estimate(
        prompt_tokens=count_tokens(form.prompt), output_tokens=0, file_tokens=form.file.size_bytes // _BYTES_PER_TOKEN
    )
    submission = Submission(
        kind=AUDIO_TRANSCRIPTION, endpoint=TRANSCRIPTIONS, router=router, model=form.model, estimate=estimate
    )
    return await answer(call, await submit(call, submission))
