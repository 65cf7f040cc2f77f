"""Jobs: list them, follow one, cancel one."""

import argparse
import json
import sys
from typing import Any, Final

from client import Client, ClientError
from output import print_table

_COLUMNS: Final = ("id", "status", "model", "created_at", "tokens", "cost")


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add = commands.add_parser("jobs", help="list jobs, newest first")
    add.add_argument("--status", action="append", help="only these; may be repeated")
    add.add_argument("--model")
    add.add_argument("--batch")
    add.add_argument("--limit", type=int, default=20, help="at most so many, 1 to 100 (20)")
    add.set_defaults(command=list_jobs)
    add = commands.add_parser("tail", help="print what a job says while it runs; text of a stream as it comes")
    add.add_argument("job")
    add.set_defaults(command=tail)
    add = commands.add_parser("cancel", help="cancel a job or a batch")
    add.add_argument("id")
    add.set_defaults(command=cancel)


async def list_jobs(client: Client, options: argparse.Namespace) -> int:
    """Print a table."""
    query = [("limit", str(options.limit)), *(("status", one) for one in options.status or ())]
    query += [(name, value) for name, value in (("model", options.model), ("batch_id", options.batch)) if value]
    page = await client.ask("GET", "/jobs", params=query)
    used = [job["usage"] or {} for job in page["data"]]
    rows = [
        job | {"tokens": usage.get("total_tokens"), "cost": usage.get("cost")}
        for job, usage in zip(page["data"], used, strict=True)
    ]
    print_table(rows, _COLUMNS)
    return 0


async def tail(client: Client, options: argparse.Namespace) -> int:
    """Print output as text, everything else as a line; returns 0 if the job succeeded."""
    event, status, is_inside = "", "", False
    async for line in client.read(f"/jobs/{options.job}/events"):
        name, _, value = line.decode().partition(": ")
        if name == "event":
            event = value
        elif name == "data" and event:
            status = event.removeprefix("job.")
            print(f"{chr(10) if is_inside else ''}[{event}]")
            is_inside = False
        elif name == "data":
            text = _text_of(json.loads(value))
            sys.stdout.write(text)
            sys.stdout.flush()
            is_inside = is_inside or bool(text)
        elif not line:
            event = ""
    if not status:
        raise ClientError("The job has no events any more.")
    return 0 if status in ("completed", "incomplete") else 1


def _text_of(chunk: Any) -> str:
    """Return the text of one chunk of a stream."""
    if chunk.get("type") == "response.output_text.delta":
        return str(chunk["delta"])
    choices = chunk.get("choices") or []
    return "".join(str((one.get("delta") or {}).get("content") or one.get("text") or "") for one in choices)


async def cancel(client: Client, options: argparse.Namespace) -> int:
    """Cancel and print the new state."""
    kind = "batches" if options.id.startswith("batch_") and not options.id.startswith("batch_req_") else "jobs"
    answer = await client.ask("POST", f"/{kind}/{options.id}/cancel")
    print(answer["status"])
    return 0
