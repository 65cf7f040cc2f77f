"""Searches in many chunks, `search`; files into chunks with a model that answers at once, `ingestion`.

The vectors are made up: around 1,000 centres, as embeddings of texts on so many topics would be, with 64 dimensions of
their own and a little noise in all 1,024.  Without the former, a thousand neighbours would be nearly equally far, which
no index tells apart and no embedding of texts shows.
"""

import asyncio
import os
import random
import resource
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import machine
import numpy as np
from installation import POSTGRESQL, SQLITE
from machine import ALL_CORES, LOAD_CORES, SERVER_CORES
from measure import Row, Setup
from sqlalchemy import text

from shared.collections.tables import CollectionRow
from shared.database import Database
from shared.documents.tables import DocumentRow
from shared.migrations import migrate
from shared.retrieval import postgres
from shared.retrieval.index import Index, NewEntry, insert_entries, prepare_vectors, unit_vector
from shared.retrieval.scope import Hit, Scope
from shared.retrieval.terms import bag_of

DIMENSIONS = 1024
_CENTRES = 1000
_OWN_DIMENSIONS = 64
_NOISE = 0.15
_PAGE = 500
_QUERIES = 60
_MOST_WITH_WORDS = 200_000
"""Chunks; more have vectors alone, which PostgreSQL takes as a copy."""
_COPIED = 5000
_FEW_QUERIES = 10
"""Exact ones among so many vectors take seconds."""
_LETTERS = random.Random(9)  # noqa: S311  # repeatable
_WORDS = ["".join(_LETTERS.choices("abcdefghijklmnoprstuvwz", k=_LETTERS.randint(6, 10))) for _ in range(4000)]
"""Hardly any two are nearly equal."""


def run_search(database: str, setup: Setup, chunks: int) -> list[Row]:
    """Measure searches on one core, that of the servers; a database in a server shares it."""
    os.sched_setaffinity(0, SERVER_CORES)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            url = f"sqlite:///{name}/bench.db"
            if database == POSTGRESQL:
                assert setup.postgres is not None
                url = setup.postgres.new_database()
            pid = setup.postgres.pid if setup.postgres is not None else None
            return asyncio.run(_measure(Database(url), Path(name), database, chunks, pid))
    finally:
        os.sched_setaffinity(0, LOAD_CORES)


class _Library:
    """A collection of so many chunks, and queries near some of them."""

    def __init__(self, chunks: int) -> None:
        self.rng = np.random.default_rng(7)
        self.centres = self.rng.standard_normal((_CENTRES, _OWN_DIMENSIONS), dtype=np.float32)
        self.directions = self.rng.standard_normal((_OWN_DIMENSIONS, DIMENSIONS), dtype=np.float32) / 8
        self.chunks = chunks

    def vectors(self, count: int) -> Any:
        chosen = self.centres[self.rng.integers(0, _CENTRES, count)]
        own = chosen + 0.8 * self.rng.standard_normal((count, _OWN_DIMENSIONS), dtype=np.float32)
        found = own @ self.directions + _NOISE * self.rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    async def fill(self, database: Database) -> None:
        async with database.transaction() as session:
            session.add(
                CollectionRow(
                    surface="collections", user_id=1, name="c", dimensions=DIMENSIONS, created_ms=1, updated_ms=1
                )
            )
            await session.flush()
            session.add(DocumentRow(collection_id=1, kind="document", name="d", status="completed", created_ms=1))
        if self.chunks <= _MOST_WITH_WORDS:
            terms = await self._insert(database)
        else:
            terms = await self._copy(database)
        async with database.transaction() as session:
            await (await session.connection()).execute(
                text("UPDATE documents SET chunks = :chunks, terms = :terms"), {"chunks": self.chunks, "terms": terms}
            )

    async def _insert(self, database: Database) -> int:
        """Store chunks as ingestions do; returns how many words they have."""
        words, terms = random.Random(7), 0  # noqa: S311  # repeatable
        for start in range(0, self.chunks, _PAGE):
            vectors = self.vectors(min(_PAGE, self.chunks - start))
            entries = []
            for number, vector in enumerate(vectors, start=start):
                content = " ".join(words.choices(_WORDS, k=40))
                entries.append(NewEntry(number=number, content=content, bag=bag_of(content, "english"), vector=vector))
            async with database.transaction() as session:
                await insert_entries(session, 1, 1, entries, 1)
            terms += sum(entry.bag.length for entry in entries)
        return terms

    async def _copy(self, database: Database) -> int:
        """Store vectors alone, on PostgreSQL, some twenty times as fast; returns 0."""
        async with database.engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            codec: dict[str, Any] = {"decoder": bytes, "format": "binary"}
            await driver.set_type_codec("vector", encoder=_to_binary, **codec)
            await driver.set_type_codec("tsvector", schema="pg_catalog", encoder=lambda _: bytes(4), **codec)  # empty
            for start in range(0, self.chunks, _COPIED):
                numbers = range(start, min(start + _COPIED, self.chunks))
                rows = [(number + 1, 1, 1, number, 0, 1, "") for number in numbers]
                columns = ("id", "collection_id", "document_id", "number", "terms", "created_ms", "content")
                await driver.copy_records_to_table("chunks", records=rows, columns=columns)
                vectors = zip(numbers, self.vectors(len(numbers)), strict=True)
                entries = [(number + 1, 1, DIMENSIONS, "", vector) for number, vector in vectors]
                columns = ("chunk_id", "collection_id", "dimensions", "lexemes", "vector")
                await driver.copy_records_to_table("chunk_index", records=entries, columns=columns)
        return 0


