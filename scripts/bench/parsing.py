"""Large and hostile files through the parser processes of an api, `parsing`: how long its event loop stands still."""

import asyncio
import os
import time
import zipfile
from io import BytesIO
from statistics import quantiles

import machine
from machine import ALL_CORES, LOAD_CORES
from measure import Row

from shared.parsing.pool import ParserPool, ParsingError
from shared.parsing.protocol import ParseRequest
from shared.parsing.types import FileType
from shared.splitting.splitter import Splitting

_TICK_S = 0.001
_TIMEOUT_S = 30
_MEMORY_BYTES = 1 << 30
_LARGE_BYTES = 20 * 1024 * 1024


def run_parsing() -> list[Row]:
    """Measure the longest gap of a ticker in the process that has ten files read.

    Once as an api does, which has PDFs read into pages; once as a worker does, which has all files cut into chunks.
    """
    os.sched_setaffinity(0, ALL_CORES)
    try:
        return [asyncio.run(_measure(None)), asyncio.run(_measure(Splitting()))]
    finally:
        os.sched_setaffinity(0, LOAD_CORES)


async def _measure(splitting: Splitting | None) -> Row:
    files = _pdfs() * 2 if splitting is None else _pdfs() + _others()
    pool = ParserPool(len(files), _TIMEOUT_S, _MEMORY_BYTES)
    started = [pool.parse(ParseRequest(type="text", data=b"Hello", splitting=Splitting())) for _ in files]
    await asyncio.gather(*started)  # processes are there before the clock runs, as in a process that serves
    gaps: list[float] = []
    ticker = asyncio.get_running_loop().create_task(_tick(gaps))
    begun = time.perf_counter()
    read = await asyncio.gather(*(_read(pool, kind, data, splitting) for kind, data in files))
    took_s = time.perf_counter() - begun
    ticker.cancel()
    await pool.close()
    machine.say(f"parsing: {sum(read)} of {len(files)} files read in {took_s:.1f} s")
    what = "into pages" if splitting is None else "into chunks"
    return {
        "name": f"parsing: {len(files)} files, {what}", "database": None, "gateway": "sluice",
        "loop_gap_p99_ms": round(quantiles(gaps, n=100)[98], 2), "loop_gap_max_ms": round(max(gaps), 2),
    }  # fmt: skip


async def _tick(gaps: list[float]) -> None:
    """Note how long this process kept each tick waiting, in milliseconds.

    That is by how much the tick is late, but at most the CPU time of all threads since the last one: what other
    programs took is no matter of ours.
    """
    while True:
        begun, used = time.perf_counter(), time.process_time()
        await asyncio.sleep(_TICK_S)
        gaps.append(min(time.perf_counter() - begun - _TICK_S, time.process_time() - used) * 1000)


async def _read(pool: ParserPool, kind: FileType, data: bytes, splitting: Splitting | None) -> bool:
    try:
        await pool.parse(ParseRequest(type=kind, data=data, splitting=splitting))
    except ParsingError:
        return False
    return True


def _pdfs() -> list[tuple[FileType, bytes]]:
    noise = os.urandom(_LARGE_BYTES - 100)
    return [
        ("pdf", _pdf(5_000)),
        ("pdf", _pdf(10_000)),
        ("pdf", _pdf(2_000)[:-50_000]),
        ("pdf", b"%PDF-1.7\n" + noise),
        ("pdf", _pdf(100) + noise),
    ]


def _others() -> list[tuple[FileType, bytes]]:
    text = b"The train leaves every hour from the old station, and the harbour is near.\n\n"
    large = text * (_LARGE_BYTES // len(text))
    return [
        ("text", large),
        ("json", b"[" + b",".join([b'{"train":"north"}'] * 500_000) + b"]"),
        ("html", b"<p>" + large[:5_000_000].replace(b"\n\n", b"</p><p>") + b"</p>"),
        ("html", b"<div>" * 1_000_000),
        ("docx", _bomb()),
    ]


def _bomb() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", bytes(300_000_000))
    return out.getvalue()


def _pdf(pages: int) -> bytes:
    """Return a PDF of so many pages that all show the same text."""
    stream = b"BT /F1 9 Tf 20 100 Td (The train leaves every hour.) Tj ET"
    kids = b" ".join(b"%d 0 R" % (number + 5) for number in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>" % (pages, kids),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *[
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 3 0 R"
            b" /Resources << /Font << /F1 4 0 R >> >> >>"
        ]
        * pages,
    ]
    out = b"%PDF-1.7\n" + b"".join(b"%d 0 obj\n%s\nendobj\n" % (n, one) for n, one in enumerate(objects, 1))
    return out + b"trailer\n<< /Root 1 0 R /Size %d >>\n%%%%EOF\n" % (len(objects) + 1)
