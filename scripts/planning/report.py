"""The plan as a table, a row per quantity and a column per rate; and the costs that it multiplies."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from model import COMPONENTS, Size, Work, cost_of, of_chunk, redis_ends_at, size_of, waiting_bytes

_ROWS: Sequence[tuple[str, Callable[[Size], float]]] = (
    ("api: cores that work", lambda size: size.cores["api"]),
    ("api: processes", lambda size: size.api_processes),
    ("api: memory, GB", lambda size: size.api_gb),
    ("worker: cores that work", lambda size: size.cores["worker"]),
    ("worker: processes for CPU", lambda size: size.workers_for_cpu),
    ("jobs at providers", lambda size: size.running),
    ("worker: processes for slots, too", lambda size: size.worker_processes),
    ("worker: memory, GB", lambda size: size.worker_gb),
    ("Redis: cores that work", lambda size: size.cores["redis"]),
    ("Redis: shards for CPU", lambda size: size.shards_for_cpu),
    ("Redis: memory of all, GB", lambda size: size.redis_gb),
    ("Redis: shards for memory, too", lambda size: size.redis_shards),
    ("Redis: connections to each", lambda size: size.redis_connections),
)
_OF_POSTGRESQL: Sequence[tuple[str, Callable[[Size], float]]] = (
    ("PostgreSQL: cores that work", lambda size: size.cores["postgres"]),
    ("PostgreSQL: cores", lambda size: size.postgres_cores),
    ("PostgreSQL: commits per s", lambda size: size.commits_per_s),
    ("PostgreSQL: log written, MB/s", lambda size: size.wal_mb_per_s),
    ("PostgreSQL: connections, at most", lambda size: size.database_connections),
    ("disk per day, GB", lambda size: size.disk_gb_per_day),
    ("disk once days are over, GB", lambda size: size.disk_gb),
    ("ledger, for ever, GB per day", lambda size: size.ledger_gb_per_day),
)
_OF_SQLITE: Sequence[tuple[str, Callable[[Size], float]]] = (
    ("disk per day, ledger included, GB", lambda size: size.disk_gb_per_day),
)


def plan_text(figures: Mapping[str, Any], database: str, work: Work, rates: Sequence[float]) -> str:
    """Return the whole plan."""
    measured = figures["databases"][database]
    sizes = [size_of(measured, work, rate) for rate in rates]
    rows = [*_ROWS, *(_OF_POSTGRESQL if database == "postgresql" else _OF_SQLITE)]
    lines = [["requests per s", *(shown(rate) for rate in rates)]]
    lines += [[title, *(shown(value(size)) for size in sizes)] for title, value in rows]
    return "\n".join([*_table(lines), "", *_remarks(figures, database, work)])


def costs_text(figures: Mapping[str, Any]) -> str:
    """Return what was measured, as far as plans use it."""
    return "\n\n".join("\n".join(_costs(name, measured)) for name, measured in figures["databases"].items())


def _costs(database: str, measured: Mapping[str, Any]) -> list[str]:
    loads = measured["loads"]
    parts = [name for name in COMPONENTS if f"{name}_us" in loads["chat"]]
    rows = {
        "chat": loads["chat"],
        "chat as a stream of 20 chunks that come at once": loads["stream"],
        "each chunk that comes alone": {f"{name}_us": of_chunk(loads, f"{name}_us") for name in parts},
        "accepted (202) and done": loads["accepted"],
        "job at its provider, each second": measured["running_us_per_s"],
        "an api and a worker without work, each second": measured["idle_us_per_s"],
    }
    lines = [[f"{database}: us of CPU", *parts]]
    lines += [[title, *(shown(row.get(f"{name}_us", 0.0)) for name in parts)] for title, row in rows.items()]
    chat = loads["chat"]
    tables = ", ".join(f"{name} {size:,}" for name, size in chat["table_bytes"].items())
    text = [f"bytes of a chat in the database: {sum(chat['table_bytes'].values()):,} ({tables})"]
    if chat["wal_bytes"] is not None:
        text.append(f"commits of a chat: {chat['commits']:.2f}; bytes of log: {chat['wal_bytes']:,.0f}")
    resident = measured["memory_bytes"]
    text += [
        f"resident bytes of a process after chats: api {resident['api']:,}, worker {resident['worker']:,}",
        f"bytes of Redis: {measured['redis_bytes_per_waiting_job']:,.0f} for a job that waits,"
        f" {of_chunk(loads, 'redis_bytes'):,.0f} for a chunk, ten minutes long",
        f"queued jobs done per second of one core: {measured['drained_per_core_s']:,.0f}",
    ]
    return [*_table(lines), *text]


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]


def _remarks(figures: Mapping[str, Any], database: str, work: Work) -> list[str]:
    measured = figures["databases"][database]
    cost = cost_of(measured["loads"], work)
    parts = ", ".join(f"{name} {cost[f'{name}_us']:,.0f}" for name in COMPONENTS if cost[f"{name}_us"])
    ends = [redis_ends_at(measured, work, share) for share in (work.utilization, 1.0)]
    one_machine = "All of it has to be one machine, on which one process at a time writes: SQLite is a file."
    full = f"{work.utilization:.0%} of its core; the whole core: {ends[1]:,.0f}"
    return [
        f"A request costs, in us of CPU: {parts}.",
        f"It leaves {cost['kept_bytes'] + cost['ledger_bytes']:,.0f} bytes in the database.",
        f"One Redis ends at {ends[0]:,.0f} requests/s ({full}).",
        f"A job that waits takes {waiting_bytes(measured, work):,.0f} bytes of Redis, a million of them"
        f" {waiting_bytes(measured, work) / 1000:,.1f} GB.",
        *([one_machine] if database == "sqlite" else []),
        f"Measured {figures['date'][:10]} on {figures['machine']}: {figures['command']}",
    ]


def shown(value: float) -> str:
    """Return a number with as many digits as it is worth.

    >>> shown(0.04), shown(7.25), shown(31.8), shown(12_345.6), shown(3)
    ('0.04', '7.2', '32', '12,346', '3')
    """
    if isinstance(value, int) or value >= 10 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"
