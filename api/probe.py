"""Look at a provider before it is added: does it answer, does it serve the model, how large are its answers."""

from typing import Annotated, Any, Final

import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout
from msgspec import Meta, Struct, json

from shared.bodies import read_at_most
from shared.providers.errors import ProviderNotReachableError
from shared.unreadable import UNREADABLE

log = structlog.get_logger()
_TIMEOUT: Final = ClientTimeout(total=10)
_MAX_BYTES: Final = 16 * 1024 * 1024
EMBEDDINGS: Final = "text-embeddings-inference"
_Length = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
"""A longer one fits no column."""


class Found(Struct, frozen=True, kw_only=True):
    """What the provider tells of its model; None if it does not say."""

    max_context_length: int | None = None
    vector_size: int | None = None


class _Listed(Struct):
    """An entry of /v1/models; servers name the length of the context differently."""

    id: str
    aliases: list[str] = []
    max_context_length: _Length | None = None
    max_model_len: _Length | None = None


class _Models(Struct):
    data: list[_Listed]


class _TeiInfo(Struct):
    model_id: str
    max_input_length: _Length | None = None


class _Embedding(Struct):
    embedding: list[float]


class _Embeddings(Struct):
    data: Annotated[list[_Embedding], Meta(min_length=1)]


class Target(Struct, frozen=True, kw_only=True):
    """A provider to look at."""

    type: str
    url: str
    key: str | None
    model_name: str
    router_type: str


async def probe(http: ClientSession, target: Target) -> Found:
    """Return what is found; raises `ProviderNotReachableError`, after 10 s at most for each of two questions."""
    if target.type == "simulator":
        return Found()
    try:
        length = await _context_length(http, target)
        size = await _vector_size(http, target) if target.router_type == EMBEDDINGS else None
    except (*UNREADABLE, ClientError, TimeoutError, OSError, ValueError) as error:
        log.warning("provider_not_reachable", url=target.url, model_name=target.model_name, error=repr(error))
        raise ProviderNotReachableError(target.model_name) from error
    return Found(max_context_length=length, vector_size=size)


async def _context_length(http: ClientSession, target: Target) -> int | None:
    """Return the length of the model's context; raises `ValueError` if the model is not there exactly once."""
    if target.type == "tei":
        info = json.decode(await _ask(http, target, "GET", "info"), type=_TeiInfo)
        if info.model_id != target.model_name:
            raise ValueError(f"it serves {info.model_id}")
        return info.max_input_length
    models = json.decode(await _ask(http, target, "GET", "v1/models"), type=_Models).data
    names_it = [
        one for one in models if target.model_name in (one.id, *(one.aliases if target.type == "albert" else ()))
    ]
    if len(names_it) != 1:
        raise ValueError(f"it lists the model {len(names_it)} times")
    return names_it[0].max_model_len if target.type == "vllm" else names_it[0].max_context_length


async def _vector_size(http: ClientSession, target: Target) -> int:
    body = {"model": target.model_name, "input": "hello world"}
    answer = json.decode(await _ask(http, target, "POST", "v1/embeddings", body), type=_Embeddings)
    return len(answer.data[0].embedding)


async def _ask(http: ClientSession, target: Target, method: str, path: str, body: Any = None) -> bytes:
    headers = {} if target.key is None else {"Authorization": f"Bearer {target.key}"}
    request = http.request(
        method, target.url + path, json=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False
    )
    async with request as response:
        if response.status != 200:
            raise ValueError(f"it answered {response.status}")
        return await read_at_most(response.content, _MAX_BYTES)
