"""The command line client of Sluice: it speaks the public API, so it works with any installation.

The address and the key come from --url and --key, else from OPENAI_BASE_URL and OPENAI_API_KEY, else they are those of
an installation that `scripts/run` started in the current folder, with the same SLUICE_HOST and SLUICE_PORT if they are
set.

`migrate`, `backup`, `restore`, `rotate-key` and `ledger` need no api: they read the same SLUICE_* variables as
`scripts/run`.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import admin
import batches
import configs
import jobs
import login
from client import Client, ClientError

_DATA_DIR = ".sluice"
_HOST, _PORT = "127.0.0.1", "8080"
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where all addresses are listened to → one of them


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 1 if it did not succeed, 2 for wrong arguments."""
    options = read_options(arguments)
    try:
        return asyncio.run(_run(options))
    except ClientError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


async def _run(options: argparse.Namespace) -> int:
    key = "" if options.command is login.login else _key(options.key)
    async with Client(options.url, key) as client:
        code: int = await options.command(client, options)
        return code


def _key(given: str | None) -> str:
    if found := given or os.environ.get("OPENAI_API_KEY"):
        return found
    try:
        return (Path(os.environ.get("SLUICE_DATA_DIR", _DATA_DIR)) / "admin_key").read_text().strip()
    except OSError:
        raise ClientError("No key: pass --key, or set OPENAI_API_KEY.") from None


def _own_url(environ: Mapping[str, str]) -> str:
    """Return where an installation with this environment serves its API."""
    host = environ.get("SLUICE_HOST") or _HOST
    host = _LOOPBACK.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{environ.get('SLUICE_PORT') or _PORT}/v1"


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/sluice", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    url = os.environ.get("OPENAI_BASE_URL") or _own_url(os.environ)
    parser.add_argument("--url", default=url, help=f"of the API, with /v1 ({url})".replace("%", "%%"))
    parser.add_argument("--key", help="an API key")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (batches, jobs, admin, login, configs):
        module.add_commands(commands)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
