"""Measure Sluice on this machine, with everything on: authentication, durable jobs, accounting, carbon, request log.

Api, worker, Redis and PostgreSQL share one core, the load generator and the upstream have another; where that is
different, the scenario says so.  Every answer is checked; the database must agree at the end.  Figures are medians of
the rounds.  CPU seconds per 1,000 requests hardly depend on what else the machine does, rates and latencies do:
`others percent` is the share of all cores that strangers had.

  chat-N, stream-N   N connections, provider of fixed answers; added p50 is that over the provider asked directly
  kinds              embeddings, rerank, and a chat with limits and budgets, beside a plain chat; simulator
  routing            choosing one of three providers; taking a slot there; from a failed attempt to the next provider
  accept-64          202 per second with `Prefer: respond-async`, with a worker beside and without one
  drain              queued jobs, then a worker: how fast they are done
  batches            one batch: accepted, run, and its files written; memory
  polling            a job that is looked at again and again, unchanged (304) and whole
  cancel             from the request to cancel a running job to the end of the provider's call
  backlog            the queue alone: cost of a job with few and with very many waiting
  waiting            callers who wait for slow answers: memory and connections
  webhooks           from the end of a job to the arrival of its event, one by one and with 32 connections
  logs               filters of a large request log in windows of 15 minutes; exports, memory
  log-cost           chat-64 by content policy, and without rows of the request log
  idle               start to first answer, memory
  cores              chat-64 on one core, and on two with two api and two worker processes
  search             exact, by index and by words among --chunks vectors of 1,024 dimensions; no api, one core
  parsing            ten large and hostile files at once: how long the event loop beside them stands still
  ingestion          a file of text becomes chunks, with a model that answers at once
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import machine
from accept import run_accept, run_drain
from backlog import run_backlog
from batches import run_batches
from cancel import run_cancel
from chat import LOADS, run_chats, run_cores
from ingestion import run_ingestion
from installation import POSTGRESQL, SQLITE
from kinds import run_kinds
from load import has_wrk
from logs import run_log_cost, run_logs
from machine import ALL_CORES, LOAD_CORES, ROOT, BenchError
from measure import Effort, Row, Setup
from parsing import run_parsing
from peers import run_peers
from polling import run_polling
from postgres import serve_postgres
from report import ratios, tables
from routing import run_choices, run_failover, run_slots
from search import run_search
from startup import run_idle
from upstream import serve_upstream
from waiting import run_waiting
from webhooks import run_webhooks

NAMES = (
    *LOADS,
    "kinds",
    "routing",
    "accept-64",
    "drain",
    "batches",
    "polling",
    "cancel",
    "backlog",
    "waiting",
    "webhooks",
    "idle",
    "cores",
    "search",
    "parsing",
    "ingestion",
    "logs",
    "log-cost",
)


def main() -> int:
    """Run what the command line asks for; returns the exit code, 1 if a measurement must not be believed."""
    options = read_options()
    if len(ALL_CORES) < 2:
        sys.exit("scripts/bench/run needs two cores: one for Sluice, one for the load.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine.raise_file_limit()
    os.sched_setaffinity(0, LOAD_CORES)
    rows: list[Row] = []
    failures: list[str] = []
    try:
        for some, failure in measure_all(options):
            rows += some
            failures += [failure] if failure else []
    finally:  # also when interrupted
        print(tables(rows))
        if options.peers:
            print(f"\n{ratios(rows)}")
        if options.json:
            write_json(options, rows, failures)
    failures += [f"{row['name']} {row['database']}: {row['errors']} errors" for row in rows if is_wrong(row)]
    for failure in failures:
        machine.say(f"FAILED {failure}")
    return 1 if failures else 0


def is_wrong(row: Row) -> bool:
    """Return whether Sluice answered something wrongly; what peers do is their affair."""
    return str(row["gateway"]).startswith("sluice") and bool(row.get("errors"))


def measure_all(options: argparse.Namespace) -> Iterator[tuple[list[Row], str]]:
    """Yield the rows of each step, or why there are none."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        upstream_url, upstream = stack.enter_context(serve_upstream(folder, with_nginx=not options.plain))
        effort = Effort(
            seconds=options.seconds,
            warm_up_s=options.warm_up,
            with_wrk=has_wrk() and not options.plain,
            retries=options.retries,
        )
        machine.say(f"upstream: {upstream}; load: {'wrk, streams asyncio' if effort.with_wrk else 'asyncio'}")
        postgres = stack.enter_context(serve_postgres()) if POSTGRESQL in options.database else None
        setup = Setup(upstream_url=upstream_url, postgres=postgres, effort=effort, rounds=options.rounds)
        for title, step in steps(options, setup):
            machine.say(title)
            try:
                yield step(), ""
            except (BenchError, OSError, ExceptionGroup) as error:
                yield [], f"{title}: {error!r}"


