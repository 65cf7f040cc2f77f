"""The request log: what was asked, who answered, how long it took and what it cost."""

import argparse
from datetime import UTC, datetime
from typing import Any, Final

from client import Client, ClientError
from output import print_json, print_object, print_table

_COLUMNS: Final = (
    "created_at", "id", "status", "http_status", "error_code", "model", "provider_model", "latency_ms", "prompt_tokens",
    "completion_tokens", "cost", "user_email", "organization_name", "key_name",
)  # fmt: skip
_FILTERS: Final = (
    "model", "endpoint", "error_code", "http_status", "provider_model", "user", "organization", "key_name", "job_id",
    "batch_id", "request_id", "min_latency_ms", "min_tokens", "min_cost",
)  # fmt: skip
_NAMED: Final = {"key_name": "key"}
"""Options that are called otherwise than their filter: `--key` is the caller's own."""


def add_commands(nouns: Any) -> None:
    """Add `logs`."""
    text = "attempts and refused requests, newest first; with an id, one of them"
    logs = nouns.add_parser("logs", help=text, allow_abbrev=False)  # `--key SECRET` must be no `--key-name`
    logs.add_argument("id", nargs="?", help="rlog_..: that one, with request and response as far as they may be shown")
    logs.add_argument("--since", help="from this time on, UTC, such as 2026-11-01 or 2026-11-01T12:30")
    logs.add_argument("--until", help="before this time, UTC")
    logs.add_argument("--status", action="append", help="completed, failed, refused, ..; may be repeated")
    for name in _FILTERS:
        logs.add_argument(f"--{name.replace('_', '-')}")
    logs.add_argument("--limit", type=int, default=20, help="at most so many, 1 to 1000 (20)")
    logs.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    logs.set_defaults(command=show_logs)


async def show_logs(client: Client, options: argparse.Namespace) -> int:
    """Print one line per row, or all of one row."""
    if options.id is not None:
        found = await client.ask("GET", f"/request_logs/{options.id}", params={"include": "request,response"})
        (print_json if options.as_json else print_object)(found)
        return 0
    query = [("limit", str(options.limit)), *(("status", one) for one in options.status or ())]
    query += [(_NAMED.get(name, name), value) for name in _FILTERS if (value := getattr(options, name)) is not None]
    for name, text in (("created_after", options.since), ("created_before", options.until)):
        query += [] if text is None else [(name, _seconds(text))]
    rows = (await client.ask("GET", "/request_logs", params=query))["data"]
    if options.as_json:
        print_json(rows)
    else:
        print_table(rows, _COLUMNS)
    return 0


def _seconds(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ClientError(f"`{text}` is no time such as 2026-11-01T12:30.") from None
    return str(int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()))
