"""A lean HTTP/1.1 client on asyncio streams, and the numbers of a run: it must not be what is measured."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Result:
    """What a scenario gave."""

    latencies_ms: list[float] = field(default_factory=list)
    errors: int = 0
    elapsed_s: float = 0.0

    def row(self) -> dict[str, float | int]:
        """Return rate and percentiles."""
        ordered = sorted(self.latencies_ms) or [0.0]

        def percentile(share: float) -> float:
            return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 2)

        return {
            "per_s": round(len(self.latencies_ms) / self.elapsed_s) if self.elapsed_s else 0,
            "p50_ms": percentile(0.5),
            "p90_ms": percentile(0.9),
            "p99_ms": percentile(0.99),
            "count": len(self.latencies_ms),
            "errors": self.errors,
        }


class Connection:
    """One kept-alive connection."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._key = parts.hostname or "127.0.0.1", parts.port or 80, key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Send a request and return status and whole body."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", f"Authorization: Bearer {self._key}"]
        lines += [f"Content-Length: {len(content)}", "Content-Type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        if "transfer-encoding: chunked" in head:
            return status, await _read_chunked(reader)
        length = head.partition("content-length:")[2].partition("\r\n")[0]
        return status, await reader.readexactly(int(length or 0))

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


async def run(
    url: str, key: str, concurrency: int, seconds: float, call: Callable[[Connection], Awaitable[bool]]
) -> Result:
    """Repeat `call` on so many connections for so long; it returns whether the answer was right."""
    result, end = Result(), time.perf_counter() + seconds

    async def repeat() -> None:
        connection = Connection(url, key)
        while (started := time.perf_counter()) < end:
            if await call(connection):
                result.latencies_ms.append((time.perf_counter() - started) * 1000)
            else:
                result.errors += 1
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(repeat() for _ in range(concurrency)))
    result.elapsed_s = time.perf_counter() - started
    return result
