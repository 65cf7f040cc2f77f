"""What administrators only read: health of providers, usage, the audit log."""

import argparse
from typing import Any

from client import Client
from lookup import id_of, read_page
from nouns import ORGANIZATIONS, ROUTERS, USERS
from output import print_json, print_table

_HEALTH = (
    "router",
    "id",
    "model_name",
    "status",
    "breaker",
    "failures",
    "running",
    "limit",
    "ttft_p95_ms",
    "latency_p95_ms",
)
_AUDIT = ("created", "actor_email", "action", "object_type", "object_id", "request_id")
_SUMS = ("requests", "attempts", "prompt_tokens", "completion_tokens", "cost", "charge", "kwh", "gco2eq", "coverage")
_GROUPS = {
    "organization": ("organization_id", "organization_name"), "user": ("user_id", "user_email"),
    "key": ("key_id", "key_name"), "model": ("model",), "provider": ("provider_id", "provider_name"),
}  # fmt: skip
_ALL = 10**6


def add_commands(nouns: Any) -> None:
    """Add the nouns of this module."""
    add = _noun(nouns, "health", "how providers are: light, breaker, failures, attempts, latency", show_health)
    add.add_argument("router", nargs="?", help="id or name (all)")
    add = _noun(nouns, "usage", "tokens, money, energy and CO2e, from the ledger", show_usage)
    add.add_argument("--since", help="first day, UTC (the first of this month)")
    add.add_argument("--until", help="last day, UTC (today)")
    add.add_argument("--period", choices=("day", "month", "total"), default="total", help="per line (total)")
    add.add_argument("--by", action="append", choices=tuple(_GROUPS), help="may be repeated")
    add.add_argument("--model")
    add.add_argument("--user", help="id or email")
    add.add_argument("--organization", help="id or name")
    add = _noun(nouns, "audit", "who changed what, newest first", list_audit)
    add.add_argument("--object-type", help="organization, role, user, token, router, provider, ..")
    add.add_argument("--object-id")
    add.add_argument("--limit", type=int, default=20, help="at most so many, 1 to 100 (20)")


def _noun(nouns: Any, name: str, text: str, command: Any) -> argparse.ArgumentParser:
    add: argparse.ArgumentParser = nouns.add_parser(name, help=text)
    add.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    add.set_defaults(command=command)
    return add


async def show_health(client: Client, options: argparse.Namespace) -> int:
    """Print one line per provider; returns 1 if one of them is red."""
    if options.router is None:
        ids = [row["id"] for row in (await read_page(client, ROUTERS, _ALL, {}))[0]]
    else:
        ids = [await id_of(client, ROUTERS, options.router)]
    found = [await client.ask("GET", f"{ROUTERS.path}/{number}/health") for number in ids]
    if options.as_json:
        print_json(found)
    else:
        print_table([{"router": one["name"], **provider} for one in found for provider in one["providers"]], _HEALTH)
    return 1 if any(provider["status"] == "red" for one in found for provider in one["providers"]) else 0


async def show_usage(client: Client, options: argparse.Namespace) -> int:
    """Print one line per period and group, and their sum."""
    query = [("period", options.period), *(("group_by", one) for one in options.by or ())]
    query += [(name, getattr(options, name)) for name in ("since", "until", "model") if getattr(options, name)]
    for name, noun in (("user", USERS), ("organization", ORGANIZATIONS)):
        if text := getattr(options, name):
            query.append((f"{name}_id", str(await id_of(client, noun, text))))
    report = await client.ask("GET", "/admin/usage/report", params=query)
    if options.as_json:
        print_json(report)
    else:
        lines = [*report["data"], {**report["total"], "period": "sum"}]
        print_table([_flat(line) for line in lines], _usage_columns(options))
    return 0


def _flat(line: Any) -> dict[str, Any]:
    return {**line, "gco2eq": line["gco2eq"]["total"]}


def _usage_columns(options: argparse.Namespace) -> list[str]:
    return ["period", *(column for name in options.by or () for column in _GROUPS[name]), *_SUMS]


async def list_audit(client: Client, options: argparse.Namespace) -> int:
    """Print one line per change."""
    query = {name: value for name in ("object_type", "object_id") if (value := getattr(options, name))}
    page = await client.ask("GET", "/admin/audit", params=query | {"limit": str(options.limit)})
    if options.as_json:
        print_json(page["data"])
    else:
        print_table(page["data"], _AUDIT)
    return 0
