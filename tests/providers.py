"""A provider with behaviour, over real HTTP: it records what it gets and answers what the test scripted."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Behaviour = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class ScriptedProvider:
    """Answers each call with the next behaviour of `script`; when that is empty, with `default`."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.script: list[Behaviour] = []
        self.default: Behaviour = says("Hello!")
        self.running = 0
        self.aborted = 0
        self.models: list[Any] = ["model-a", "org/model-b"]
        """Ids, or whole entries of the list."""
        self.routes: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
        """Path → what else it answers."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.routes:
            return await self.routes[request.path](request)
        if request.content_type == "multipart/form-data":
            raw, body = await self._read_form(request)
        else:
            raw = await request.read()
            body = json.loads(raw)
        self.requests.append(body)
        self.bodies.append(raw)
        self.headers.append(dict(request.headers))
        self.paths.append(request.path)
        behave = self.script.pop(0) if self.script else self.default
        self.running += 1
        try:
            return await behave(request, body)
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.running -= 1

    async def _read_form(self, request: web.Request) -> tuple[bytes, dict[str, Any]]:
        """Return the file and all fields; the file as (name, content type)."""
        data, body = b"", dict[str, Any]()
        for name, value in (await request.post()).items():
            if isinstance(value, web.FileField):
                data = value.file.read()
                value.file.close()
                body[name] = (value.filename, value.content_type)
            else:
                body[name] = [*body[name], value] if isinstance(body.get(name), list) else value
                if name.endswith("[]") and isinstance(body[name], str):
                    body[name] = [value]
        return data, body

    async def list_models(self, _request: web.Request) -> web.Response:
        data = [model if isinstance(model, dict) else {"id": model} for model in self.models]
        return web.json_response({"object": "list", "data": data})

    async def answer_other(self, request: web.Request) -> web.StreamResponse:
        if request.path not in self.routes:
            raise web.HTTPNotFound
        return await self.routes[request.path](request)


@asynccontextmanager
async def serve_provider() -> AsyncIterator[ScriptedProvider]:
    """Yield a running provider."""
    scripted = ScriptedProvider()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{path:.*}", scripted.handle)
    app.router.add_get("/v1/models", scripted.list_models)
    app.router.add_route("*", "/{path:.*}", scripted.answer_other)
    server = TestServer(app)
    await server.start_server()  # it cancels the handler of a client that has gone
    scripted.url = str(server.make_url("/"))
    yield scripted
    await server.close()


def usage(prompt: int = 9, completion: int = 3, **details: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **details}


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **members: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "upstream", "choices": [choice]} | (
        members
    )


def says(text: str, *, reported: dict[str, Any] | None = None, delay_s: float = 0.0, **members: Any) -> Behaviour:
    """Answer with a text, whole or word by word; `reported` is the usage (None: as counted, {}: none)."""

    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        numbers = usage() if reported is None else reported
        if body.get("stream"):
            words = text.split(" ")
            pieces = [words[0], *(" " + word for word in words[1:])]
            chunks = [chunk({"role": "assistant", "content": piece}) for piece in pieces] + [chunk({}, "stop")]
            if numbers:
                chunks.append(chunk({}, usage=numbers, choices=[]))
            return await stream(request, chunks, delay_s=delay_s)
        await asyncio.sleep(delay_s)
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        reply = {"id": "up-1", "object": "chat.completion", "created": 1, "model": "upstream", "choices": [choice]}
        return web.json_response(reply | ({"usage": numbers} if numbers else {}) | members)

    return behave


def embeds(*, reported: dict[str, Any] | None = None, most: int | None = None, **members: Any) -> Behaviour:
    """Answer each input with a vector of its length, 0.5 and -2; more than `most` inputs are refused."""

    async def behave(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        asked = body["input"]
        inputs = asked if isinstance(asked, list) and not isinstance(asked[0], int) else [asked]
        if most is not None and len(inputs) > most:
            message = f"batch size {len(inputs)} > maximum allowed batch size {most}"
            return web.json_response({"error": message, "error_type": "Validation"}, status=422)
        data = [{"object": "embedding", "index": i, "embedding": [len(one), 0.5, -2]} for i, one in enumerate(inputs)]
        numbers = {"prompt_tokens": 3 * len(inputs), "total_tokens": 3 * len(inputs)} if reported is None else reported
        reply = {"object": "list", "model": "upstream", "data": data[::-1]}  # an order is promised by `index` only
        return web.json_response(reply | ({"usage": numbers} if numbers else {}) | members)

    return behave


def ranks(*scores: float, reported: dict[str, Any] | None = None) -> Behaviour:
    """Answer with these scores, by position of the document."""

    async def behave(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        results = [{"index": i, "relevance_score": scores[i]} for i in range(len(body["documents"]))]
        return web.json_response({"id": "up-1", "results": results} | ({"usage": reported} if reported else {}))

    return behave


def continues(text: str, *, reported: dict[str, Any] | None = None) -> Behaviour:
    """Continue a prompt with a text, whole or word by word; `reported` is the usage (None: as counted, {}: none)."""

    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        numbers = usage() if reported is None else reported
        head = {"id": "up-1", "object": "text_completion", "created": 1, "model": "upstream"}
        if body.get("stream"):
            words = text.split(" ")
            pieces = [words[0], *(" " + word for word in words[1:])]
            chunks: list[dict[str, Any]] = [
                head | {"choices": [{"index": 0, "text": piece, "logprobs": None, "finish_reason": None}]}
                for piece in pieces
            ]
            chunks.append(head | {"choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]})
            if numbers:
                chunks.append(head | {"choices": [], "usage": numbers})
            return await stream(request, chunks)
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
        return web.json_response(head | {"choices": [choice]} | ({"usage": numbers} if numbers else {}))

    return behave


def responds(text: str, *, reported: dict[str, Any] | None = None, **members: Any) -> Behaviour:
    """Answer as a server with `/v1/responses` does; `reported` is the usage (None: as counted, {}: none)."""

    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        numbers = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12} if reported is None else reported
        response: dict[str, Any] = {"id": "resp_up", "object": "response", "status": "in_progress", "output": []}
        item = {"id": "msg_up", "type": "message", "status": "completed", "role": "assistant"}
        part = {"type": "output_text", "text": text, "annotations": []}
        over = response | {"status": "completed", "output": [item | {"content": [part]}]}
        over |= ({"usage": numbers} if numbers else {"usage": None}) | members
        if not body.get("stream"):
            return web.json_response(over)
        at = {"item_id": "msg_up", "output_index": 0, "content_index": 0}
        documents = [
            {"type": "response.created", "response": response},
            {"type": "response.in_progress", "response": response},
            {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}},
            {"type": "response.content_part.added", **at, "part": part | {"text": ""}},
            *({"type": "response.output_text.delta", **at, "delta": piece} for piece in text.split(" ")),
            {"type": "response.output_text.done", **at, "text": text},
            {"type": "response.content_part.done", **at, "part": part},
            {"type": "response.output_item.done", "output_index": 0, "item": item | {"content": [part]}},
            {"type": f"response.{over['status']}", "response": over},
        ]
        numbered = [document | {"sequence_number": number} for number, document in enumerate(documents)]
        return await stream(request, numbered, done=False)

    return behave


def streams(*chunks: dict[str, Any], delay_s: float = 0.0, done: bool = True, cut: bool = False) -> Behaviour:
    """Stream these chunks; without `done` the end is missing, with `cut` the connection breaks."""

    async def behave(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return await stream(request, list(chunks), delay_s=delay_s, done=done, cut=cut)

    return behave


async def stream(
    request: web.Request, chunks: list[dict[str, Any]], *, delay_s: float = 0.0, done: bool = True, cut: bool = False
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    for document in chunks:
        await response.write(b"data: " + json.dumps(document).encode() + b"\n\n")
        await asyncio.sleep(delay_s)
    if cut:
        assert request.transport is not None
        request.transport.abort()
        return response
    if done:
        await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def sends(raw: bytes, content_type: str = "application/json", status: int = 200, **headers: str) -> Behaviour:
    """Answer with these bytes."""

    async def behave(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=raw, status=status, headers={"Content-Type": content_type, **headers})

    return behave


def in_pieces(*pieces: bytes, status: int = 200) -> Behaviour:
    """Send JSON piece by piece, with a pause between them."""

    async def behave(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.05)
        await response.write_eof()
        return response

    return behave


def fails(status: int, message: str = "No.", **headers: str) -> Behaviour:
    """Answer with an error in OpenAI's form."""
    error = {"error": {"message": message, "type": "some_error", "param": None, "code": None}}
    return sends(json.dumps(error).encode(), status=status, **headers)


def hangs() -> Behaviour:
    """Never answer."""

    async def behave(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError("nobody waits for an hour")

    return behave


def cuts_at_once() -> Behaviour:
    """Break the connection before the first byte."""

    async def behave(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(0)
        return web.Response()

    return behave


def cuts_in_the_middle() -> Behaviour:
    """Break the connection within the answer."""

    async def behave(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    return behave
