"""What is searched: collections, documents, metadata; as SQL that selects from `chunks c` and `documents d`."""

from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import Struct
from sqlalchemy import BindParameter, TextClause, bindparam, text

from shared.chunks.schemas import ComparisonFilter, to_text

Dialect = Literal["sqlite", "postgresql"]


class Scope(Struct, frozen=True, kw_only=True):
    """Where to search; every collection in it is visible to the caller."""

    collection_ids: Sequence[int]
    document_ids: Sequence[int] = ()
    """Only these; empty is all."""
    comparisons: Sequence[ComparisonFilter] = ()
    operator: Literal["and", "or"] = "and"

    @property
    def is_narrow(self) -> bool:
        """Return whether less than whole collections is searched."""
        return bool(self.document_ids or self.comparisons)


class Hit(Struct, frozen=True):
    """A chunk that was found, best first in lists."""

    chunk_id: int
    """Of the row."""
    document_id: int
    number: int
    """Of the chunk in its document."""
    score: float

    @property
    def order(self) -> tuple[float, int, int]:
        """Return by what hits are sorted: the best first, then by document and chunk."""
        return -self.score, self.document_id, self.number


_VALUES: Final = {
    "sqlite": "(SELECT e.value FROM json_each(c.metadata_texts) e WHERE e.key = :key{n})",
    "postgresql": "(CAST(c.metadata_texts AS jsonb) ->> :key{n})",
}
_TESTS: Final[dict[str, dict[str, str]]] = {
    "sqlite": {
        "eq": "{v} = :value{n}",
        "sw": "substr({v}, 1, length(:value{n})) = :value{n}",
        "ew": "length({v}) >= length(:value{n}) AND substr({v}, -length(:value{n})) = :value{n}",
        "co": "instr({v}, :value{n}) > 0",
    },
    "postgresql": {
        "eq": "{v} = :value{n}",
        "sw": "starts_with({v}, :value{n})",
        "ew": "right({v}, length(:value{n})) = :value{n}",
        "co": "strpos({v}, :value{n}) > 0",
    },
}


def conditions(scope: Scope, dialect: Dialect) -> tuple[str, dict[str, Any]]:
    """Return the WHERE of everything in the scope, and its parameters; `statement` makes it executable."""
    parts = ["d.status = 'completed'", "d.collection_id IN :collection_ids"]
    parameters: dict[str, Any] = {"collection_ids": list(scope.collection_ids)}
    if scope.document_ids:
        parts.append("d.id IN :document_ids")
        parameters["document_ids"] = list(scope.document_ids)
    tests: list[str] = []
    for number, one in enumerate(scope.comparisons):
        value = _VALUES[dialect].format(n=number)
        if dialect == "postgresql":
            value = value.replace(f":key{number}", f"CAST(:key{number} AS text)")
        test = _TESTS[dialect][one.type].format(v=value, n=number)
        if dialect == "postgresql":
            test = test.replace(f":value{number}", f"CAST(:value{number} AS text)")
        tests.append(f"({test})")
        parameters |= {f"key{number}": one.key, f"value{number}": to_text(one.value)}
    if tests:
        parts.append("(" + f" {scope.operator} ".join(tests) + ")")
    return " AND ".join(parts), parameters


def statement(sql: str, parameters: dict[str, Any]) -> TextClause:
    """Return the statement; parameters that are lists stand for `IN` lists."""
    lists: list[BindParameter[Any]] = [
        bindparam(name, expanding=True) for name, value in parameters.items() if isinstance(value, list)
    ]
    return text(sql).bindparams(*lists)
