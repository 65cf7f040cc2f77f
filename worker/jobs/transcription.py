"""Job kind `audio.transcription`: send a recording to a provider and give its transcript our form.

What the provider is asked for depends on what it can:

| provider          | json, text | verbose_json, diarized_json | srt, vtt                              |
|-------------------|------------|-----------------------------|---------------------------------------|
| openai            | json       | as asked                    | as asked                              |
| vllm, simulator   | json       | as asked                    | verbose_json, made from its segments  |
| albert, mistral   | json       | json, if it has segments    | json, made from its segments if any   |
"""

from typing import Any, Final

from msgspec import Raw, Struct, json
from msgspec.structs import replace

from shared.audio.languages import language_code
from shared.audio.schemas import TEXT_FORMATS, TranscriptFormat
from shared.files.uploads import UploadedFile
from shared.jobs.schemas import alias_of
from shared.tokens import count_tokens
from shared.unreadable import UNREADABLE
from shared.usage.schemas import Usage
from worker.context import JobContext, Produced, TokenCount
from worker.jobs.files import open_file
from worker.jobs.reported import reported_tokens
from worker.jobs.subtitles import text_of, to_srt, to_vtt
from worker.jobs.upstream import NULL, call_of, members_of, request_id_of, to_members
from worker.providers.base import ProviderError, ProviderReply

_TEXT: Final = "text/plain; charset=utf-8"
_JSON_ONLY: Final = frozenset({"albert", "mistral"})
_NOT_PASSED_ON: Final = ("file", "stream")
"""A transcript is answered as a whole, whatever the caller says."""


class _Request(Struct):
    """What is read of a request."""

    file: UploadedFile
    language: str = ""
    prompt: str = ""
    response_format: TranscriptFormat = "json"


class _Segment(Struct):
    text: str
    start: float
    end: float


class _Transcript(Struct):
    """What is read of a provider's answer; the rest is passed on."""

    text: str
    segments: list[_Segment] | None = None
    words: Raw = NULL
    usage: Raw = NULL


async def run_transcription(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    request = json.decode(ctx.request, type=_Request)
    asked = _format_to_ask(request.response_format, ctx.provider.type)
    file = replace(await open_file(ctx), name=request.file.name, content_type=request.file.content_type)
    call = call_of(ctx, "transcription", to_upstream(ctx.request, request, ctx.provider.model_name, asked), file)
    reply = await ctx.runtime.adapters[ctx.provider.type].complete(call)
    request_id = request_id_of(reply)
    if asked in TEXT_FORMATS:
        subtitles = _decode_text(reply)
        tokens = _estimate(request, text_of(subtitles))
        return _text_answer(subtitles, tokens, request_id)
    transcript, members = _decode(reply)
    tokens = reported_tokens(transcript.usage) or _estimate(request, transcript.text)
    if request.response_format == "text":
        return _text_answer(transcript.text, tokens, request_id)
    if request.response_format in TEXT_FORMATS:
        if not transcript.segments:
            raise _unsupported(request.response_format)
        made = to_srt if request.response_format == "srt" else to_vtt
        return _text_answer(made(transcript.segments), tokens, request_id)
    if request.response_format != "json" and not transcript.segments and transcript.words == NULL:
        raise _unsupported(request.response_format)
    return Produced(
        tokens=tokens, render=lambda usage: _render(ctx, members, usage), provider_request_id=request_id
    )  # fmt: skip


def _format_to_ask(wanted: TranscriptFormat, provider_type: str) -> TranscriptFormat:
    if wanted == "text" or provider_type in _JSON_ONLY:
        return "json"
    return "verbose_json" if wanted in TEXT_FORMATS and provider_type != "openai" else wanted


def to_upstream(body: bytes, request: _Request, model_name: str, asked: TranscriptFormat) -> bytes:
    """Return the fields for a provider: as received, with its model name, a language code, and without empty ones."""
    members = to_members(body, model_name, "transcription")
    for name in _NOT_PASSED_ON:
        members.pop(name, None)
    changed = {
        "language": language_code(request.language) if request.language else None,
        "prompt": request.prompt or None,
        "response_format": asked,
    }
    for name, value in changed.items():
        members.pop(name, None) if value is None else members.update({name: Raw(json.encode(value))})
    return json.encode(members)


def _decode_text(reply: ProviderReply) -> str:
    try:
        return reply.body.decode()
    except UnicodeDecodeError as error:
        raise ProviderError("The provider sent a malformed answer.", reason="malformed") from error


def _decode(reply: ProviderReply) -> tuple[_Transcript, dict[str, Raw]]:
    try:
        return json.decode(reply.body, type=_Transcript), members_of(reply.body)
    except UNREADABLE as error:
        raise ProviderError(f"The provider sent a malformed answer: {error}", reason="malformed") from error


def _unsupported(wanted: TranscriptFormat) -> ProviderError:
    return ProviderError(
        f"The provider reports no segments, so that `{wanted}` cannot be made; ask for `json` or `text`.",
        blame="request", reason="http_422", status=422, code="unsupported_response_format", param="response_format",
    )  # fmt: skip


def _estimate(request: _Request, transcript: str) -> TokenCount:
    return TokenCount(prompt=count_tokens(request.prompt), completion=count_tokens(transcript), is_estimated=True)


def _text_answer(text: str, tokens: TokenCount, request_id: str | None) -> Produced:
    body = text.encode()
    return Produced(tokens=tokens, render=lambda _: body, provider_request_id=request_id, content_type=_TEXT)


def _render(ctx: JobContext, members: dict[str, Raw], usage: Usage) -> bytes:
    """Return the transcript with whatever else the provider sent."""
    answer: dict[str, Any] = {name: value for name, value in members.items() if bytes(value) != b"null"}
    if "segments" in answer:
        segments = json.decode(answer["segments"], type=list[dict[str, Any]])
        answer["segments"] = [_with_defaults(number, segment) for number, segment in enumerate(segments)]
    own = {"id": alias_of(ctx.message.kind, ctx.message.job_id), "model": ctx.message.model, "usage": usage}
    return json.encode(answer | own)


def _with_defaults(number: int, segment: dict[str, Any]) -> dict[str, Any]:
    return {"id": number, "type": "transcript.text.segment", "speaker": None} | segment
