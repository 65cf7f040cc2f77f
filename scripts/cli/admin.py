"""Administration: list, show, create, update and delete what there is, without a browser."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import limits
import logs
import reports
import subscriptions
import webhooks
from client import Client, ClientError
from lookup import id_of, read_page
from nouns import NOUNS, Member, Noun
from output import print_json, print_object, print_table
from terminal import ask_secret, is_confirmed

_NONE: Final = "none"
_ASKED: Final = "-"
_FLAGS: Final = {"true": True, "yes": True, "false": False, "no": False}


def add_commands(commands: Any) -> None:
    """Add `admin` and what is below it."""
    admin = commands.add_parser("admin", help="organizations, roles, users, keys, routers, providers, ..")
    nouns = admin.add_subparsers(required=True, metavar="NOUN")
    for noun in NOUNS.values():
        _add_noun(nouns.add_parser(noun.name, help=noun.text), noun)
    limits.add_commands(nouns)
    reports.add_commands(nouns)
    logs.add_commands(nouns)
    webhooks.add_commands(nouns)
    subscriptions.add_commands(nouns)


def _add_noun(parser: argparse.ArgumentParser, noun: Noun) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    add = _verb(verbs, "list", "list them", noun, list_objects)
    add.add_argument("--limit", type=int, default=100, help="at most so many (100)")
    _add_members(add, noun.filters)
    named = f"id or {noun.called_by}"
    add = _verb(verbs, "show", "show one", noun, show_object)
    add.add_argument("id", help=named)
    add = _verb(verbs, "create", "make one", noun, create_object)
    _add_members(add, [one for one in noun.members if one.on != "update"], is_new=True)
    if noun.can_change:
        add = _verb(verbs, "update", "change one; what is not named stays", noun, update_object)
        add.add_argument("id", help=named)
        _add_members(add, [one for one in noun.members if one.on != "create"])
    add = _verb(verbs, "delete", "delete one, after a question", noun, delete_object)
    add.add_argument("id", help=named)
    add.add_argument("--yes", "-y", action="store_true", help="do not ask")


def _verb(
    verbs: Any, name: str, text: str, noun: Noun, command: Callable[[Client, argparse.Namespace], Any]
) -> argparse.ArgumentParser:
    add: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    add.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    add.set_defaults(command=command, noun=noun)
    return add


def _add_members(parser: argparse.ArgumentParser, members: Any, *, is_new: bool = False) -> None:
    for one in members:
        parser.add_argument(
            f"--{one.name.replace('_', '-')}", dest=f"member_{one.name}", help=one.text.replace("%", "%%"),
            required=is_new and one.needed, choices=one.choices or None,
            metavar=None if one.choices else one.kind.upper().removesuffix("S"),
        )  # fmt: skip


async def list_objects(client: Client, options: argparse.Namespace) -> int:
    """Print those that match, in the order of their ids."""
    noun: Noun = options.noun
    query = {name: str(value) for name, value in (await _values(client, options, noun.filters)).items()}
    rows, total = await read_page(client, noun, options.limit, query)
    if options.as_json:
        print_json(rows)
    else:
        print_table(rows, noun.columns)
    if total > len(rows):
        sys.stderr.write(f"{len(rows)} of {total} {noun.name}; --limit shows more.\n")
    return 0


async def show_object(client: Client, options: argparse.Namespace) -> int:
    """Print one."""
    noun: Noun = options.noun
    found = await client.ask("GET", f"{noun.path}/{await id_of(client, noun, options.id)}")
    if options.as_json:
        print_json(found)
    else:
        print_object(found)
    return 0


async def create_object(client: Client, options: argparse.Namespace) -> int:
    """Make one and tell its id; the secret of a key is printed this one time."""
    noun: Noun = options.noun
    made = await client.ask("POST", noun.path, json=await _values(client, options, noun.members))
    if options.as_json:
        print_json(made)
        return 0
    print(f"{noun.singular} {made['id']} created")
    if noun.name == "keys":
        print(made["key"])
    return 0


async def update_object(client: Client, options: argparse.Namespace) -> int:
    """Change the members that are named."""
    noun: Noun = options.noun
    for one in noun.members:
        is_none = getattr(options, f"member_{one.name}", None) == _NONE
        if is_none and one.none is None and (one.needed or one.stays):
            raise ClientError(f"--{one.name.replace('_', '-')}: it can be changed, but not taken away.")
    changes = await _values(client, options, noun.members)
    if not changes:
        raise ClientError("Nothing to change: name a member, see --help.")
    number = await id_of(client, noun, options.id)
    await client.ask("PATCH", f"{noun.path}/{number}", json=changes)
    if options.as_json:
        print_json(await client.ask("GET", f"{noun.path}/{number}"))
    else:
        print(f"{noun.singular} {number} updated")
    return 0


async def delete_object(client: Client, options: argparse.Namespace) -> int:
    """Delete one, if that is confirmed; returns 1 if not."""
    noun: Noun = options.noun
    number = await id_of(client, noun, options.id)
    found = await client.ask("GET", f"{noun.path}/{number}")
    if not options.yes and not is_confirmed(f"Delete {noun.singular} {number} ({found[noun.called_by]})?"):
        sys.stderr.write("Not deleted.\n")
        return 1
    await client.ask("DELETE", f"{noun.path}/{number}")
    if options.as_json:
        print_json({"id": number, "deleted": True})
    else:
        print(f"{noun.singular} {number} deleted")
    return 0


async def _values(client: Client, options: argparse.Namespace, members: tuple[Member, ...]) -> dict[str, Any]:
    """Return the members that the command line names, as the API takes them."""
    texts = {one: getattr(options, f"member_{one.name}", None) for one in members}
    return {one.name: await _value(client, one, text) for one, text in texts.items() if text is not None}


async def _value(client: Client, member: Member, text: str) -> Any:
    if text == _NONE:
        return member.none
    if member.kind in NOUNS:
        return await id_of(client, NOUNS[member.kind], text)
    try:
        return _READERS[member.kind](text)
    except (ValueError, KeyError):
        name = member.name.replace("_", "-")
        raise ClientError(f"--{name}: `{text}` is no {_WANTED.get(member.kind, member.kind)}.") from None


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def _secret(text: str) -> str:
    return ask_secret("Secret") if text == _ASKED else text


def _time(text: str) -> int:
    if text.isdecimal():
        return int(text)
    found = datetime.fromisoformat(text)
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "text": str, "secret": _secret, "number": _number, "flag": lambda text: _FLAGS[text.lower()],
    "texts": lambda text: [one.strip() for one in text.split(",") if one.strip()], "json": json.loads, "time": _time,
}  # fmt: skip
_WANTED: Final = {"flag": "true or false", "json": "JSON", "time": "time"}
