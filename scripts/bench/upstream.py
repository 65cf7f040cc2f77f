"""The model server that gateways call: fixed answers, at once.  nginx with its echo module, else asyncio.

Run as a program it is the second one: `python upstream.py PORT`.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvloop
from machine import LOAD_CORES, free_port, start, stop, wait_until

MODEL = "gpt-4o-mini"
ANSWER = "Hello! How can I help you today? This is a short fixed answer from a simulated upstream model."
STREAM_WORDS = 20
CHAT = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Hello, who are you and what can you do for me?"},
    ],
    "max_tokens": 64,
}


def chat_reply() -> str:
    """Return the answer to a plain chat, as JSON."""
    choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32}
    return _compact(_head("chat.completion") | {"choices": [choice], "usage": usage})


def chunks() -> list[str]:
    """Return the data of the events of a stream, from the first word to [DONE]."""
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": " word0"}, None)]
    deltas += [({"content": f" word{number}"}, None) for number in range(1, STREAM_WORDS)]
    choices = [{"index": 0, "delta": delta, "finish_reason": reason} for delta, reason in [*deltas, ({}, "stop")]]
    return [*(_compact(_head("chat.completion.chunk") | {"choices": [choice]}) for choice in choices), "[DONE]"]


def models_reply() -> str:
    """Return the list of models, as JSON."""
    model = {"id": MODEL, "object": "model", "created": 1700000000, "owned_by": "bench"}
    return _compact({"object": "list", "data": [model]})


def _head(kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1700000000, "model": MODEL}


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


@contextmanager
def serve_upstream(folder: Path, *, with_nginx: bool) -> Iterator[tuple[str, str]]:
    """Yield the URL of the API and what serves it, on the cores of the load."""
    port, home = free_port(), folder / "upstream"
    home.mkdir()
    modules = _nginx_modules() if with_nginx else None
    if modules is None:
        name, command = "asyncio", [sys.executable, str(Path(__file__).resolve()), str(port)]
    else:
        (home / "nginx.conf").write_text(_nginx_conf(port, modules))
        name, command = "nginx", ["nginx", "-p", str(home), "-c", "nginx.conf", "-e", "stderr"]
    process = start(command, LOAD_CORES, folder / "upstream.log")
    try:
        wait_until("the upstream listens", lambda: _listens(port), 10)
        yield f"http://127.0.0.1:{port}/v1", name
    finally:
        stop(process)


def _nginx_modules() -> Path | None:
    """Return the folder of nginx' modules if the one that is needed is there."""
    if shutil.which("nginx") is None:
        return None
    build = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True).stderr
    folder = Path((build.partition("--modules-path=")[2].split() or ["-"])[0])
    return folder if (folder / "ngx_http_echo_module.so").exists() else None


def _nginx_conf(port: int, modules: Path) -> str:
    text = Path(__file__).with_name("upstream.conf.in").read_text()
    events = "\n".join(f"echo 'data: {chunk}\\n'; echo_flush;" for chunk in chunks())
    values = {"MODULES": modules, "PORT": port, "CHAT": chat_reply(), "MODELS": models_reply(), "CHUNKS": events}
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def _listens(port: int) -> bool:
    async def connect() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    try:
        asyncio.run(connect())
    except OSError:
        return False
    return True


class FixedAnswers(asyncio.Protocol):
    """One connection of the asyncio server; takes bodies with a length and chunked ones."""

    _json = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    _stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    _chat, _models = chat_reply().encode(), models_reply().encode()
    _events = tuple(b"%x\r\n%s\r\n" % (len(line), line) for line in (f"data: {text}\n\n".encode() for text in chunks()))

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        """Answer when the request is whole."""
        self._received += data
        head, line_break, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        is_chunked = not length and not head.startswith(b"GET")
        if not line_break or len(body) < int(length or 0) or (is_chunked and not body.endswith(b"0\r\n\r\n")):
            return
        self._received = b""
        assert self._transport is not None
        if head.startswith(b"GET"):
            self._transport.write(self._json % (len(self._models), self._models))
        elif b'"stream":true' in body.replace(b" ", b""):
            self._transport.write(self._stream)
            for event in self._events:
                self._transport.write(event)
            self._transport.write(b"0\r\n\r\n")
        else:
            self._transport.write(self._json % (len(self._chat), self._chat))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(FixedAnswers, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
