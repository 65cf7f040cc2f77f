"""What the kinds have in common: calls of a provider, what it reports, and what every answer says of itself.

Documents are rewritten member by member without being decoded as a whole: what a provider adds to its answers reaches
the caller unchanged.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import UNSET, Raw, Struct, UnsetType, json

from shared.chat.parameter_sets import ALL
from shared.chat.retrieved import MEMBER as RETRIEVED
from shared.directory import Provider
from shared.jobs.schemas import alias_of
from shared.request_logs.redaction import clean
from shared.tokens import count_message_tokens, count_tokens
from shared.unreadable import UNREADABLE
from worker.context import JobContext, TokenCount
from worker.providers.base import Operation, ProviderCall, ProviderError, ProviderFile, ProviderReply
from worker.response_cache import CacheLook, cache_key, find_reply

NULL: Final = Raw(b"null")
EMPTY_LIST: Final = Raw(b"[]")
MEMBERS: Final = json.Decoder(dict[str, Raw])
MALFORMED: Final = (*UNREADABLE, KeyError)
"""What reading a document raises that does not have the form it should have."""
_BYTES_PER_TOKEN: Final = 4
_OF_THE_JOB: Final = ("metadata", "store", "user")
_ALSO_OF_THE_PROVIDER: Final[dict[Operation, tuple[str, ...]]] = {
    "chat": _OF_THE_JOB, "completion": ("user",), "embedding": ("user",),
}  # fmt: skip
"""Those that OpenAI's API has, too; elsewhere they are Sluice's own, and strict servers would refuse them."""
OF_SLUICE: Final = ("priority", "request_id", "timeout_sec")
"""Say how a job is to be run."""
_SMALLEST_TOP_P: Final = Raw(b"0.000001")
"""In place of 0, which engines refuse."""
_MOST_TOKENS: Final = 2**40
"""No provider means more; the ledger could not hold it."""


class _Details(Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class UpstreamUsage(Struct):
    """What providers report; details are kept as they are."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: Raw = NULL
    completion_tokens_details: Raw = NULL


_USAGE: Final = json.Decoder(UpstreamUsage | None)
_DETAILS: Final = json.Decoder(_Details | None)


async def call_provider(ctx: JobContext, operation: Operation, body: bytes) -> ProviderReply:
    """Return the whole answer of the attempt's provider, or the one that was kept; raises `ProviderError`."""
    key = None if ctx.router.cache_ttl_s is None else cache_key(ctx.router.id, operation, body)
    if ctx.kept is not None and ctx.kept.key == key:
        ctx.looks.append(ctx.kept)
        return ProviderReply(ctx.kept.body, None)
    if key is not None and (found := await find_reply(ctx.runtime.redis, key)) is not None:
        ctx.looks.append(CacheLook(key=key, body=found.body, found=found))
        return ProviderReply(found.body, None)
    reply = await ctx.runtime.adapters[ctx.provider.type].complete(call_of(ctx, operation, body))
    if key is not None:
        ctx.looks.append(CacheLook(key=key, body=reply.body, found=None))
    return reply


def call_of(ctx: JobContext, operation: Operation, body: bytes, file: ProviderFile | None = None) -> ProviderCall:
    """Return a call of the attempt's provider."""
    return ProviderCall(
        provider=ctx.provider,
        operation=operation,
        body=body,
        attempt=ctx.attempt,
        file=file,
    )


def takes_all(provider: Provider) -> bool:
    """Return whether a provider takes a body as it was received, with all the parameters of engines."""
    return provider.parameter_set == ALL


def request_id_of(reply: ProviderReply) -> str | None:
    """Return the provider's own id of a call, fit for the request log."""
    return reply.request_id and clean(reply.request_id)


def members_of(answer: bytes) -> dict[str, Raw]:
    """Return the members of a provider's answer or chunk; raises `UNREADABLE`, also for texts that nobody reads here.

    They are passed on, so they have to be UTF-8.
    """
    if not answer.isascii():
        answer.decode()
    return MEMBERS.decode(answer)


def malformed(error: Exception) -> ProviderError:
    """Return the failure of a provider whose answer cannot be read."""
    return ProviderError(f"The provider sent a malformed answer: {error}", reason="malformed")


def to_members(request: bytes, model_name: str, operation: Operation) -> dict[str, Raw]:
    """Return the members of the caller's body that a provider gets, with its model name."""
    members = MEMBERS.decode(request)
    sent = _ALSO_OF_THE_PROVIDER.get(operation, ())
    for name in _OF_THE_JOB:
        if name not in sent:
            members.pop(name, None)
    members.pop(RETRIEVED, None)
    members["model"] = Raw(json.encode(model_name))
    return members


