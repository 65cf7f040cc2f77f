"""From email and password to a key."""

import argparse
from typing import Any

from client import Client
from terminal import ask_secret


def add_commands(commands: Any) -> None:
    """Add the command of this module to the parser."""
    add = commands.add_parser(
        "login", help="print a key for an hour: export OPENAI_API_KEY=$(scripts/sluice login EMAIL)"
    )
    add.add_argument("email", help="of an account; the password is asked for")
    add.set_defaults(command=login)


async def login(client: Client, options: argparse.Namespace) -> int:
    """Print a new login key."""
    body = {"email": options.email, "password": ask_secret("Password")}
    print((await client.ask("POST", "/auth/login", json=body))["key"])
    return 0