Step = tuple[str, Callable[[], list[Row]]]


def steps(options: argparse.Namespace, setup: Setup) -> Iterator[Step]:
    """Yield title and function of all that is to be measured."""
    chats = [name for name in options.only if name in LOADS]
    if options.peers:
        yield "peers", lambda: run_peers(chats, options.database, setup, options.peers_dir.resolve())
        return
    for database in options.database:
        if chats:
            yield f"{', '.join(chats)} {database}", partial(run_chats, chats, database, setup)
        found: dict[str, Callable[[], list[Row]]] = {
            "kinds": partial(run_kinds, database, setup),
            "routing": partial(run_failover, database, setup),
            "accept-64": partial(run_accept, database, setup),
            "drain": partial(run_drain, database, setup, options.jobs),
            "batches": partial(run_batches, database, setup, options.lines),
            "polling": partial(run_polling, database, setup),
            "cancel": partial(run_cancel, database, setup),
            "waiting": partial(run_waiting, database, setup, options.clients),
            "webhooks": partial(run_webhooks, database, setup),
            "idle": partial(run_idle, database, setup),
            "cores": partial(run_cores, database, setup),
            "search": partial(run_search, database, setup, options.chunks),
            "ingestion": partial(run_ingestion, database, setup, min(options.chunks, 9_000)),
            "logs": partial(run_logs, database, setup, options.log_rows, options.log_days, 300, 500_000),
            "log-cost": partial(run_log_cost, database, setup),
        }
        yield from ((f"{name} {database}", step) for name, step in found.items() if name in options.only)
    if "routing" in options.only:
        yield "choice of a provider", run_choices
        yield "slots of providers", run_slots
    if "parsing" in options.only:
        yield "parsing", run_parsing
    if "backlog" in options.only:
        yield "backlog", partial(run_backlog, options.depths)


def write_json(options: argparse.Namespace, rows: Sequence[Row], failures: Sequence[str]) -> None:
    """Write all figures, and what they depend on."""
    skipped = ("json", "peers_dir")
    used = {name: value for name, value in vars(options).items() if name not in skipped}
    report: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "command": f"scripts/bench/run {' '.join(options_as_words(used))}",
        "failures": list(failures),
        "scenarios": list(rows),
    }
    options.json.write_text(json.dumps(report, indent=1) + "\n")


def options_as_words(used: dict[str, Any]) -> Iterator[str]:
    """Yield the options as they would be typed."""
    for name, value in used.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            yield from [option] if value else []
        elif name == "database":
            yield f"{option} {'both' if len(value) > 1 else value[0]}"
        else:
            yield f"{option} {','.join(map(str, value)) if isinstance(value, list) else value}"


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", type=names, default=list(NAMES), help=f"comma-separated; all of {', '.join(NAMES)}")
    add("--database", choices=(SQLITE, POSTGRESQL, "both"), default="both")
    add("--seconds", type=float, default=4.0, help="length of one measurement (4)")
    add("--warm-up", type=float, default=1.0, help="seconds of load before each one (1)")
    add("--rounds", type=int, default=3, help="measurements of each (3)")
    add(
        "--retries", type=int, default=0, help="of a measurement in which other programs had over 5 %% of the cores (0)"
    )
    add("--jobs", type=int, default=20_000, help="of drain (20000)")
    add("--lines", type=int, default=50_000, help="of batches (50000)")
    add("--depths", type=numbers, default=[1_000, 100_000, 1_000_000], help="of backlog (1000,100000,1000000)")
    add("--clients", type=int, default=10_000, help="of waiting (10000)")
    add("--chunks", type=int, default=20_000, help="of search, and of ingestion at most 9000 (20000)")
    add("--log-rows", type=int, default=1_000_000, help="of logs (1000000)")
    add("--log-days", type=int, default=30, help="over which they are spread (30)")
    add("--json", type=Path, help="also write everything here")
    add("--plain", action="store_true", help="use neither wrk nor nginx, even if they are installed")
    add("--peers", action="store_true", help="chats and streams beside LiteLLM, Portkey and a bare aiohttp proxy")
    add("--peers-dir", type=Path, default=ROOT / ".sluice-bench", help="where the peers are installed (.sluice-bench)")
    options = parser.parse_args()
    options.database = [SQLITE, POSTGRESQL] if options.database == "both" else [options.database]
    if options.peers and not set(options.only) & set(LOADS):
        parser.error(f"--peers measures {', '.join(LOADS)} only")
    return options


def names(text: str) -> list[str]:
    """Read comma-separated names of scenarios."""
    found = text.split(",")
    if unknown := sorted(set(found) - set(NAMES)):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(NAMES)}")
    return [name for name in NAMES if name in found]


def numbers(text: str) -> list[int]:
    """Read comma-separated numbers."""
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
