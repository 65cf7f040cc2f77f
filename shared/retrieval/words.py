"""Lexical search: BM25 over the words of chunks, computed in the database, equal on both.

How often a word occurs where comes from the full-text index: FTS5 on SQLite, a GIN index of tsvectors on PostgreSQL.
Neither ranks by BM25 over what one caller may see, so the formula is written here: how rare a word is counts within
the collections that are searched, so nobody else's texts change a score.
"""

from math import log
from typing import Any, Final

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.retrieval.scope import Dialect, Hit, Scope, conditions, statement
from shared.retrieval.terms import Wanted

_K1: Final = 1.2
_B: Final = 0.75
_FOUND: Final[dict[Dialect, str]] = {
    "sqlite": """
        SELECT v.doc AS chunk_id, w.part, w.term, w.weight, COUNT(*) AS times
        FROM wanted w CROSS JOIN chunk_index_instances v WHERE v.term = w.term
        GROUP BY v.doc, w.part, w.term, w.weight
    """,
    "postgresql": """
        SELECT i.chunk_id, w.part, w.term, w.weight, array_length(u.positions, 1) AS times
        FROM chunk_index i
        CROSS JOIN LATERAL (
            SELECT * FROM unnest(i.lexemes) l
            WHERE l.lexeme = ANY (string_to_array(CAST(:terms AS text), ' ')) OFFSET 0
        ) u
        JOIN wanted w ON w.term = u.lexeme
        WHERE i.lexemes @@ CAST(CAST(:query AS text) AS tsquery) AND i.collection_id IN :collection_ids
    """,
}
_IN_SCOPE: Final = """
    WITH wanted (term, part, weight) AS (VALUES {values}),
    found AS ({found}),
    scoped AS (
        SELECT f.chunk_id, f.part, f.term, f.weight, f.times, c.terms, c.document_id, c.number
        FROM found f JOIN chunks c ON c.id = f.chunk_id JOIN documents d ON d.id = c.document_id WHERE {conditions}
    )
"""
_COUNT: Final = f"{_IN_SCOPE} SELECT term, COUNT(*) FROM scoped GROUP BY term"  # noqa: S608  # text of this module
_RANK: Final = f"""{_IN_SCOPE},
    scored AS (
        SELECT chunk_id, document_id, number, part,
            MAX(weight * times * (:k1 + 1) / (times + :k1 * (1 - :b + :b * terms / :average))) AS score
        FROM scoped GROUP BY chunk_id, document_id, number, part
    )
    SELECT chunk_id, document_id, number, SUM(score) AS total FROM scored
    GROUP BY chunk_id, document_id, number ORDER BY total DESC, document_id, number LIMIT :most
"""  # noqa: S608  # text of this module
_SIZE: Final = """
    SELECT COALESCE(SUM(d.chunks), 0), COALESCE(SUM(d.terms), 0) FROM documents d
    WHERE d.status = 'completed' AND d.collection_id IN :collection_ids
"""


async def search_words(session: AsyncSession, scope: Scope, wanted: list[Wanted], most: int) -> list[Hit]:
    """Return the best chunks by BM25; the best of nearly equal words counts for each word of the query."""
    dialect: Dialect = "postgresql" if session.get_bind().dialect.name == "postgresql" else "sqlite"
    connection = await session.connection()
    where, parameters = conditions(scope, dialect)
    ids = {"collection_ids": parameters["collection_ids"]}
    chunks, terms = (await connection.execute(statement(_SIZE, ids), ids)).one()
    if not chunks or not wanted:
        return []
    counted = _fill(_COUNT, wanted, dialect, where, parameters)
    counts = {row[0]: int(row[1]) for row in (await connection.execute(*counted)).all()}
    rare = [
        Wanted(one.term, one.part, one.weight * _rarity(int(chunks), counts[one.term]))
        for one in wanted
        if one.term in counts
    ]
    if not rare:
        return []
    average = max(float(terms) / float(chunks), 1.0)
    numbers = {"k1": _K1, "b": _B, "average": average, "most": most}
    ranked = await connection.execute(*_fill(_RANK, rare, dialect, where, parameters | numbers))
    return [Hit(chunk_id, document_id, number, float(total)) for chunk_id, document_id, number, total in ranked.all()]


def _rarity(chunks: int, count: int) -> float:
    """Return the inverse document frequency in the form that is never negative."""
    return log(1 + (max(chunks - count, 0) + 0.5) / (count + 0.5))


def _fill(
    sql: str, wanted: list[Wanted], dialect: Dialect, where: str, parameters: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the statement with one row for each word, and its parameters."""
    rows, values = [], dict(parameters)
    for number, one in enumerate(wanted):
        rows.append(f"(CAST(:term{number} AS text), {one.part}, CAST(:weight{number} AS double precision))")
        values |= {f"term{number}": one.term, f"weight{number}": one.weight}
    if dialect == "postgresql":
        values |= {
            "terms": " ".join(one.term for one in wanted),
            "query": " | ".join(f"'{one.term}'" for one in wanted),
        }
    filled = sql.format(values=", ".join(rows), found=_FOUND[dialect], conditions=where)
    for name in ("k1", "b", "average"):
        filled = filled.replace(f":{name} ", f"CAST(:{name} AS double precision) ").replace(
            f":{name})", f"CAST(:{name} AS double precision))"
        )
    return statement(filled, values), values


async def read_vocabulary(session: AsyncSession, after: int) -> list[tuple[int, str]]:
    """Return words of all chunks with their ids, those with higher ids than `after`."""
    sql = text("SELECT id, term FROM vocabulary WHERE id > :after ORDER BY id")
    rows = await (await session.connection()).execute(sql, {"after": after})
    return [(number, term) for number, term in rows.all()]
