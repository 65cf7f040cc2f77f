"""Searches in many chunks, `search`; files into chunks with a model that answers at once, `ingestion`.

The vectors are made up: normal ones around 1,000 centres, as embeddings of texts on so many topics would be.
"""

import asyncio
import os
import random
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import machine
import numpy as np
from installation import POSTGRESQL, SQLITE
from machine import LOAD_CORES, SERVER_CORES
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
_PAGE = 500
_QUERIES = 60
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
            return asyncio.run(_measure(Database(url), Path(name), database, chunks))
    finally:
        os.sched_setaffinity(0, LOAD_CORES)


class _Library:
    """A collection of so many chunks, and queries near some of them."""

    def __init__(self, chunks: int) -> None:
        self.rng = np.random.default_rng(7)
        self.centres = self.rng.standard_normal((_CENTRES, DIMENSIONS), dtype=np.float32)
        self.chunks = chunks

    def vectors(self, count: int) -> Any:
        chosen = self.centres[self.rng.integers(0, _CENTRES, count)]
        found = chosen + 0.8 * self.rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    async def fill(self, database: Database) -> None:
        words = random.Random(7)  # noqa: S311  # repeatable
        async with database.transaction() as session:
            session.add(
                CollectionRow(
                    surface="collections", user_id=1, name="c", dimensions=DIMENSIONS, created_ms=1, updated_ms=1
                )
            )
            await session.flush()
            session.add(DocumentRow(collection_id=1, kind="document", name="d", status="completed", created_ms=1))
        terms = 0
        for start in range(0, self.chunks, _PAGE):
            vectors = self.vectors(min(_PAGE, self.chunks - start))
            entries = []
            for number, vector in enumerate(vectors, start=start):
                content = " ".join(words.choices(_WORDS, k=40))
                entries.append(NewEntry(number=number, content=content, bag=bag_of(content, "english"), vector=vector))
            async with database.transaction() as session:
                await insert_entries(session, 1, 1, entries, 1)
            terms += sum(entry.bag.length for entry in entries)
        async with database.transaction() as session:
            await (await session.connection()).execute(
                text("UPDATE documents SET chunks = :chunks, terms = :terms"), {"chunks": self.chunks, "terms": terms}
            )


async def _measure(database: Database, folder: Path, name: str, chunks: int) -> list[Row]:
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

    exact, times = await _timed(lambda n: _exact(database, index, scope, queries[n], name))
    rows = [row("exact, 10 nearest", times, rss_mb=_rss_mb(), built_s=round(filled_s, 1))]
    if name == POSTGRESQL:
        begun = time.perf_counter()
        async with database.transaction() as session:
            await (await session.connection()).execute(text("SET LOCAL maintenance_work_mem = '4GB'"))
            await prepare_vectors(session, DIMENSIONS)
        built_s = time.perf_counter() - begun
        machine.say(f"search {name}: index built in {built_s:.0f} s")
        near, times = await _timed(lambda n: _indexed(database, scope, queries[n]))
        hits = sum(
            len({a.chunk_id for a in one} & {b.chunk_id for b in other}) for one, other in zip(exact, near, strict=True)
        )
        recall = round(hits / sum(map(len, exact)), 4)
        rows.append(row("index, 10 nearest", times, recall_at_10=recall, built_s=round(built_s, 1)))
    _, times = await _timed(lambda n: index.by_words(scope, texts[n], 10))
    rows.append(row("words, 3 of 4,000", times))
    await database.close()
    return rows


async def _timed(search: Callable[[int], Awaitable[list[Hit]]]) -> tuple[list[list[Hit]], list[float]]:
    """Return what was found and the milliseconds; the first search, which maps files or fills caches, is left out."""
    await search(0)
    found, times = [], []
    for number in range(_QUERIES):
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
