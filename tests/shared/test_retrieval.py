"""The index of chunks, on both databases: the same chunks in the same order, by vectors and by words."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from msgspec import json
from sqlalchemy import text

from shared.chunks.schemas import ComparisonFilter, ComparisonType, to_text
from shared.collections.tables import CollectionRow
from shared.database import Database
from shared.documents.tables import DocumentRow
from shared.migrations import migrate
from shared.retrieval.index import Index, NewEntry, fuse, insert_entries, prepare_vectors, unit_vector
from shared.retrieval.postgres import search_vectors
from shared.retrieval.scope import Hit, Scope
from shared.retrieval.terms import bag_of


class Library:
    """A database with collections, and an index over it."""

    def __init__(self, database: Database, index: Index, folder: Path) -> None:
        self.database = database
        self.index = index
        self.folder = folder

    async def collection(self) -> int:
        async with self.database.transaction() as session:
            row = CollectionRow(surface="collections", user_id=1, name="c", created_ms=1, updated_ms=1)
            session.add(row)
            await session.flush()
            return row.id or 0

    async def add(
        self, collection_id: int, texts: Sequence[str], vectors: Any = None, metadata: Sequence[Any] = (),
        status: str = "completed",
    ) -> int:  # fmt: skip
        """Store a document with one chunk per text; returns its id."""
        entries = [
            NewEntry(
                number=number,
                content=one,
                bag=bag_of(one, "english"),
                vector=None if vectors is None else unit_vector(vectors[number]),
                metadata_texts=_texts(metadata[number]) if metadata else None,
            )
            for number, one in enumerate(texts)
        ]
        async with self.database.transaction() as session:
            row = DocumentRow(
                collection_id=collection_id, kind="document", name="d", status=status, created_ms=1,
                chunks=len(texts), terms=sum(entry.bag.length for entry in entries),
            )  # fmt: skip
            session.add(row)
            await session.flush()
            if vectors is not None:
                await prepare_vectors(session, len(vectors[0]))
            await insert_entries(session, collection_id, row.id or 0, entries, 1)
            return row.id or 0

    async def execute(self, sql: str) -> Any:
        async with self.database.transaction() as session:
            return await (await session.connection()).execute(text(sql))


def _texts(metadata: dict[str, Any] | None) -> str | None:
    return None if metadata is None else json.encode({k: to_text(v) for k, v in metadata.items()}).decode()


@pytest_asyncio.fixture
async def library(database_url: str, tmp_path: Path) -> AsyncIterator[Library]:
    database = Database(database_url)
    await migrate(database.engine)
    yield Library(database, Index(database, tmp_path / "vectors", "english"), tmp_path)
    await database.close()


def places(hits: Sequence[Hit]) -> list[tuple[int, int]]:
    return [(hit.document_id, hit.number) for hit in hits]


async def test_the_nearest_vectors_are_found_in_the_exact_order(library: Library) -> None:
    vectors = np.random.default_rng(5).standard_normal((700, 24)).astype(np.float32)
    collection = await library.collection()
    documents = [
        await library.add(collection, ["x"] * 100, vectors[start : start + 100]) for start in range(0, 700, 100)
    ]
    query = unit_vector(vectors[123] + 0.3 * vectors[9])

    hits = await library.index.by_vector(Scope(collection_ids=[collection]), query, 300)

    products = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32) @ query
    expected = [(documents[row // 100], int(row) % 100) for row in np.argsort(-products, kind="stable")[:300]]
    assert places(hits) == expected
    assert [hit.score for hit in hits] == pytest.approx(sorted(products, reverse=True)[:300], abs=1e-5)


async def test_equal_vectors_stand_by_document_and_chunk(library: Library) -> None:
    collection = await library.collection()
    first = await library.add(collection, ["a", "b", "c"], [[1, 0], [0, 1], [1, 0]])
    second = await library.add(collection, ["a"], [[2, 0]])

    hits = await library.index.by_vector(Scope(collection_ids=[collection]), unit_vector([1, 0]), 2)
    all_hits = await library.index.by_vector(Scope(collection_ids=[collection]), unit_vector([1, 0]), 10, 0.5)

    assert places(hits) == [(first, 0), (first, 2)]
    assert places(all_hits) == [(first, 0), (first, 2), (second, 0)]


async def test_what_is_hidden_deleted_or_elsewhere_is_not_found(library: Library) -> None:
    mine, other = await library.collection(), await library.collection()
    kept = await library.add(mine, ["apple tree", "apple"], [[1, 0], [1, 1]])
    await library.add(mine, ["apple"], [[1, 0]], status="processing")
    gone = await library.add(mine, ["apple"], [[1, 0]])
    await library.add(other, ["apple"], [[1, 0]])
    scope, query = Scope(collection_ids=[mine]), unit_vector([1, 0])
    assert places(await library.index.by_vector(scope, query, 5)) == [(kept, 0), (gone, 0), (kept, 1)]

    await library.execute(f"DELETE FROM documents WHERE id = {gone}")
    await library.execute(f"DELETE FROM chunks WHERE document_id = {kept} AND number = 0")
    added = await library.add(mine, ["apple"], [[1, 0.1]])

    assert places(await library.index.by_vector(scope, query, 5)) == [(added, 0), (kept, 1)]
    assert set(places(await library.index.by_words(scope, "apples", 5))) == {(added, 0), (kept, 1)}


async def test_files_of_vectors_shrink_when_most_of_them_is_dead(library: Library) -> None:
    collection = await library.collection()
    scope, query = Scope(collection_ids=[collection]), unit_vector([1, 0])
    gone = await library.add(collection, ["x"] * 3000, [[1, 0]] * 3000)
    await library.index.by_vector(scope, query, 1)

    await library.execute(f"DELETE FROM documents WHERE id = {gone}")
    kept = await library.add(collection, ["x", "y"], [[1, 0], [0, 1]])

    assert places(await library.index.by_vector(scope, query, 5)) == [(kept, 0), (kept, 1)]
    assert sum(path.stat().st_size for path in library.folder.glob("vectors/*.f32")) < 100


async def test_words_are_ranked_by_bm25(library: Library) -> None:
    collection, hidden = await library.collection(), await library.collection()
    await library.add(hidden, ["whale " * 5] * 20)
    document = await library.add(
        collection,
        [
            "The whale swims.",
            "A ship sails on the sea, far from every harbour, with nothing but water around it and one whale below.",
            "Whales and whales and whales.",
            "The harbour sleeps.",
        ],
    )

    hits = await library.index.by_words(Scope(collection_ids=[collection]), "Where are the whales?", 10)

    assert places(hits) == [(document, 2), (document, 0), (document, 1)]
    average = (2 + 11 + 3 + 2) / 4
    rarity = np.log(1 + (4 - 3 + 0.5) / (3 + 0.5))
    expected = rarity * 1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / average))
    assert hits[1].score == pytest.approx(expected)


async def test_words_that_are_nearly_equal_match(library: Library) -> None:
    collection = await library.collection()
    document = await library.add(collection, ["the captain", "a cat", "an ox", "nothing"])
    scope = Scope(collection_ids=[collection])

    found = {query: places(await library.index.by_words(scope, query, 5)) for query in ("captian", "bat", "ax", "ox")}

    assert found == {"captian": [(document, 0)], "bat": [(document, 1)], "ax": [], "ox": [(document, 2)]}


async def test_a_query_of_stop_words_or_signs_finds_nothing(library: Library) -> None:
    collection = await library.collection()
    await library.add(collection, ["the and of", "x"])

    for query in (
        "the of",
        "'\"; DROP TABLE chunks",
        "* OR NEAR(",
        "\x00",
        "\ud800".encode("utf-8", "replace").decode(),
    ):
        assert await library.index.by_words(Scope(collection_ids=[collection]), query, 5) == []


METADATA = [{"a": 'x*y:"c"', "n": 1.0}, {"a": "X*Y", "n": 1}, {"b": True, "n": 2.5}, None, {"a": "100%_", "n": 12}]


@pytest.mark.parametrize(
    ("key", "kind", "value", "expected"),
    [
        ("a", "eq", 'x*y:"c"', [0]), ("a", "sw", "x*", [0]), ("a", "ew", '"c"', [0]), ("a", "co", "*", [0, 1]),
        ("a", "co", "%", [4]), ("a", "sw", "x", [0]), ("n", "eq", 1, [0, 1]), ("n", "eq", 1.0, [0, 1]),
        ("n", "eq", "1", [0, 1]), ("b", "eq", True, [2]), ("b", "eq", "true", [2]), ("n", "ew", ".5", [2]),
        ("n", "sw", 1, [0, 1, 4]), ("z", "co", "x", []), ("a", "eq", "_", []), ("a", "ew", "a longer text", []),
    ],
)  # fmt: skip
async def test_filters_compare_texts_literally(
    library: Library, key: str, kind: ComparisonType, value: Any, expected: list[int]
) -> None:
    collection = await library.collection()
    await library.add(collection, ["apple"] * 5, [[1, 0]] * 5, METADATA)
    scope = Scope(collection_ids=[collection], comparisons=[ComparisonFilter(key=key, type=kind, value=value)])

    by_vector = await library.index.by_vector(scope, unit_vector([1, 1]), 10)
    by_words = await library.index.by_words(scope, "apple", 10)

    assert [hit.number for hit in by_vector] == expected
    assert [hit.number for hit in by_words] == expected


async def test_filters_are_joined_and_documents_narrow(library: Library) -> None:
    collection = await library.collection()
    first = await library.add(collection, ["apple"] * 5, [[1, 0]] * 5, METADATA)
    second = await library.add(collection, ["apple"] * 5, [[1, 0]] * 5, METADATA)
    comparisons = [ComparisonFilter(key="n", type="eq", value=1), ComparisonFilter(key="b", type="eq", value=True)]

    def scope(**members: Any) -> Scope:
        return Scope(collection_ids=[collection], comparisons=comparisons, **members)

    either = await library.index.by_vector(scope(operator="or", document_ids=[first]), unit_vector([1, 1]), 10)
    both = await library.index.by_vector(scope(operator="and"), unit_vector([1, 1]), 10)
    narrow = await library.index.by_words(Scope(collection_ids=[collection], document_ids=[second, 999]), "apple", 10)

    assert places(either) == [(first, 0), (first, 1), (first, 2)]
    assert both == []
    assert {hit.document_id for hit in narrow} == {second}


def test_lists_are_fused_by_document_and_chunk() -> None:
    one = [Hit(1, 1, 2, 9.0), Hit(2, 2, 1, 8.0)]
    other = [Hit(2, 2, 1, 0.5), Hit(3, 1, 1, 0.4)]

    fused = fuse([one, other], 60, 10)

    assert [(hit.chunk_id, round(hit.score, 6)) for hit in fused] == [
        (2, round(1 / 62 + 1 / 61, 6)), (1, round(1 / 61, 6)), (3, round(1 / 62, 6)),
    ]  # fmt: skip


async def test_the_index_of_postgresql_finds_nearly_what_an_exact_search_finds(library: Library) -> None:
    if library.database.engine.dialect.name != "postgresql":
        pytest.skip("searches on SQLite are always exact")
    vectors = np.random.default_rng(5).standard_normal((1500, 24)).astype(np.float32)
    collection = await library.collection()
    await library.add(collection, ["x"] * 1500, vectors)
    await library.add(collection, ["x"] * 20, vectors[:20], status="processing")
    scope, shared = Scope(collection_ids=[collection]), 0

    for row in range(20):
        async with library.database.read() as session:
            query = unit_vector(vectors[row])
            found = places(await search_vectors(session, scope, query, 10, -2.0, exact_most=0))
            shared += len(set(found) & set(places(await search_vectors(session, scope, query, 10, -2.0))))
    async with library.database.read() as session:
        everything = await search_vectors(session, scope, unit_vector(vectors[0]), 5000, -2.0, exact_most=0)

    assert shared >= 0.95 * 200
    assert len(everything) == 1500
