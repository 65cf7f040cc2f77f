"""Job kind `audio.speech`: have a provider speak a text.

Usage: the characters of the text are the prompt tokens, which is what speech is billed by; the tokens of the words that
were spoken, as a transcript has them, are the completion tokens, so that energy and carbon are not zero.
"""

from typing import Final

from msgspec import Struct, json

from shared.tokens import count_tokens
from worker.context import JobContext, Produced, TokenCount
from worker.jobs.upstream import call_of, request_id_of, to_members
from worker.providers.base import ProviderError, ProviderReply

_UNNAMED: Final = "application/octet-stream"
_TYPES: Final = {
    "mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav",
    "pcm": "audio/pcm",
}  # fmt: skip
"""Of answers whose provider does not name one."""


class _Request(Struct):
    input: str
    response_format: str | None = None


async def run_speech(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    request = json.decode(ctx.request, type=_Request)
    members = to_members(ctx.request, ctx.provider.model_name, "speech")
    call = call_of(ctx, "speech", json.encode(members))
    try:
        reply = await ctx.runtime.adapters[ctx.provider.type].complete(call)
    except ProviderError as error:
        if error.blame == "request" and error.param == "voice":
            error.status, error.code = 400, "voice_not_found"
        raise
    content_type = _content_type(reply, request)
    return Produced(
        tokens=TokenCount(prompt=len(request.input), completion=count_tokens(request.input), is_estimated=True),
        render=lambda _: reply.body,
        provider_request_id=request_id_of(reply),
        content_type=content_type,
    )


def _content_type(reply: ProviderReply, request: _Request) -> str:
    if not reply.body or reply.content_type.endswith("json") or reply.content_type.startswith("text/"):
        raise ProviderError("The provider sent no sound.", reason="malformed")
    if reply.content_type == _UNNAMED:
        return _TYPES.get(request.response_format or "mp3", "audio/mpeg")
    return reply.content_type