def to_upstream(request: bytes, model_name: str, operation: Operation, *, is_stream: bool) -> bytes:
    """Return the body for a provider that generates text; a stream always asks for its usage."""
    members = to_members(request, model_name, operation)
    for name in OF_SLUICE:
        members.pop(name, None)
    if bytes(members.get("seed", NULL)) == b"-1":
        del members["seed"]  # means a random one, which providers spell by leaving it out
    if is_given(members, "max_completion_tokens") and is_given(members, "max_tokens"):
        del members["max_tokens"]  # two spellings of one parameter, of which the newer counts
    if b"." in bytes(members.get("top_k", NULL)):
        members["top_k"] = Raw(b"%d" % int(float(bytes(members["top_k"]))))
    if _is_zero(members.get("top_p", NULL)):
        members["top_p"] = _SMALLEST_TOP_P
    if not is_given(members, "tools"):
        members.pop("tool_choice", None)  # engines refuse a choice among nothing
    if is_stream:
        members["stream"] = Raw(b"true")
        options = MEMBERS.decode(members.get("stream_options", NULL)) if is_given(members, "stream_options") else {}
        members["stream_options"] = Raw(json.encode(options | {"include_usage": Raw(b"true")}))
    return json.encode(members)


def _is_zero(number: Raw) -> bool:
    return bytes(number)[:1] in (b"0", b"-") and float(bytes(number)) == 0


def is_given(members: dict[str, Raw], name: str) -> bool:
    """Return whether a member is there and not null."""
    return name in members and bytes(members[name]) != b"null"


def identity_of(ctx: JobContext) -> dict[str, Any]:
    """Return the members by which an answer, or a chunk of it, says whose it is."""
    message = ctx.message
    return {
        "id": alias_of(message.kind, message.job_id),
        "created": message.created_ms // 1000,
        "model": message.model,
    }


def reported_usage(members: Mapping[str, Raw]) -> TokenCount | None:
    """Return the numbers in an answer's `usage`; None if the provider reported none.  Raises `UNREADABLE`."""
    usage = _USAGE.decode(members.get("usage", NULL))
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return TokenCount(
        prompt=bounded(usage.prompt_tokens),
        completion=bounded(usage.completion_tokens),
        cached=_detail(usage.prompt_tokens_details, "cached_tokens"),
        reasoning=_detail(usage.completion_tokens_details, "reasoning_tokens"),
        prompt_details=_kept(usage.prompt_tokens_details),
        completion_details=_kept(usage.completion_tokens_details),
    )


def sum_tokens(counts: Sequence[TokenCount]) -> TokenCount:
    """Return the tokens of several calls; a single one keeps its details."""
    if len(counts) == 1:
        return counts[0]
    return TokenCount(
        prompt=sum(one.prompt for one in counts),
        completion=sum(one.completion for one in counts),
        cached=sum(one.cached for one in counts),
        reasoning=sum(one.reasoning for one in counts),
        is_estimated=any(one.is_estimated for one in counts),
        calls=len(counts),
    )


def to_prompt_tokens(usage: UpstreamUsage | None) -> int | None:
    """Return the provider's number for an operation that generates nothing; None if it reported none."""
    if usage is None:
        return None
    reported = usage.total_tokens if usage.prompt_tokens is None else usage.prompt_tokens
    return None if reported is None else bounded(reported)


class _CountedChat(Struct):
    messages: list[dict[str, Any]]
    tools: Any = None


def count_chat_prompt(request: bytes) -> int:
    """Return about how many tokens the body of a chat has."""
    try:
        counted = json.decode(request, type=_CountedChat)
        prompt = count_message_tokens(counted.messages)
        if counted.tools:
            prompt += count_tokens(json.encode(counted.tools).decode())
    except UNREADABLE:  # a number or a depth that Python cannot hold, but a provider may
        prompt = len(request) // _BYTES_PER_TOKEN
    return prompt


def bounded(tokens: int) -> int:
    """Return a number of tokens that the ledger can hold."""
    return min(max(tokens, 0), _MOST_TOKENS)


def _detail(details: Raw, name: str) -> int:
    return bounded(getattr(_DETAILS.decode(details), name, None) or 0)


def _kept(details: Raw) -> Raw | UnsetType:
    return UNSET if bytes(details) == b"null" else details.copy()
