"""Webhook endpoints and what became of their deliveries; of everybody, if the key is an administrator's."""

import argparse
from typing import Any, Final

from client import Client
from output import add_verb, print_json, print_object, print_table

_ENDPOINTS: Final = ("id", "name", "url", "status", "disabled_reason", "event_types")
_DELIVERIES: Final = ("created_at", "id", "event_type", "status", "tries", "answer", "error")
_ACTIONS: Final = {
    "enable": ("go on sending to an endpoint, with what was kept meanwhile", "webhook_endpoints"),
    "disable": ("send nothing to an endpoint for now; its events are kept", "webhook_endpoints"),
    "redeliver": ("send a delivery again", "webhook_deliveries"),
}


def add_commands(nouns: Any) -> None:
    """Add `webhooks`."""
    verbs = nouns.add_parser("webhooks", help="where events are sent, and what became of them").add_subparsers(
        required=True, metavar="VERB"
    )
    add = add_verb(verbs, "list", "list endpoints, newest first", list_endpoints)
    add.add_argument("--limit", type=int, default=20, help="at most so many, 1 to 100 (20)")
    add = add_verb(verbs, "deliveries", "list the deliveries of an endpoint, newest first", list_deliveries)
    add.add_argument("id", help="we_..")
    add.add_argument("--status", help="pending, delivered, failed, exhausted, ..")
    add.add_argument("--limit", type=int, default=20, help="at most so many, 1 to 100 (20)")
    add = add_verb(verbs, "show", "show a delivery with its tries and its body", show_delivery)
    add.add_argument("id", help="whd_..")
    for name, (text, _) in _ACTIONS.items():
        add = add_verb(verbs, name, text, act)
        add.add_argument("id")
        add.set_defaults(action=name)


async def list_endpoints(client: Client, options: argparse.Namespace) -> int:
    """Print one line per endpoint."""
    return _print(await client.ask("GET", "/webhook_endpoints", params={"limit": options.limit}), options, _ENDPOINTS)


async def list_deliveries(client: Client, options: argparse.Namespace) -> int:
    """Print one line per delivery, with what the last try met."""
    query = {"limit": str(options.limit)} | ({"status": options.status} if options.status else {})
    page = await client.ask("GET", f"/webhook_endpoints/{options.id}/deliveries", params=query)
    for row in page["data"] if not options.as_json else ():
        last = row["attempts"][-1] if row["attempts"] else {}
        row |= {"tries": len(row["attempts"]), "answer": last.get("status_code"), "error": last.get("error")}
    return _print(page, options, _DELIVERIES)


async def show_delivery(client: Client, options: argparse.Namespace) -> int:
    """Print one."""
    found = await client.ask("GET", f"/webhook_deliveries/{options.id}")
    (print_json if options.as_json else print_object)(found)
    return 0


async def act(client: Client, options: argparse.Namespace) -> int:
    """Change what is sent; prints how it is now."""
    found = await client.ask("POST", f"/{_ACTIONS[options.action][1]}/{options.id}/{options.action}")
    if options.as_json:
        print_json(found)
    else:
        print(f"{options.id} {found['status']}")
    return 0


def _print(page: Any, options: argparse.Namespace, columns: tuple[str, ...]) -> int:
    if options.as_json:
        print_json(page["data"])
    else:
        print_table(page["data"], columns)
    return 0