def _to_binary(vector: Any) -> bytes:
    return struct.pack(">HH", len(vector), 0) + bytes(vector.astype(">f4").tobytes())


async def _measure(database: Database, folder: Path, name: str, chunks: int, server_pid: int | None) -> list[Row]:
    await migrate(database.engine)
    library, begun = _Library(chunks), time.perf_counter()
    await library.fill(database)
    filled_s = time.perf_counter() - begun
    machine.say(f"search {name}: {chunks} chunks stored in {filled_s:.0f} s")
    index, scope = Index(database, folder / "vectors", "english"), Scope(collection_ids=[1])
    queries = [unit_vector(one) for one in library.vectors(_QUERIES)]
    words = random.Random(8)  # noqa: S311  # repeatable
    texts = [" ".join(words.choices(_WORDS, k=3)) for _ in range(_QUERIES)]

    def row(what: str, times: Sequence[float], **members: float | None) -> Row:
        empty: Row = {"recall_at_10": None, "rss_mb": None, "built_s": None}
        return {
            "name": f"search: {what}", "database": name, "gateway": "sluice", "chunks": chunks,
            "p50_ms": round(median(times), 2), "p95_ms": round(quantiles(times, n=20)[18], 2),
            **(empty | members),
        }  # fmt: skip

    few = _QUERIES if chunks <= _MOST_WITH_WORDS else _FEW_QUERIES
    exact, times = await _timed(lambda n: _exact(database, index, scope, queries[n], name), few)
    rows = [row("exact, 10 nearest", times, rss_mb=_rss_mb(), built_s=round(filled_s, 1))]
    if server_pid is not None and name == POSTGRESQL:
        built_s = await _build(database, server_pid)
        machine.say(f"search {name}: index built in {built_s:.0f} s")
        near, times = await _timed(lambda n: _indexed(database, scope, queries[n]))
        warm_ms = await _warm(database, scope, queries, server_pid)
        hits = sum(
            len({a.chunk_id for a in one} & {b.chunk_id for b in other})
            for one, other in zip(exact, near[:few], strict=True)
        )
        recall = round(hits / sum(map(len, exact)), 4)
        rows.append(row("index, 10 nearest", times, recall_at_10=recall, built_s=round(built_s, 1)))
        rows.append(row("the same again, all cores", warm_ms, recall_at_10=recall))
    if chunks <= _MOST_WITH_WORDS:
        _, times = await _timed(lambda n: index.by_words(scope, texts[n], 10))
        rows.append(row("words, 3 of 4,000", times))
    await database.close()
    return rows


async def _build(database: Database, server_pid: int) -> float:
    """Build the index on all cores, as a server of its own would; returns the seconds."""
    os.sched_setaffinity(server_pid, ALL_CORES)
    await database.engine.dispose()  # backends have the cores of the moment they began
    begun = time.perf_counter()
    async with database.transaction() as session:
        connection = await session.connection()
        await connection.execute(text("SET LOCAL maintenance_work_mem = '6GB'"))
        await prepare_vectors(session, DIMENSIONS)
        await connection.execute(text("ANALYZE chunk_index"))  # as autovacuum does within a minute
    built_s = time.perf_counter() - begun
    os.sched_setaffinity(server_pid, SERVER_CORES)
    await database.engine.dispose()
    return built_s


async def _warm(database: Database, scope: Scope, queries: Sequence[Any], server_pid: int) -> list[float]:
    """Return the milliseconds of queries that were asked before; client and server have all cores."""
    cores = os.sched_getaffinity(0)
    machine.pin_tree([os.getpid(), server_pid], ALL_CORES)
    _, times = await _timed(lambda n: _indexed(database, scope, queries[n]))
    machine.pin_tree([os.getpid(), server_pid], cores)
    return times


async def _timed(
    search: Callable[[int], Awaitable[list[Hit]]], count: int = _QUERIES
) -> tuple[list[list[Hit]], list[float]]:
    """Return what was found and the milliseconds; the first search, which maps files or fills caches, is left out."""
    await search(0)
    found, times = [], []
    for number in range(count):
        begun = time.perf_counter()
        found.append(await search(number))
        times.append((time.perf_counter() - begun) * 1000)
    return found, times


async def _exact(database: Database, index: Index, scope: Scope, query: Any, name: str) -> list[Hit]:
    if name == SQLITE:
        return await index.by_vector(scope, query, 10)
    async with database.read() as session:
        return await postgres.search_vectors(session, scope, query, 10, -2.0, exact_most=2**31)


async def _indexed(database: Database, scope: Scope, query: Any) -> list[Hit]:
    async with database.read() as session:
        return await postgres.search_vectors(session, scope, query, 10, -2.0, exact_most=0)


def _rss_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
