"""scripts/sluice: the client for people who like terminals."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.batches import chat_line, to_jsonl
from tests.installation import ADMIN_KEY, Installation

MAIN = Path(__file__).parent.parent.parent / "scripts" / "cli" / "main.py"


async def run(sluice: Installation, *arguments: str) -> tuple[int, str, str]:
    """Run a command; returns exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(MAIN), "--url", f"{sluice.url}/v1", "--key", ADMIN_KEY, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def test_a_file_is_submitted_watched_and_fetched(sluice: Installation, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(to_jsonl(*(chat_line(f"r{n}") for n in range(5))))

    code, shown, errors = await run(sluice, "submit", str(tmp_path / "in.jsonl"))
    batch_id = shown.split()[0]
    fetched, _, _ = await run(sluice, "results", batch_id, "--output", str(tmp_path / "out.jsonl"))
    _, printed, _ = await run(sluice, "results", batch_id)

    assert (code, errors) == (0, "")
    assert "5/5" in shown
    assert "completed: " in shown
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (fetched, [line["custom_id"] for line in lines]) == (0, [f"r{n}" for n in range(5)])
    assert printed == (tmp_path / "out.jsonl").read_text()


async def test_a_refused_file_is_an_error_with_its_lines(sluice: Installation, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(to_jsonl(chat_line("a"), chat_line("a")))

    code, shown, _ = await run(sluice, "submit", str(tmp_path / "in.jsonl"))

    assert code == 1
    assert "line 2: custom_id `a` was used on line 1. (duplicate_custom_id)" in shown


async def test_jobs_are_listed_and_followed(sluice: Installation) -> None:
    done = (await sluice.chat()).headers["x-job-id"]
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    body |= {"simulator": {"text": "Good morning to all of you.", "chunk_delay_ms": 20}}
    job = await (await sluice.post("/v1/jobs", {"endpoint": "/v1/chat/completions", "body": body})).json()

    code, shown, _ = await run(sluice, "tail", job["id"])
    _, listed, _ = await run(sluice, "jobs", "--limit", "5")
    _, filtered, _ = await run(sluice, "jobs", "--status", "failed")

    assert code == 0
    assert "Good morning to all of you." in shown
    assert shown.splitlines()[-1] == "[job.completed]"
    assert done in listed
    assert job["id"] not in filtered


async def test_a_job_is_cancelled(sluice: Installation) -> None:
    response = await sluice.chat(simulator={"delay_ms": 9000}, headers={"Prefer": "respond-async"})

    code, _, _ = await run(sluice, "cancel", response.headers["x-job-id"])
    followed, shown, _ = await run(sluice, "tail", response.headers["x-job-id"])

    assert code == 0
    assert (followed, shown.splitlines()[-1]) == (1, "[job.cancelled]")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("watch", "batch_nobody"), 1, "404: No batch `batch_nobody`."),
        (("submit", "nowhere.jsonl"), 1, "No such file"),
        (("results", "batch_nobody", "--output", "nowhere/out.jsonl"), 1, "No such file"),
        (("nothing",), 2, "invalid choice"),
    ],
)
async def test_mistakes_are_told_in_a_line(
    sluice: Installation, arguments: tuple[str, ...], code: int, message: str
) -> None:
    found, _, errors = await run(sluice, *arguments)

    assert found == code
    assert message in errors
    assert "Traceback" not in errors
