"""`python -m worker.maintenance COMMAND`, which is `scripts/sluice COMMAND` for commands that need no api."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from shared.log import configure_logging
from shared.migrations import SchemaError
from shared.settings import SettingsError, load_settings
from worker.bootstrap import UpstreamError, prepare
from worker.maintenance.archive import ArchiveError
from worker.maintenance.backup import backup
from worker.maintenance.restore import restore
from worker.maintenance.rotation import rotate_key


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/sluice", description="Look after an installation.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("migrate", help="bring the database up to date")
    command = commands.add_parser("backup", help="write one archive of the database, the keys and the files")
    command.add_argument("archive", type=Path, help="file that does not exist yet, such as sluice.tar")
    command = commands.add_parser("restore", help="put an archive into an empty installation that does not run")
    command.add_argument("archive", type=Path)
    commands.add_parser("rotate-key", help="encrypt all stored secrets with the present encryption key")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = read_options(arguments)
    try:
        os.umask(0o077)
        settings = load_settings()
        configure_logging(settings, "maintenance")
        if options.command == "migrate":
            asyncio.run(prepare(settings))
        elif options.command == "backup":
            sys.stdout.write(f"{backup(settings, options.archive)}\n")
        elif options.command == "restore":
            sys.stdout.write(f"{asyncio.run(restore(settings, options.archive))}\n")
        else:
            sys.stdout.write(f"{asyncio.run(rotate_key(settings))} secrets are encrypted with the present key.\n")
    except (SettingsError, UpstreamError, ArchiveError, SchemaError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (SQLAlchemyError, OSError) as error:
        sys.stderr.write(f"{getattr(error, 'orig', None) or error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
