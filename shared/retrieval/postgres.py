"""Vectors on PostgreSQL: pgvector, exact for small scopes, else through an HNSW index with exact scores.

The index holds half-precision copies, which halves its size; the candidates it finds are ranked by the vectors
themselves.  There is one index for each number of dimensions, made before the first vector of that size is stored.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.retrieval.scope import Hit, Scope, conditions, statement

EXACT_MOST: Final = 10_000
"""Chunks of a scope; above, the index is asked."""
_MOST_INDEXED: Final = 4000
"""Dimensions that HNSW of half-precision vectors takes."""
_WIDER: Final = 4
_MOST_EF: Final = 1000
_SIZE: Final = """
    SELECT COALESCE(SUM(d.chunks), 0) FROM documents d WHERE d.status = 'completed'
    AND d.collection_id IN :collection_ids
"""
_QUERY: Final = "(SELECT CAST(CAST(:query AS real[]) AS vector))"
"""A query of its own, so that a prepared statement turns the array into a vector once, not for each row."""
_EXACT: Final = f"""
    SELECT c.id, c.document_id, c.number, -(i.vector <#> {_QUERY}) AS score
    FROM chunk_index i JOIN chunks c ON c.id = i.chunk_id JOIN documents d ON d.id = c.document_id
    WHERE i.collection_id IN :collection_ids AND i.dimensions = {{dimensions}} AND {{conditions}}
    ORDER BY score DESC, c.document_id, c.number LIMIT :most
"""  # noqa: S608  # text of this module
_NEAR: Final = f"""
    WITH near AS MATERIALIZED (
        SELECT i.chunk_id, i.vector FROM chunk_index i
        WHERE i.dimensions = {{dimensions}} AND i.collection_id IN :collection_ids
        ORDER BY CAST(i.vector AS halfvec({{dimensions}})) <#> CAST({_QUERY} AS halfvec({{dimensions}}))
        LIMIT :wider
    )
    SELECT c.id, c.document_id, c.number, -(n.vector <#> {_QUERY}) AS score
    FROM near n JOIN chunks c ON c.id = n.chunk_id JOIN documents d ON d.id = c.document_id
    WHERE {{conditions}} ORDER BY score DESC, c.document_id, c.number LIMIT :most
"""  # noqa: S608  # text of this module


async def ensure_vector_index(session: AsyncSession, dimensions: int) -> None:
    """Make the index of vectors of this size, if there is none; quick as long as there are no such vectors."""
    if dimensions > _MOST_INDEXED:
        return
    await (await session.connection()).execute(
        text(f"""
            CREATE INDEX IF NOT EXISTS chunk_index_hnsw_{dimensions} ON chunk_index
            USING hnsw ((CAST(vector AS halfvec({dimensions}))) halfvec_ip_ops) WHERE dimensions = {dimensions}
        """)
    )


def to_array(vector: Any) -> tuple[float, ...]:
    """Return a vector as the driver sends it, in binary; PostgreSQL casts `real[]` to `vector`."""
    return tuple(vector.tolist())


async def search_vectors(
    session: AsyncSession, scope: Scope, query: Any, most: int, at_least: float, *, exact_most: int = EXACT_MOST
) -> list[Hit]:
    """Return the chunks whose vectors are nearest to the query; both have length 1."""
    connection = await session.connection()
    where, parameters = conditions(scope, "postgresql")
    ids = {"collection_ids": parameters["collection_ids"]}
    chunks = int((await connection.execute(statement(_SIZE, ids), ids)).scalar_one())
    dimensions = len(query)
    parameters |= {"query": to_array(query), "most": most}
    found: Sequence[Any] = ()
    if chunks > exact_most and dimensions <= _MOST_INDEXED and not scope.is_narrow:
        parameters["wider"] = max(most * _WIDER, 100)
        await connection.execute(text(f"SET LOCAL hnsw.ef_search = {min(parameters['wider'], _MOST_EF)}"))
        await connection.execute(text("SET LOCAL hnsw.iterative_scan = relaxed_order"))
        sql = _NEAR.format(dimensions=dimensions, conditions=where)
        found = (await connection.execute(statement(sql, parameters), parameters)).all()
    if len(found) < min(most, chunks):  # or much of what the index found is hidden
        sql = _EXACT.format(dimensions=dimensions, conditions=where)
        found = (await connection.execute(statement(sql, parameters), parameters)).all()
    return [Hit(row[0], row[1], row[2], float(row[3])) for row in found if row[3] >= at_least]
