"""Wire types of /v1/audio.  Source: OpenAI API reference, "Audio", with the superset of the contracts."""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.audio.formats import may_be_audio
from shared.audio.languages import language_code
from shared.errors import InvalidFieldError
from shared.files.errors import UnsupportedFileTypeError
from shared.files.uploads import UploadedFile
from shared.jobs.schemas import JobMembers
from shared.usage.schemas import Usage

TranscriptFormat = Literal["json", "text", "verbose_json", "srt", "vtt", "diarized_json"]
TEXT_FORMATS: Final = frozenset({"text", "srt", "vtt"})


class CreateTranscriptionForm(JobMembers, kw_only=True):
    """A recording and what to make of it; fields that are not listed are passed on."""

    file: UploadedFile
    model: Annotated[str, Meta(min_length=1, description="Name or alias of a router.")]
    language: Annotated[str, Meta(description="English name or ISO code; empty: the provider detects it.")] = ""
    prompt: Annotated[str, Meta(description="Text in the style of the recording, or that precedes it.")] = ""
    response_format: TranscriptFormat = "json"
    temperature: Annotated[float, Meta(ge=0, le=1)] = 0.0

    def check(self) -> None:
        """Raise `InvalidFieldError` or `UnsupportedFileTypeError` for what no provider could use."""
        if self.language and language_code(self.language) is None:
            raise InvalidFieldError(["body", "language"], f"Invalid language {self.language[:100]!r}")
        if not self.file.size_bytes:
            raise InvalidFieldError(["body", "file"], "The file is empty")
        if self.file.head and not may_be_audio(self.file):  # a stored request has none, and was checked
            raise UnsupportedFileTypeError("file")


class CreateSpeechRequest(JobMembers, kw_only=True):
    """A text to speak; members that are not listed are passed on."""

    model: Annotated[str, Meta(min_length=1, description="Name or alias of a router.")]
    input: Annotated[str, Meta(min_length=1, description="At most `SLUICE_SPEECH_MAX_CHARACTERS`, which are 2,000.")]
    voice: Annotated[str, Meta(min_length=1, max_length=255, description="One of /v1/audio/voices.")]
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4)] | None = None
    instructions: str | None = None
    stream_format: Literal["audio"] | None = None

    def check(self, max_characters: int) -> None:
        """Raise `InvalidFieldError` if the text is too long."""
        if len(self.input) > max_characters:
            raise InvalidFieldError(["body", "input"], f"Expected `str` of length <= {max_characters}")


class Voice(Struct, kw_only=True):
    """A voice, and the models that have it."""

    id: str
    name: str
    language: str | None
    models: list[str]


class VoiceList(Struct, kw_only=True):
    """The voices of the caller's models, by id."""

    voices: list[Voice]


class SpeechModel(Struct, kw_only=True):
    """A model that speaks; `voices` is empty if its servers do not tell theirs."""

    model: str
    id: str
    description: str
    voices: list[str]
    max_characters: int


class TranscriptionModel(Struct, kw_only=True):
    """A model that listens."""

    model: str
    id: str
    description: str


class AudioModelList(Struct, kw_only=True):
    """The caller's models that speak, and those that listen."""

    speech: list[SpeechModel]
    transcription: list[TranscriptionModel]


class TranscriptSegment(Struct, kw_only=True):
    """A part of a transcript, from `start` to `end` seconds; what else a provider says is kept."""

    id: int | str
    text: str
    start: float
    end: float
    type: str
    speaker: str | None


class AudioTranscription(Struct, kw_only=True):
    """A transcript.  `segments` are there if the provider gives them, and with `verbose_json` and `diarized_json`."""

    id: str
    text: str
    model: str
    usage: Usage
    segments: list[TranscriptSegment] | UnsetType = UNSET
    words: list[dict[str, Any]] | UnsetType = UNSET
