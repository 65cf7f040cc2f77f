"""Turn rows into Markdown tables: one for each run of rows with the same columns."""

from collections.abc import Sequence
from itertools import groupby

from measure import Row

SUBJECT = "sluice"


def tables(rows: Sequence[Row]) -> str:
    """Return all rows as tables, without the columns that nothing is known of."""
    return "\n\n".join(_table(list(columns), list(group)) for columns, group in groupby(rows, key=tuple))


def ratios(rows: Sequence[Row]) -> str:
    """Return Sluice / other gateway, for each scenario and each of its databases."""
    ours = [row for row in rows if row["gateway"] == SUBJECT]
    pairs = [
        (row, peer)
        for row in ours
        for peer in rows
        if peer["name"] == row["name"] and peer["gateway"] not in (SUBJECT, "direct")
    ]
    lines: list[Row] = [
        {
            "name": row["name"],
            "database": row["database"],
            "sluice /": peer["gateway"],
            **{column: _ratio(row[column], peer[column]) for column in ("per_s", "p50_ms", "cpu_s_per_1000")},
        }
        for row, peer in pairs
    ]
    return tables(lines)


def _ratio(mine: object, theirs: object) -> float | None:
    if not isinstance(mine, int | float) or not isinstance(theirs, int | float) or not theirs:
        return None
    return round(mine / theirs, 3)


def _table(columns: list[str], rows: Sequence[Row]) -> str:
    columns = [column for column in columns if any(row[column] is not None for row in rows)]
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    head = [column.replace("_", " ") for column in columns]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    lines = [head, ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
