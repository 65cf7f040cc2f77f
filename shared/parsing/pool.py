"""Parser processes: files are read where they can do no harm, with a limit of time and memory each.

A process reads one file after another; one that takes too long, or dies, is replaced.  They are started when they are
needed, and end with their parent, whose end closes their input.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
from msgspec import msgpack
from msgspec.structs import replace

from shared.parsing.protocol import LENGTH, ParseAnswer, ParseRequest, encode
from shared.settings import Settings

log = structlog.get_logger()
_ROOT: Final = Path(__file__).parents[2]
_ANSWER: Final = msgpack.Decoder(ParseAnswer)
_MOST_ANSWER_BYTES: Final = 1 << 30


class ParsingError(Exception):
    """The file cannot be read; the message says why."""


class ParserPool:
    """Up to `most` parser processes; opened once per process.

    Args:
        most: files that are read at the same time; others wait.
        timeout_s: for one file.
        memory_bytes: address space of one process.

    """

    def __init__(self, most: int, timeout_s: int, memory_bytes: int) -> None:
        self._slots = asyncio.Semaphore(most)
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._idle: list[asyncio.subprocess.Process] = []

    async def parse(self, request: ParseRequest) -> ParseAnswer:
        """Return what the file holds; raises `ParsingError`."""
        async with self._slots:
            process = self._idle.pop() if self._idle else await self._start()
            try:
                async with asyncio.timeout(self._timeout_s):
                    found = await _ask(process, request)
            except TimeoutError:
                await _end(process)
                raise ParsingError("the file takes too long to read") from None
            except (asyncio.IncompleteReadError, OSError, EOFError) as error:
                await _end(process)
                log.warning("parser_died", returncode=process.returncode, type=request.type)
                raise ParsingError("the file cannot be read") from error
            except BaseException:
                await _end(process)
                raise
            self._idle.append(process)
        if found.error is not None:
            raise ParsingError(found.error)
        return found

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "shared.parsing.child", str(self._memory_bytes), str(self._timeout_s),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=_ROOT,
        )  # fmt: skip

    async def close(self) -> None:
        """End all processes; nothing may be under way."""
        while self._idle:
            await _end(self._idle.pop())


async def _ask(process: asyncio.subprocess.Process, request: ParseRequest) -> ParseAnswer:
    if process.stdin is None or process.stdout is None:
        raise EOFError
    size = sum(map(len, request.texts or ()))
    asked = replace(request, data=b"", data_bytes=len(request.data))
    question = await asyncio.to_thread(encode, asked) if size > LARGE_BYTES else encode(asked)
    for part in (memoryview(question), memoryview(request.data)):
        for start in range(0, len(part), _PIECE_BYTES):
            process.stdin.write(part[start : start + _PIECE_BYTES])
            await process.stdin.drain()
    size = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))[0]
    if size > _MOST_ANSWER_BYTES:
        raise EOFError
    body = await process.stdout.readexactly(size)
    return await asyncio.to_thread(_ANSWER.decode, body) if size > LARGE_BYTES else _ANSWER.decode(body)


LARGE_BYTES: Final = 1_000_000
"""Larger questions and answers are made and read in a thread: the event loop has others to serve."""
_PIECE_BYTES: Final = 256 * 1024


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    with suppress(OSError):
        await process.wait()
    if process.stdin is not None:
        process.stdin.close()


def open_parsers(settings: Settings) -> ParserPool:
    """Return the pool of a process; nothing is started before it is needed."""
    return ParserPool(
        settings.document_parsing_max_concurrent, settings.document_parsing_timeout_s,
        settings.document_parsing_memory_bytes,
    )  # fmt: skip
