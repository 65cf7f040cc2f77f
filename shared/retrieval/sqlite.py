"""Vectors on SQLite: float32 blobs in `chunk_index_vectors`, searched exactly in memory-mapped copies of them.

One pair of files for each collection: `<id>-<size>.f32` holds the vectors, `.ids` the ids of their chunks, in the order
of the ids, which is that of the commits.  The files only grow; several processes share them under a lock, and the
operating system keeps one copy in memory for all.  What was deleted, is hidden or filtered is left out by the database
after the scores are known, and the files are written anew when most of them is dead.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from sqlalchemy import text

from shared.database import Database
from shared.retrieval.scope import Hit, Scope, conditions, statement

Vector = NDArray[np.float32]
_PAGE: Final = 2048
_FIRST_LOOK: Final = 64
_MOST_PARAMETERS: Final = 30_000
_FEW: Final = 0.25
"""Of the rows of a collection: so many are gathered, more are all multiplied."""
_NEWER: Final = text("""
    SELECT chunk_id, vector FROM chunk_index_vectors
    WHERE collection_id = :collection_id AND chunk_id > :after AND vector IS NOT NULL ORDER BY chunk_id LIMIT :page
""")
_STATE: Final = text("""
    SELECT COALESCE(MAX(chunk_id), 0) FROM chunk_index_vectors WHERE collection_id = :collection_id
""")
_ALIVE: Final = text("SELECT COUNT(*) FROM chunk_index_vectors WHERE collection_id = :collection_id")


class Mapped(Struct, frozen=True):
    """The vectors of one collection as they are on the disk."""

    ids: NDArray[np.int64]
    vectors: Vector
    inode: int


class VectorFiles:
    """The files of all collections, in a folder of the machine; opened once per process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mapped: dict[int, Mapped] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    async def open(self, database: Database, collection_id: int, dimensions: int) -> Mapped:
        """Return the vectors of a collection, as new as the database."""
        async with self._locks.setdefault(collection_id, asyncio.Lock()):
            async with database.engine.connect() as connection:
                newest = int((await connection.execute(_STATE, {"collection_id": collection_id})).scalar_one())
            mapped = self._mapped.get(collection_id)
            if mapped is not None and _fits(mapped, dimensions, newest) and self._is_current(collection_id, mapped):
                return mapped
            mapped = await self._grow(database, collection_id, dimensions, newest)
            self._mapped[collection_id] = mapped
            return mapped

    def _paths(self, collection_id: int, dimensions: int) -> tuple[Path, Path, Path]:
        stem = self._folder / f"{collection_id}-{dimensions}"
        return stem.with_suffix(".f32"), stem.with_suffix(".ids"), stem.with_suffix(".lock")

    def _is_current(self, collection_id: int, mapped: Mapped) -> bool:
        with suppress(FileNotFoundError):
            return self._paths(collection_id, mapped.vectors.shape[1])[1].stat().st_ino == mapped.inode
        return False

    async def _grow(self, database: Database, collection_id: int, dimensions: int, newest: int) -> Mapped:
        """Append what the files lack; other processes wait meanwhile."""
        self._folder.mkdir(parents=True, exist_ok=True)
        vectors, ids, lock = self._paths(collection_id, dimensions)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
            mapped = _map(vectors, ids, dimensions)
            async with database.engine.connect() as connection:
                alive = int((await connection.execute(_ALIVE, {"collection_id": collection_id})).scalar_one())
                if len(mapped.ids) > 2 * alive + _PAGE:
                    vectors.unlink(missing_ok=True)
                    ids.unlink(missing_ok=True)
                    mapped = _map(vectors, ids, dimensions)
                after = _last(mapped)
                while after < newest:
                    span = {"collection_id": collection_id, "after": after, "page": _PAGE}
                    rows = (await connection.execute(_NEWER, span)).all()
                    if not rows:
                        break
                    await asyncio.to_thread(_append, vectors, ids, rows, dimensions * 4)
                    after = rows[-1][0]
            return _map(vectors, ids, dimensions)
        finally:
            os.close(descriptor)

    async def forget(self, collection_id: int) -> None:
        """Remove the files of a collection that is gone."""
        self._mapped.pop(collection_id, None)
        remove_files(self._folder, collection_id)


def remove_files(folder: Path, collection_id: int) -> None:
    """Remove the files of a collection on this machine; nothing if there are none."""
    for path in folder.glob(f"{collection_id}-*"):
        path.unlink(missing_ok=True)


def _fits(mapped: Mapped, dimensions: int, newest: int) -> bool:
    return mapped.vectors.shape[1] == dimensions and _last(mapped) >= newest


