"""Batches: submit a file, watch it run, fetch its results."""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from client import Client, ClientError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_OVER = ("completed", "failed", "expired", "cancelled")
_PIECE_BYTES = 1024 * 1024
_LOOK_S = 0.5


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    add = commands.add_parser("submit", help="send a JSONL file as a batch, and watch it unless told otherwise")
    add.add_argument("file", type=Path, help="one request per line, as OpenAI's batches have them")
    add.add_argument("--endpoint", help="of all lines (that of the first one)")
    add.add_argument("--window", default="24h", help="completion window (24h)")
    add.add_argument("--start", choices=("asap", "low_carbon"), default="asap", help="when it may begin (asap)")
    add.add_argument("--no-watch", action="store_true", help="only print the id of the batch")
    add.set_defaults(command=submit)
    add = commands.add_parser("watch", help="show a batch while it runs")
    add.add_argument("batch")
    add.set_defaults(command=watch)
    add = commands.add_parser("results", help="print the results of a batch in the order of its input")
    add.add_argument("batch")
    add.add_argument("--output", "-o", type=Path, help="write them here")
    add.add_argument("--follow-retries", action="store_true", help="of each line the newest outcome")
    add.set_defaults(command=results)


async def submit(client: Client, options: argparse.Namespace) -> int:
    """Upload the file, make a batch of it, and watch it."""
    endpoint = options.endpoint or _endpoint_of(options.file)
    form = aiohttp.FormData()
    form.add_field("purpose", "batch")
    form.add_field("file", _pieces(options.file), filename=options.file.name)
    file = await client.ask("POST", "/files", data=form)
    body = {
        "input_file_id": file["id"], "endpoint": endpoint, "completion_window": options.window, "start": options.start,
    }  # fmt: skip
    batch = await client.ask("POST", "/batches", json=body)
    print(batch["id"])
    sys.stdout.flush()
    options.batch = batch["id"]
    return 0 if options.no_watch else await watch(client, options)


def _endpoint_of(file: Path) -> str:
    """Return the `url` of the first line."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            first = next(line for line in lines if line.strip())
        return str(json.loads(first)["url"])
    except OSError as error:
        raise ClientError(str(error)) from error
    except (StopIteration, ValueError, KeyError, TypeError):
        raise ClientError(f"{file}: the first line is no request; see --endpoint.") from None


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE_BYTES):
            yield piece


async def watch(client: Client, options: argparse.Namespace) -> int:
    """Show a bar until the batch is over; returns 0 if every line succeeded."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns) as progress:
        bar = progress.add_task("validating", total=None, failed=0)
        while True:
            batch = await client.ask("GET", f"/batches/{options.batch}")
            counts = batch["request_counts"]
            progress.update(
                bar, description=batch["status"], total=counts["total"] or None,
                completed=counts["completed"] + counts["failed"], failed=counts["failed"],
            )  # fmt: skip
            if batch["status"] in _OVER:
                break
            await asyncio.sleep(_LOOK_S)
    _report(batch)
    return 0 if batch["status"] == "completed" and not counts["failed"] else 1


def _report(batch: Any) -> None:
    usage, extras = batch["usage"], batch["sluice"]
    print(f"{batch['status']}: {usage['total_tokens']} tokens, cost {extras['cost']:.6f}")
    for error in (batch["errors"] or {"data": []})["data"]:
        where = "" if error["line"] is None else f"line {error['line']}: "
        print(f"{where}{error['message']} ({error['code']})")
    for name in ("output_file_id", "error_file_id"):
        if batch[name]:
            print(f"{name}: {batch[name]}")


async def results(client: Client, options: argparse.Namespace) -> int:
    """Print one line of JSON per result; what has not ended yet is left out."""
    query = {"follow_retries": "true"} if options.follow_retries else {}
    lines = client.read(f"/batches/{options.batch}/results", params=query)
    first = await anext(lines, None)  # a refusal must not cost the file that is there
    try:
        output = sys.stdout.buffer if options.output is None else options.output.open("wb")
    except OSError as error:
        raise ClientError(str(error)) from error
    with output:
        if first is not None:
            output.write(first + b"\n")
        async for line in lines:
            output.write(line + b"\n")
    return 0
