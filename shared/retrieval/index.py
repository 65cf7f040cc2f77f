"""One set of functions over both databases: put chunks into the index, search by vector, by words, by both."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct
from sqlalchemy import insert, text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.chunks.tables import ChunkRow
from shared.collections.errors import FeatureNotEnabledError
from shared.database import Database
from shared.retrieval import postgres, sqlite
from shared.retrieval.scope import Hit, Scope
from shared.retrieval.sqlite import Vector, VectorFiles
from shared.retrieval.terms import Bag, Language, expand, query_terms
from shared.retrieval.words import read_vocabulary, search_words

_TERMS: Final = text("INSERT INTO chunk_index_terms (rowid, terms) VALUES (:id, :terms)")
_VECTOR: Final = text(
    "INSERT INTO chunk_index_vectors (chunk_id, collection_id, vector) VALUES (:id, :collection_id, :vector)"
)
_ENTRY: Final = text("""
    INSERT INTO chunk_index (chunk_id, collection_id, dimensions, lexemes, vector)
    VALUES (:id, :collection_id, :dimensions, CAST(CAST(:terms AS text) AS tsvector),
        CAST(CAST(:vector AS real[]) AS vector))
""")
_EXISTS: Final = text("SELECT to_regclass('chunk_index') IS NOT NULL")
_OFF: Final = "Feature not enabled, please contact an administrator: PostgreSQL needs the extension pgvector."
_WORDS: Final = text("INSERT INTO vocabulary (term) VALUES (:term) ON CONFLICT (term) DO NOTHING")


class NewEntry(Struct, kw_only=True):
    """A chunk on its way into the database; the document is that of the call."""

    number: int
    content: str
    bag: Bag
    vector: Vector | None
    """Of length 1, or all zeros."""
    page: int | None = None
    item_id: str | None = None
    metadata: str | None = None
    metadata_texts: str | None = None


def unit_vector(values: Any) -> Vector:
    """Return a vector of length 1 in the same direction; zeros stay zeros."""
    vector = np.asarray(values, np.float32)
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return vector if length == 0 else (vector / length).astype(np.float32)


async def insert_entries(
    session: AsyncSession, collection_id: int, document_id: int, entries: Sequence[NewEntry], now_ms: int
) -> None:
    """Store chunks with all that finds them; the caller changes the counts of the document."""
    connection = await session.connection()
    rows = [
        {
            "collection_id": collection_id, "document_id": document_id, "number": one.number, "item_id": one.item_id,
            "page": one.page, "terms": one.bag.length, "created_ms": now_ms,
            "metadata": one.metadata, "metadata_texts": one.metadata_texts, "content": one.content,
        }
        for one in entries
    ]  # fmt: skip
    await connection.execute(insert(ChunkRow.__table__), rows)  # type: ignore[attr-defined]  # of every table class
    first, last = entries[0].number, entries[-1].number
    statement = select(ChunkRow.number, ChunkRow.id).where(
        ChunkRow.document_id == document_id, col(ChunkRow.number).between(first, last)
    )
    ids = dict((await session.exec(statement)).all())
    words = sorted({term for one in entries for term in one.bag.counts})
    if words:
        await connection.execute(_WORDS, [{"term": term} for term in words])
    if connection.dialect.name == "postgresql":
        await connection.execute(_ENTRY, [_postgres_entry(ids[one.number], collection_id, one) for one in entries])
        return
    await connection.execute(_TERMS, [{"id": ids[one.number], "terms": _repeated(one.bag)} for one in entries])
    await connection.execute(
        _VECTOR,
        [
            {
                "id": ids[one.number],
                "collection_id": collection_id,
                "vector": None if one.vector is None else one.vector.tobytes(),
            }
            for one in entries
        ],
    )


def _repeated(bag: Bag) -> str:
    return " ".join(" ".join([term] * times) for term, times in bag.counts.items())


def _postgres_entry(chunk_id: int | None, collection_id: int, entry: NewEntry) -> dict[str, Any]:
    positions = (f"'{term}':{','.join(map(str, range(1, n + 1)))}" for term, n in entry.bag.counts.items())
    return {
        "id": chunk_id,
        "collection_id": collection_id,
        "dimensions": None if entry.vector is None else len(entry.vector),
        "terms": " ".join(positions),
        "vector": None if entry.vector is None else postgres.to_array(entry.vector),
    }


async def prepare_vectors(session: AsyncSession, dimensions: int) -> None:
    """Get ready for vectors of this size; in the transaction that stores the first ones of a collection."""
    if session.get_bind().dialect.name == "postgresql":
        await postgres.ensure_vector_index(session, dimensions)


class Index:
    """What searches keep in memory between them; opened once per process."""

    def __init__(self, database: Database, folder: Path, language: Language) -> None:
        self._database = database
        self._files = VectorFiles(folder)
        self._language = language
        self._vocabulary: list[str] = []
        self._last_term = 0
        self._is_there = not self._is_postgres

    async def check(self) -> None:
        """Raise `FeatureNotEnabledError` if the database cannot keep vectors: PostgreSQL without pgvector."""
        if not self._is_there:
            async with self._database.read() as session:
                self._is_there = bool((await (await session.connection()).execute(_EXISTS)).scalar_one())
            if not self._is_there:
                raise FeatureNotEnabledError(_OFF)

    async def by_vector(self, scope: Scope, query: Vector, most: int, at_least: float = -2.0) -> list[Hit]:
        """Return the nearest chunks by cosine, at most `most`; `at_least` is the lowest cosine wanted.

        The collections of the scope have vectors of the size of the query.
        """
        if not scope.collection_ids:
            return []
        if self._is_postgres:
            async with self._database.read() as session:
                return await postgres.search_vectors(session, scope, query, most, at_least)
        return await sqlite.search_vectors(self._database, self._files, scope, query, most, at_least)

    async def by_words(self, scope: Scope, query: str, most: int) -> list[Hit]:
        """Return the best chunks by BM25, at most `most`; words that are nearly equal count, too."""
        terms = query_terms(query, self._language)
        if not scope.collection_ids or not terms:
            return []
        async with self._database.read() as session:
            newer = await read_vocabulary(session, self._last_term)
        if newer:
            self._vocabulary += [term for _, term in newer]
            self._last_term = newer[-1][0]
        wanted = await asyncio.to_thread(expand, terms, self._vocabulary)
        async with self._database.read() as session:
            return await search_words(session, scope, wanted, most)

    async def forget(self, collection_id: int) -> None:
        """Remove what is kept of a collection that is gone."""
        if not self._is_postgres:
            await self._files.forget(collection_id)

    @property
    def _is_postgres(self) -> bool:
        return self._database.engine.dialect.name == "postgresql"


def fuse(lists: Sequence[Sequence[Hit]], k: int, most: int) -> list[Hit]:
    """Return chunks by the sum of 1 / (k + rank) over the lists, ranks from 1; equal ones by document and chunk."""
    scores: dict[tuple[int, int], float] = {}
    hits: dict[tuple[int, int], Hit] = {}
    for found in lists:
        for rank, hit in enumerate(found, start=1):
            key = (hit.document_id, hit.number)
            scores[key] = scores.get(key, 0.0) + 1 / (k + rank)
            hits[key] = hit
    fused = [Hit(hit.chunk_id, hit.document_id, hit.number, scores[key]) for key, hit in hits.items()]
    return sorted(fused, key=lambda hit: hit.order)[:most]
