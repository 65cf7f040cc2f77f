"""How much of everything so many requests a second need.

costs    prints what a request was measured to cost
measure  weighs what a request costs on this machine, and writes figures.json
plan     prints what rates need, by the figures of that file
check    compares what the model says of two cores with what they do: fails if the cost of a chat is wrong by more
         than 25 %, or if they cannot be used as far as plans go
"""

import argparse
import contextlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model import UTILIZATION, Work
from report import costs_text, plan_text

FIGURES = Path(__file__).with_name("figures.json")
DATABASES = ("postgresql", "sqlite")
_FILE_HELP = "the file (scripts/planning/figures.json)"
RATES = "100,1000,10000,100000"
_LEAST, _MOST = 0.001, 1e9
"""Of the numbers of a plan: the least is that of divisors, and what is beyond either would make infinities."""


def main() -> int:
    """Do what the command line asks for; returns the exit code."""
    options = read_options()
    code: int = options.do(options)
    return code


def plan(options: argparse.Namespace) -> int:
    """Print the table."""
    work = Work(**{name: getattr(options, name) for name in Work.__dataclass_fields__})
    print(plan_text(json.loads(options.figures.read_text()), options.database, work, options.rate))
    return 0


def costs(options: argparse.Namespace) -> int:
    """Print what was measured."""
    print(costs_text(json.loads(options.figures.read_text())))
    return 0


def measure(options: argparse.Namespace) -> int:
    """Measure and write the file."""
    from measuring import measure_database, others_of  # noqa: PLC0415  # a plan needs no Linux, and nothing installed

    databases = DATABASES if options.database == "both" else [options.database]
    with _open_setup(options) as setup:
        found = {name: measure_database(name, setup, options.jobs) for name in databases}
    figures: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} shared cores",
        "command": f"scripts/capacity measure --database {options.database} --seconds {options.seconds:g}"
        f" --rounds {options.rounds} --jobs {options.jobs}",
        "databases": found,
    }
    figures["others_percent"] = {"least": min(others_of(figures)), "most": max(others_of(figures))}
    options.figures.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def check(options: argparse.Namespace) -> int:
    """Compare and print; returns 1 if the model is wrong."""
    from checking import check as check_database  # noqa: PLC0415  # as above

    committed = json.loads(options.figures.read_text())["databases"]
    is_right = True
    with _open_setup(options) as setup:
        for name in DATABASES if options.database == "both" else [options.database]:
            text, error, busy = check_database(name, setup, committed[name])
            print(text, flush=True)
            is_right = is_right and abs(error) <= options.tolerance and busy >= UTILIZATION
    return 0 if is_right else 1


@contextlib.contextmanager
def _open_setup(options: argparse.Namespace) -> Iterator[Any]:
    """Yield what all measurements have in common; what runs for them has ended afterwards."""
    import machine  # noqa: PLC0415  # as above
    from load import has_wrk  # noqa: PLC0415
    from measure import Effort, Setup  # noqa: PLC0415
    from postgres import serve_postgres  # noqa: PLC0415
    from upstream import serve_upstream  # noqa: PLC0415

    if len(machine.ALL_CORES) < 2:
        sys.exit("scripts/capacity needs two cores: one for Sluice, one for the load.")
    machine.raise_file_limit()
    os.sched_setaffinity(0, machine.LOAD_CORES)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        upstream_url, _ = stack.enter_context(serve_upstream(folder, with_nginx=True))
        effort = Effort(seconds=options.seconds, warm_up_s=1.0, with_wrk=has_wrk(), retries=0)
        postgres = stack.enter_context(serve_postgres()) if options.database != "sqlite" else None
        yield Setup(upstream_url=upstream_url, postgres=postgres, effort=effort, rounds=options.rounds)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    planning = commands.add_parser("plan", help="print what rates need")
    _add_plan(planning)
    command = commands.add_parser("costs", help=costs.__doc__)
    command.set_defaults(do=costs)
    command.add_argument("--figures", type=Path, default=FIGURES, help=_FILE_HELP)
    for do in (measure, check):
        command = commands.add_parser(do.__name__, help=do.__doc__)
        command.set_defaults(do=do)
        add = command.add_argument
        add("--database", choices=(*DATABASES, "both"), default="both")
        add("--seconds", type=float, default=4.0, help="length of one measurement (4)")
        add("--figures", type=Path, default=FIGURES, help=_FILE_HELP)
        if do is measure:
            add("--rounds", type=int, default=3, help="measurements of each load (3)")
            add("--jobs", type=int, default=10_000, help="that are queued, weighed and drained (10000)")
        else:
            add("--rounds", type=int, default=5, help="measurements on one core, and on two (5)")
            add("--tolerance", type=float, default=25.0, help="percent (25)")
    options = parser.parse_args()
    if options.do is plan and round(options.stream_share + options.async_share, 9) > 1:
        planning.error(
            f"--stream-share ({options.stream_share:g}) and --async-share ({options.async_share:g}) are shares of the"
            " same requests: together they are at most 1"
        )
    return options


def _add_plan(command: argparse.ArgumentParser) -> None:
    command.set_defaults(do=plan)
    add = command.add_argument
    share, amount, above_0 = _between(0, 1), _between(0, _MOST), _between(_LEAST, _MOST)
    add("--rate", type=_rates, default=_rates(RATES), help=f"requests per second, comma-separated ({RATES})")
    add("--database", choices=DATABASES, default="postgresql", help="(postgresql)")
    add("--stream-share", type=share, default=0.5, help="of the requests (0.5)")
    add("--async-share", type=share, default=0.0, help="of the requests that nobody waits for (0)")
    add("--prompt-tokens", type=amount, default=500, help="of a request (500)")
    add("--tokens", type=amount, default=200, help="of an answer, each a chunk if it is streamed (200)")
    add("--bytes-per-token", type=amount, default=5, help="of text (5)")
    add("--latency", type=amount, default=5.0, dest="latency_s", help="seconds of a provider (5)")
    add("--redis-gb", type=above_0, default=32, help="memory of one Redis (32)")
    add("--slots", type=_count, default=256, help="SLUICE_WORKER_SLOTS (256)")
    add("--days", type=amount, default=30, help="that requests, results and logs are kept (30)")
    add("--tombstone-days", type=amount, default=90, help="that rows of jobs are kept after that (90)")
    used = _between(_LEAST, 1)
    add("--utilization", type=used, default=UTILIZATION, help="share of cores and slots that may be in use (0.6)")
    add("--figures", type=Path, default=FIGURES, help=_FILE_HELP)


def _between(least: float, most: float) -> Callable[[str], float]:
    """Return what reads a number of the command line and refuses others, `nan` and `inf` among them."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"`{text}` is no number from {least:g} to {most:g}")
        return found

    return read


def _count(text: str) -> int:
    number = _between(1, _MOST)(text)
    if number != int(number):
        raise argparse.ArgumentTypeError(f"`{text}` is no whole number")
    return int(number)


def _rates(text: str) -> list[float]:
    return [_between(_LEAST, _MOST)(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
