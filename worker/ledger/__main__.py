"""`scripts/sluice ledger`: close months, prove closes, restate records.  It works on the database of the settings.

close 2026-10                    add the month up, keep and print it
verify 2026-10                   add it up again: the same bytes, or exit code 1
show 2026-10 --revision 1        print a close
compare 2026-10 1 2              what differs between two revisions
restate 2026-09 2026-10 --reason "new grid factors"
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from msgspec import json
from sqlalchemy.exc import SQLAlchemyError

from shared.clock import now_ms
from shared.database import Database
from shared.settings import Settings, SettingsError, load_settings
from worker.ledger.closes import (
    LedgerError,
    close_month,
    compare_closes,
    encode,
    find_last,
    get_close,
    month_bounds,
    verify_close,
)
from worker.ledger.restatement import Task, restate


async def _close(database: Database, options: argparse.Namespace) -> int:
    before = await find_last(database, options.month)
    close = await close_month(database, options.month, now_ms())
    _print(encode(close))
    if before is not None and before.revision != close.revision:
        total = (await compare_closes(database, options.month, before.revision, close.revision)).total
        changes = "; ".join(f"{name} {old} -> {new}" for name, (old, new) in total.items())
        sys.stderr.write(f"revision {close.revision} instead of {before.revision}: {changes or 'the same sums'}\n")
    return 0


async def _verify(database: Database, options: argparse.Namespace) -> int:
    row, is_same = await verify_close(database, options.month, options.revision)
    outcome = "comes out the same" if is_same else "does NOT come out the same: rows came later, or were changed"
    sys.stderr.write(f"{row.month} revision {row.revision}, {row.ledger_sha256}: {outcome}\n")
    return 0 if is_same else 1


async def _show(database: Database, options: argparse.Namespace) -> int:
    _print((await get_close(database, options.month, options.revision)).document.encode())
    return 0


async def _compare(database: Database, options: argparse.Namespace) -> int:
    _print(json.encode(await compare_closes(database, options.month, options.before, options.after)))
    return 0


async def _restate(database: Database, options: argparse.Namespace) -> int:
    from_ms, until_ms = month_bounds(options.first)[0], month_bounds(options.last)[1]
    if until_ms <= from_ms:
        raise LedgerError(f"{options.last} is before {options.first}.")
    task = Task(from_ms=from_ms, until_ms=until_ms, deployments=options.deployments, reason=options.reason)
    _print(json.encode(await restate(database, task)))
    return 0


def _print(document: bytes) -> None:
    sys.stdout.buffer.write(document + b"\n")
    sys.stdout.buffer.flush()


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/sluice ledger", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in (("close", _close), ("verify", _verify), ("show", _show), ("compare", _compare)):
        one = commands.add_parser(name)
        one.add_argument("month", help="such as 2026-10, UTC")
        one.set_defaults(command=command)
        if name in ("verify", "show"):
            one.add_argument("--revision", type=int, help="default: the newest")
        if name == "compare":
            one.add_argument("before", type=int, help="a revision")
            one.add_argument("after", type=int, help="a revision")
    one = commands.add_parser("restate")
    one.add_argument("first", help="month, such as 2026-09")
    one.add_argument("last", help="month, such as 2026-10")
    one.add_argument("--reason", required=True, help="kept with the restatement")
    one.add_argument(
        "--deployments", choices=("recorded", "current"), default="recorded",
        help="count providers as they were (recorded), or as they are described now (current)",
    )  # fmt: skip
    one.set_defaults(command=_restate)
    return parser.parse_args(arguments)


async def run(settings: Settings, options: argparse.Namespace) -> int:
    """Run one command; returns the exit code."""
    database = Database(settings.effective_database_url())
    try:
        code: int = await options.command(database, options)
        return code
    finally:
        await database.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 1 if it did not succeed, 2 for wrong arguments."""
    options = read_options(arguments)
    try:
        return asyncio.run(run(load_settings(), options))
    except (LedgerError, SettingsError, SQLAlchemyError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
