"""Subscriptions: labelled keys with their own usage, of the user whose key the command uses."""

import argparse
import sys
from typing import Any, Final

from client import Client
from output import add_verb, print_json, print_object, print_table
from terminal import is_confirmed

_PATH: Final = "/v2/inference"
_COLUMNS: Final = ("id", "label", "date_created")
_PAGE: Final = "500"


def add_commands(nouns: Any) -> None:
    """Add `subscriptions`."""
    parser = nouns.add_parser("subscriptions", help="labelled keys with their own usage, of the user of the key")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    add_verb(verbs, "list", "list them", list_subscriptions)
    add = add_verb(verbs, "show", "show one with its secret", show_subscription)
    add.add_argument("id")
    add = add_verb(verbs, "usage", "show what one has used", show_usage)
    add.add_argument("id")
    add = add_verb(verbs, "create", "make one", create_subscription)
    add.add_argument("--label", required=True)
    add = add_verb(verbs, "update", "give one another label", update_subscription)
    add.add_argument("id")
    add.add_argument("--label", required=True)
    add = add_verb(verbs, "delete", "delete one, after a question", delete_subscription)
    add.add_argument("id")
    add.add_argument("--yes", "-y", action="store_true", help="do not ask")


async def list_subscriptions(client: Client, options: argparse.Namespace) -> int:
    """Print all of them without their secrets."""
    found: list[Any] = []
    cursor = ""
    while True:
        page = await client.ask("GET", _PATH, params={"per_page": _PAGE} | ({"cursor": cursor} if cursor else {}))
        found += page["subscriptions"]
        cursor = page["meta"]["links"]["next"]
        if not cursor:
            break
    rows = [{name: one[name] for name in _COLUMNS} for one in found]
    if options.as_json:
        print_json(rows)
    else:
        print_table(rows, _COLUMNS)
    return 0


async def show_subscription(client: Client, options: argparse.Namespace) -> int:
    """Print one."""
    return _print((await client.ask("GET", f"{_PATH}/{options.id}"))["subscription"], options)


async def show_usage(client: Client, options: argparse.Namespace) -> int:
    """Print the usage of this month and the one before."""
    return _print((await client.ask("GET", f"{_PATH}/{options.id}/usage"))["usage"], options)


async def create_subscription(client: Client, options: argparse.Namespace) -> int:
    """Make one and print its secret."""
    made = (await client.ask("POST", _PATH, json={"label": options.label}))["subscription"]
    if options.as_json:
        print_json(made)
    else:
        print(f"subscription {made['id']} created\n{made['api_key']}")
    return 0


async def update_subscription(client: Client, options: argparse.Namespace) -> int:
    """Change the label."""
    changed = (await client.ask("PATCH", f"{_PATH}/{options.id}", json={"label": options.label}))["subscription"]
    if options.as_json:
        print_json(changed)
    else:
        print(f"subscription {options.id} updated")
    return 0


async def delete_subscription(client: Client, options: argparse.Namespace) -> int:
    """Delete one, if that is confirmed; returns 1 if not."""
    found = (await client.ask("GET", f"{_PATH}/{options.id}"))["subscription"]
    if not options.yes and not is_confirmed(f"Delete subscription {options.id} ({found['label']})?"):
        sys.stderr.write("Not deleted.\n")
        return 1
    await client.ask("DELETE", f"{_PATH}/{options.id}")
    if options.as_json:
        print_json({"id": options.id, "deleted": True})
    else:
        print(f"subscription {options.id} deleted")
    return 0


def _print(found: Any, options: argparse.Namespace) -> int:
    if options.as_json:
        print_json(found)
    else:
        print_object(found)
    return 0
