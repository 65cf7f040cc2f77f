"""Jobs run by their real kinds and adapters, over a transport that answers what the example says."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from json import loads
from types import SimpleNamespace
from typing import Any, Final, cast

from aiohttp import ClientSession
from msgspec import Struct, json
from multidict import CIMultiDict

from shared.carbon.footprint import Deployment, build_profile
from shared.chat.parameter_sets import ALL
from shared.directory import Provider, Router
from shared.jobs.messages import JobMessage
from shared.replies.entries import Entry, Kind
from shared.settings import Settings
from shared.usage.schemas import Usage, zero_usage
from tests.fuzz.strategies import pieces
from worker.context import JobContext, Produced, Runtime
from worker.jobs import KINDS
from worker.providers import build_adapters

SOUND: Final = b"RIFF\x24\x00\x00\x00WAVEfmt "


class Answer(Struct):
    """What a server answers to every call."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = {}
    cuts: Sequence[int] = ()
    """Where the body is cut into reads."""


class _Content:
    def __init__(self, answer: Answer) -> None:
        self._left = pieces(answer.body, answer.cuts)

    async def read(self, _most: int) -> bytes:
        return self._left.pop(0) if self._left else b""

    async def iter_any(self) -> AsyncIterator[bytes]:
        for piece in self._left:
            yield piece


class Transport:
    """Has of `ClientSession` what those who ask a server use."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def post(self, url: str, **options: Any) -> Any:
        return self.request("POST", url, **options)

    def get(self, url: str, **options: Any) -> Any:
        return self.request("GET", url, **options)

    @asynccontextmanager
    async def request(self, _method: str, _url: str, **_options: Any) -> AsyncIterator[Any]:
        answer = self._answer
        headers = CIMultiDict(answer.headers)

        async def read() -> bytes:
            return answer.body

        yield SimpleNamespace(
            status=answer.status, headers=headers, read=read, content=_Content(answer),
            content_type=headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip().lower(),
        )  # fmt: skip


class _Reply:
    """Has of `Reply` what kinds use."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def prepare(self, data: bytes) -> None:
        self.entries.append(Entry(1, len(self.entries) + 1, Kind.CHUNK, data))

    async def push(self, chunks: list[bytes]) -> None:
        for data in chunks:
            self.prepare(data)


class _Files:
    """Has of `FileStore` what kinds use."""

    async def open(self, _file_id: str) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            yield SOUND

        return SimpleNamespace(size_bytes=len(SOUND), chunks=chunks())


class Ran(Struct):
    """What became of a job."""

    produced: Produced
    sent: list[bytes]
    """Pieces of the stream, the last one with the usage."""
    body: bytes

    @property
    def document(self) -> Any:
        """Return the body, which has to be JSON; what was passed on may have numbers that only Python reads."""
        return loads(self.body)


async def run(  # all that makes a difference to what is read
    kind: str, request: Any, answer: Answer, *, provider_type: str = "openai", dialect: str = "openai",
    parameter_set: str = ALL, native: bool = False,
) -> Ran:  # fmt: skip
    """Return what a job gets from an answer; raises `ProviderError`."""
    provider = Provider(
        id=1, router_id=1, type=provider_type, url="http://upstream/", key="key", timeout_s=5, model_name="upstream",
        profile=build_profile(Deployment()), weight=1.0, qos_metric=None, qos_limit=None, native_responses=native,
        max_batch=2048, parameter_set=parameter_set,
    )  # fmt: skip
    router = Router(
        id=1, name="public", owner=None, type="text-generation", aliases=(), load_balancing_strategy="shuffle",
        cache_ttl_s=None, cache_charge="full", fallback_id=None, price_prompt=Decimal(1), price_completion=Decimal(1),
        max_context_length=None, voices=None, accepts_token_ids=False, token_encoding=None, created_ms=0,
        providers=(provider,),
    )  # fmt: skip
    runtime = SimpleNamespace(
        settings=Settings(), files=_Files(), adapters=build_adapters(cast("ClientSession", Transport(answer)))
    )
    body, reply = json.encode(request), _Reply()
    ctx = JobContext(
        runtime=cast("Runtime", runtime), message=_message(kind, dialect, is_stream=bool(request.get("stream"))),
        request=body, router=router, provider=provider, attempt=1, log_id="", begun_ms=0, reply=cast("Any", reply),
    )  # fmt: skip
    produced = await KINDS[kind](ctx)
    usage = _usage(produced)
    if produced.render_last_chunk is not None:
        reply.prepare(produced.render_last_chunk(usage))
    return Ran(produced, [entry.data for entry in reply.entries], produced.render(usage))


def _message(kind: str, dialect: str, *, is_stream: bool) -> JobMessage:
    return JobMessage(
        job_id="0" * 26, kind=kind, endpoint="", band=0, stream=is_stream, user_id=1, organization_id=None, key_id=None,
        router_id=1, router_name="public", model="public", price_prompt="1", price_completion="1", created_ms=0,
        request_id="", timeout_s=5, result_ttl_s=60, traceparent=None, on_worker_lost="retry", inbox=None,
        admission=None, request=None, dialect=dialect,
    )  # fmt: skip


def _usage(produced: Produced) -> Usage:
    usage, tokens = zero_usage(), produced.tokens
    usage.prompt_tokens, usage.completion_tokens = tokens.prompt, tokens.completion
    usage.total_tokens = tokens.prompt + tokens.completion
    usage.prompt_tokens_details, usage.completion_tokens_details = tokens.prompt_details, tokens.completion_details
    return usage