def _last(mapped: Mapped) -> int:
    return int(mapped.ids[-1]) if len(mapped.ids) else 0


def _map(vectors: Path, ids: Path, dimensions: int) -> Mapped:
    """Map the files; the end of a write that was cut off is left out, and written over."""
    ids.touch()
    vectors.touch()
    count = min(ids.stat().st_size // 8, vectors.stat().st_size // (4 * dimensions))
    for path, size in ((ids, count * 8), (vectors, count * 4 * dimensions)):
        if path.stat().st_size != size:
            os.truncate(path, size)
    inode = ids.stat().st_ino
    if not count:
        return Mapped(np.empty(0, np.int64), np.empty((0, dimensions), np.float32), inode)
    return Mapped(
        np.memmap(ids, np.int64, "r", shape=(count,)),
        np.memmap(vectors, np.float32, "r", shape=(count, dimensions)),
        inode,
    )


def _append(vectors: Path, ids: Path, rows: Sequence[Any], size_bytes: int) -> None:
    fitting = [row for row in rows if len(row[1]) == size_bytes]
    with vectors.open("ab") as out:
        out.write(b"".join(row[1] for row in fitting))
    with ids.open("ab") as out:
        out.write(np.array([row[0] for row in fitting], np.int64).tobytes())


async def search_vectors(
    database: Database, files: VectorFiles, scope: Scope, query: Vector, most: int, at_least: float
) -> list[Hit]:
    """Return the chunks whose vectors are nearest to the query, exactly; both have length 1."""
    where, parameters = conditions(scope, "sqlite")
    allowed: NDArray[np.int64] | None = None
    if scope.is_narrow:
        sql = f"SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document_id WHERE {where} ORDER BY c.id"  # noqa: S608
        async with database.engine.connect() as connection:
            found = (await connection.execute(statement(sql, parameters), parameters)).scalars().all()
        allowed = np.array(found, np.int64)
    mapped = [await files.open(database, one, len(query)) for one in scope.collection_ids]
    ids, scores = await asyncio.to_thread(_score, mapped, query, allowed)
    hits: list[Hit] = []
    for candidates in _windows(ids, scores, most, at_least):
        hits += await _visible(database, where, parameters, candidates)
        if len(hits) >= most:
            break
    return sorted(hits, key=lambda hit: hit.order)[:most]


def _score(
    mapped: Sequence[Mapped], query: Vector, allowed: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], Vector]:
    """Return the ids of the chunks and their products with the query."""
    ids, scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for one in mapped:
        if allowed is None:
            ids.append(np.asarray(one.ids))
            scores.append(one.vectors @ query)
            continue
        rows = np.nonzero(np.isin(one.ids, allowed, assume_unique=True))[0]
        ids.append(np.asarray(one.ids[rows]))
        few = len(rows) < _FEW * len(one.ids)
        scores.append(one.vectors[rows] @ query if few else (one.vectors @ query)[rows])
    return np.concatenate(ids), np.concatenate(scores)


def _windows(ids: NDArray[np.int64], scores: Vector, most: int, at_least: float) -> Iterator[dict[int, float]]:
    """Yield candidates, the best first, window by window; equal scores are never in different windows."""
    rows = np.nonzero(scores >= at_least)[0]
    size = max(_FIRST_LOOK, 2 * most)
    while len(rows):
        lowest = -np.partition(-scores[rows], size - 1)[size - 1] if len(rows) > size else -np.inf
        is_chosen = scores[rows] >= lowest
        yield {int(ids[row]): float(scores[row]) for row in rows[is_chosen]}
        rows = rows[~is_chosen]
        size *= 4


async def _visible(
    database: Database, where: str, parameters: dict[str, Any], candidates: dict[int, float]
) -> list[Hit]:
    """Return those of the candidates that are still there and in the scope."""
    sql = f"""
        SELECT c.id, c.document_id, c.number FROM chunks c JOIN documents d ON d.id = c.document_id
        WHERE c.id IN :chunk_ids AND {where}
    """  # noqa: S608  # conditions from the code
    ids, hits = list(candidates), list[Hit]()
    async with database.engine.connect() as connection:
        for page in _pages(ids):
            values = parameters | {"chunk_ids": page}
            for row in (await connection.execute(statement(sql, values), values)).all():
                hits.append(Hit(row[0], row[1], row[2], candidates[row[0]]))
    return hits


def _pages(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), _MOST_PARAMETERS):
        yield ids[start : start + _MOST_PARAMETERS]
