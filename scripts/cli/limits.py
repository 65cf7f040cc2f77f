"""Limits of a role on a model: what the API replaces as a whole is changed here one model at a time."""

import argparse
from typing import Any, Final

from client import Client, ClientError
from lookup import id_of
from nouns import ROLES, ROUTERS
from output import print_json, print_table

_TYPES: Final = ("rpm", "rpd", "tpm", "tpd")


def add_commands(nouns: Any) -> None:
    """Add `limits`."""
    parser = nouns.add_parser("limits", help="what a role allows: requests and tokens per minute and day of a model")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    add = _verb(verbs, "list", "list the limits of a role", list_limits)
    add = _verb(verbs, "set", "let a role use a model, as far as the limits go", set_limits)
    add.add_argument("router", help="id or name")
    for name in _TYPES:
        kind, span = ("requests" if name[0] == "r" else "tokens"), ("minute" if name[2] == "m" else "day")
        add.add_argument(f"--{name}", help=f"{kind} per {span}; none is unlimited, 0 forbids the model")
    add = _verb(verbs, "delete", "take a model away from a role", delete_limits)
    add.add_argument("router", help="id or name")


def _verb(verbs: Any, name: str, text: str, command: Any) -> Any:
    add = verbs.add_parser(name, help=text)
    add.add_argument("role", help="id or name")
    add.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    add.set_defaults(command=command)
    return add


async def list_limits(client: Client, options: argparse.Namespace) -> int:
    """Print the limits of a role."""
    _, limits = await _read(client, options.role)
    _print(limits, options)
    return 0


async def set_limits(client: Client, options: argparse.Namespace) -> int:
    """Replace the limits that are named; without any, the model becomes unlimited unless it has some."""
    role_id, limits = await _read(client, options.role)
    router = await id_of(client, ROUTERS, options.router)
    named = {name: _value(name, text) for name in _TYPES if (text := getattr(options, name)) is not None}
    if not named and not any(one["router"] == router for one in limits):
        named = {"rpm": None}
    kept = [one for one in limits if one["router"] != router or one["type"] not in named]
    added = [{"router": router, "type": name, "value": value} for name, value in named.items()]
    return await _replace(client, options, role_id, kept + added)


async def delete_limits(client: Client, options: argparse.Namespace) -> int:
    """Remove all limits on a router, which the role cannot use any more."""
    role_id, limits = await _read(client, options.role)
    router = await id_of(client, ROUTERS, options.router)
    kept = [one for one in limits if one["router"] != router]
    if kept == limits:
        raise ClientError(f"Role {role_id} has no limits on router {router}.")
    return await _replace(client, options, role_id, kept)


def _value(name: str, text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal():
        raise ClientError(f"--{name}: `{text}` is no number.")
    return int(text)


async def _read(client: Client, role: str) -> tuple[int, list[Any]]:
    role_id = await id_of(client, ROLES, role)
    found = await client.ask("GET", f"{ROLES.path}/{role_id}")
    return role_id, [{name: one[name] for name in ("router", "type", "value")} for one in found["limits"]]


async def _replace(client: Client, options: argparse.Namespace, role_id: int, limits: list[Any]) -> int:
    await client.ask("PATCH", f"{ROLES.path}/{role_id}", json={"limits": limits})
    if options.as_json:
        _print(limits, options)
    else:
        print(f"limits of role {role_id} updated")
    return 0


def _print(limits: list[Any], options: argparse.Namespace) -> None:
    if options.as_json:
        print_json(limits)
    else:
        print_table(limits, ("router", "type", "value"))
