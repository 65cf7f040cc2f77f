"""/v1/audio: transcriptions, speech, voices and models."""

from collections.abc import Sequence
from typing import Final

from api.access import has_access
from api.call import Call, Draft
from api.http import Reply, Routes
from api.limits import Estimate
from api.respond import ERRORS, respond
from api.submission import Submission, find_router
from shared.audio.schemas import (
    AudioModelList,
    AudioTranscription,
    CreateSpeechRequest,
    CreateTranscriptionForm,
    SpeechModel,
    TranscriptionModel,
    Voice,
    VoiceList,
)
from shared.audio.voices import VoiceNotFoundError, lacks_voice, voices_of
from shared.directory import Router
from shared.files.errors import UnsupportedFileTypeError
from shared.jobs.schemas import AUDIO_SPEECH, AUDIO_TRANSCRIPTION, Job
from shared.models.schemas import SPEECH_TYPES, TRANSCRIPTION_TYPES
from shared.tokens import count_tokens

routes = Routes("Audio")
TRANSCRIPTIONS: Final = "/v1/audio/transcriptions"
SPEECH: Final = "/v1/audio/speech"
_BYTES_PER_TOKEN: Final = 200
"""Of speech at 16 kbit/s, which is about the least, when a provider counts 10 tokens per second."""


async def prepare_transcription(draft: Draft, form: CreateTranscriptionForm) -> Submission:
    """Return what this request asks for."""
    form.check()
    router = await find_router(draft, form.model, TRANSCRIPTION_TYPES)
    estimate = Estimate(
        prompt_tokens=count_tokens(form.prompt), output_tokens=0, file_tokens=form.file.size_bytes // _BYTES_PER_TOKEN
    )
    return Submission(
        kind=AUDIO_TRANSCRIPTION, endpoint=TRANSCRIPTIONS, router=router, model=form.model, store=form.store,
        metadata=form.metadata, end_user=form.user, estimate=estimate,
    )  # fmt: skip


@routes.post(
    TRANSCRIPTIONS,
    raises=(*ERRORS, UnsupportedFileTypeError),
    accepted=Job,
    prepare=prepare_transcription,
    other_media_types=("text/plain",),
)
async def create_transcription(call: Call, form: CreateTranscriptionForm) -> Reply[AudioTranscription]:
    """Turn a recording of at most 20 MiB into text.

    `text`, `srt` and `vtt` are answered as `text/plain`.  Subtitles are those of the provider, or made from the
    segments it reports; without any they are refused with 422 `unsupported_response_format`, as is `verbose_json`.
    """
    return await respond(call, await prepare_transcription(call, form))


async def prepare_speech(draft: Draft, body: CreateSpeechRequest) -> Submission:
    """Return what this request asks for."""
    body.check(draft.state.settings.speech_max_characters)
    router = await find_router(draft, body.model, SPEECH_TYPES)
    if lacks_voice(router, body.voice):
        raise VoiceNotFoundError(body.voice)
    estimate = Estimate(prompt_tokens=len(body.input), output_tokens=len(body.input))
    return Submission(
        kind=AUDIO_SPEECH, endpoint=SPEECH, router=router, model=body.model, store=body.store, metadata=body.metadata,
        end_user=body.user, estimate=estimate,
    )  # fmt: skip


@routes.post(
    SPEECH,
    raises=(*ERRORS, VoiceNotFoundError),
    accepted=Job,
    prepare=prepare_speech,
    media_type="audio/mpeg",
    other_media_types=("audio/ogg", "audio/aac", "audio/flac", "audio/wav", "audio/pcm"),
)
async def create_speech(call: Call, body: CreateSpeechRequest) -> Reply[bytes]:
    """Speak a text.

    The answer is the sound, in the provider's own format unless `response_format` asks for another.
    `x-audio-characters` tells the characters that are billed; they are the `prompt_tokens` of the job's usage.
    """
    reply = await respond(call, await prepare_speech(call, body))
    if reply.status == 200:
        call.headers["x-audio-characters"] = str(len(body.input))
    return reply


@routes.get("/v1/audio/voices")
async def list_voices(call: Call) -> VoiceList:
    """List the voices of all speech models the caller may use, by id, as far as they are known."""
    found: dict[str, Voice] = {}
    for router in await _usable(call, SPEECH_TYPES):
        for one in voices_of(router):
            voice = Voice(id=one.id, name=one.name or one.id, language=one.language, models=[])
            found.setdefault(one.id, voice).models.append(router.name)
    return VoiceList(voices=[found[voice_id] for voice_id in sorted(found)])


@routes.get("/v1/audio/models")
async def list_audio_models(call: Call) -> AudioModelList:
    """List the models that speak and those that listen, as far as the caller may use them."""
    longest = call.state.settings.speech_max_characters
    return AudioModelList(
        speech=[
            SpeechModel(
                model=one.name,
                id=one.name,
                description="",
                voices=[voice.id for voice in voices_of(one)],
                max_characters=longest,
            )
            for one in await _usable(call, SPEECH_TYPES)
        ],
        transcription=[
            TranscriptionModel(model=one.name, id=one.name, description="")
            for one in await _usable(call, TRANSCRIPTION_TYPES)
        ],
    )


async def _usable(call: Call, types: frozenset[str]) -> Sequence[Router]:
    """Return the routers of these types that have a provider and are open to the caller."""
    await call.state.directory.refresh()
    routers = [one for one in call.state.directory.routers() if one.type in types and one.providers]
    return [one for one in routers if has_access(call.caller, one.id)]
