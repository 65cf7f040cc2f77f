"""Adapter for servers that speak OpenAI's wire format: OpenAI, vLLM, SGLang, llama.cpp, TGI, Ollama, Albert.

Source: OpenAI API reference, "Streaming"; vLLM documentation, "OpenAI-Compatible Server".
"""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Any, Final

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, FormData
from aiohttp.payload import AsyncIterablePayload, Payload
from msgspec import json

from shared.bodies import read_at_most
from shared.clock import now_ms
from shared.directory import Provider
from shared.unreadable import UNREADABLE
from worker.providers.base import (
    ANY_PARAMETERS,
    MAX_INPUTS,
    Blame,
    Operation,
    ProviderCall,
    ProviderError,
    ProviderReply,
    unsupported,
    without_secrets,
)
from worker.providers.sse import DONE, data_of

_CONNECT_S: Final = 10.0
_MAX_PIECE_BYTES: Final = 1024 * 1024
_MAX_BODY_BYTES: Final = 256 * 1024 * 1024
"""More than 2,048 embeddings of 4,096 numbers with 20 digits each take."""
_MAX_ERROR_BYTES: Final = 64 * 1024
_MAX_RETRY_AFTER_S: Final = 120.0
_ABOUT_THE_REQUEST: Final = frozenset({400, 413, 415, 422})
_ABOUT_THE_ACCOUNT: Final = frozenset({401, 402, 403, 404, 405})


PATHS: Final[dict[Operation, str]] = {
    "chat": "v1/chat/completions",
    "completion": "v1/completions",
    "response": "v1/responses",
    "embedding": "v1/embeddings",
    "transcription": "v1/audio/transcriptions",
    "speech": "v1/audio/speech",
    "ocr": "v1/ocr",
}
"""Operation → path behind the provider's URL."""


class OpenAICompatible:
    """Sends the request as it is and returns the answer as it is."""

    max_inputs = MAX_INPUTS
    takes_token_ids = True
    parameters = ANY_PARAMETERS

    def __init__(self, http: ClientSession, paths: Mapping[Operation, str] = PATHS) -> None:
        self._http = http
        self._paths = paths

    async def complete(self, call: ProviderCall) -> ProviderReply:
        """Return the answer; raises `ProviderError`."""
        async with self._post(call, ClientTimeout(total=call.provider.timeout_s, sock_connect=_CONNECT_S)) as response:
            body = await read_at_most(response.content, _MAX_BODY_BYTES + 1)
            if len(body) > _MAX_BODY_BYTES:
                raise ProviderError("The answer is too large.", reason="malformed")
            return ProviderReply(body, response.headers.get("x-request-id"), response.content_type)

    async def stream(self, call: ProviderCall) -> AsyncIterator[list[bytes]]:
        """Yield the chunks in order, as many as came at once, without the final `[DONE]`; raises `ProviderError`."""
        timeout = ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=call.provider.timeout_s)
        async with self._post(call, timeout) as response:
            async for chunks in data_of(response.content.iter_any()):
                if DONE in chunks:
                    yield chunks[: chunks.index(DONE)]
                    return
                yield chunks

    @asynccontextmanager
    async def _post(self, call: ProviderCall, limits: ClientTimeout) -> AsyncIterator[ClientResponse]:
        if call.operation not in self._paths:
            raise unsupported(call)
        data, headers = _payload(call)
        if call.provider.key is not None:
            headers["Authorization"] = f"Bearer {call.provider.key}"
        if call.traceparent is not None:
            headers["traceparent"] = call.traceparent
        if call.tracestate is not None:
            headers["tracestate"] = call.tracestate
        url = call.provider.url + self._paths[call.operation]
        try:
            async with self._http.post(
                url, data=data, headers=headers, timeout=limits, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise await _to_error(response, call.provider)
                yield response
        except TimeoutError as error:
            raise ProviderError("The provider did not answer in time.", reason="timeout") from error
        except (ClientError, OSError, ValueError) as error:
            if isinstance(error.__cause__, ProviderError):  # it was not the provider: our file cannot be read
                raise error.__cause__ from None
            message = f"The provider cannot be reached: {type(error).__name__}"  # its text has the address
            raise ProviderError(message, reason="connection") from error


class _Chunks(AsyncIterablePayload):
    """Bytes that come piece by piece, of known length: servers need not understand chunked bodies."""

    def __init__(self, chunks: AsyncIterator[bytes], size_bytes: int, content_type: str, name: str | None) -> None:
        super().__init__(chunks, content_type=content_type, filename=name)
        self._size = size_bytes


def _payload(call: ProviderCall) -> tuple[bytes | BytesIO | Payload | FormData, dict[str, str]]:
    """Return the body of a call and its headers: JSON, or a form if there is a file beside it.

    What is large is sent piece by piece, since one long write would stall the event loop.
    """
    file = call.file
    if file is None:
        is_large = len(call.body) > _MAX_PIECE_BYTES
        return BytesIO(call.body) if is_large else call.body, {"Content-Type": "application/json"}
    if file.placeholder is not None:
        before, _, after = call.body.partition(file.placeholder)
        size_bytes = len(before) + file.size_bytes + len(after)
        return _Chunks(_joined(before, file.chunks, after), size_bytes, "application/json", None), {}
    form = FormData()
    for name, value in json.decode(call.body, type=dict[str, Any]).items():
        for text in value if isinstance(value, list) else (value,):
            form.add_field(name, text if isinstance(text, str) else json.encode(text).decode())
    form.add_field("file", _Chunks(file.chunks, file.size_bytes, file.content_type, file.name), filename=file.name)
    return form, {}


async def _joined(before: bytes, chunks: AsyncIterator[bytes], after: bytes) -> AsyncIterator[bytes]:
    yield before
    async for chunk in chunks:
        yield chunk
    yield after


async def _to_error(response: ClientResponse, provider: Provider) -> ProviderError:
    """Return what an answer other than 200 means."""
    status = response.status
    body = await read_at_most(response.content, _MAX_ERROR_BYTES)
    message, code, param = _describe(body)
    reason = f"http_{status}" if status < 500 else "http_5xx"
    return ProviderError(
        without_secrets(message, provider) if message else f"The provider answered {status}.",
        blame=_blame(status, code, param),
        reason=reason,
        status=status,
        retry_after_s=_retry_after_s(response.headers.get("Retry-After")),
        code=code,
        param=param,
    )


def _blame(status: int, code: str | None, param: str | None) -> Blame:
    if status in _ABOUT_THE_REQUEST:
        return "request"
    if status == 404 and code != "model_not_found" and param not in (None, "model"):
        return "request"  # something else that the request names
    return "operator" if status in _ABOUT_THE_ACCOUNT or 300 <= status < 400 else "provider"


def _describe(body: bytes) -> tuple[str | None, str | None, str | None]:
    """Return message, code and param of an error body, whichever of the usual forms it has."""
    try:
        document: Any = json.decode(body)
    except UNREADABLE:
        return body.decode(errors="replace").strip()[:1000] or None, None, None
    if isinstance(document, dict):
        error = document.get("error", document)
        if isinstance(error, dict):
            message = error.get("message") or error.get("detail") or error.get("msg")
            return _text(message), _text(error.get("code")), _text(error.get("param"))
        return _text(error), None, None
    return _text(document), None, None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.encode(value).decode()[:1000]


def _retry_after_s(value: str | None) -> float | None:
    """Return the seconds that a `Retry-After` asks for: as such, or until a date; None if it says neither."""
    try:
        seconds = float(value or "")
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value or "").timestamp() - now_ms() / 1000
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None
