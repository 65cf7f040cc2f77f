"""scripts/sluice: the client for people who like terminals."""

import asyncio
import json
import os
import subprocess
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
    unwritten, _, reason = await run(sluice, "results", batch_id, "--output", str(tmp_path / "nowhere" / "out.jsonl"))

    assert (code, errors) == (0, "")
    assert "5/5" in shown
    assert "completed: " in shown
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (fetched, [line["custom_id"] for line in lines]) == (0, [f"r{n}" for n in range(5)])
    assert printed == (tmp_path / "out.jsonl").read_text()
    assert unwritten == 1
    assert "No such file" in reason
    assert "Traceback" not in reason


async def test_results_that_cannot_be_had_leave_the_file_as_it_was(sluice: Installation, tmp_path: Path) -> None:
    kept = tmp_path / "out.jsonl"
    kept.write_text("earlier results\n")

    code, _, errors = await run(sluice, "results", "batch_nobody", "--output", str(kept))

    assert (code, errors) == (1, "404: No batch `batch_nobody`.\n")
    assert kept.read_text() == "earlier results\n"


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


async def test_a_list_of_jobs_shows_models_as_they_are_one_job_a_line(sluice: Installation) -> None:
    name = "br[/b]x[red] " + "long " * 12
    await sluice.add_model(name.strip())
    done = (await sluice.chat(model=name.strip())).headers["x-job-id"]

    code, listed, errors = await run(sluice, "jobs")

    assert (code, errors) == (0, "")
    (line,) = [one for one in listed.splitlines() if done in one]
    assert name in line


async def test_a_job_is_cancelled(sluice: Installation) -> None:
    response = await sluice.chat(simulator={"delay_ms": 9000}, headers={"Prefer": "respond-async"})

    code, _, _ = await run(sluice, "cancel", response.headers["x-job-id"])
    followed, shown, _ = await run(sluice, "tail", response.headers["x-job-id"])

    assert code == 0
    assert (followed, shown.splitlines()[-1]) == (1, "[job.cancelled]")


async def test_without_a_url_the_client_goes_where_the_settings_let_the_api_listen(sluice: Installation) -> None:
    done = (await sluice.chat()).headers["x-job-id"]
    port = sluice.url.rpartition(":")[2]
    environ = {name: value for name, value in os.environ.items() if name != "OPENAI_BASE_URL"}
    environ |= {"SLUICE_HOST": "0.0.0.0", "SLUICE_PORT": port, "OPENAI_API_KEY": ADMIN_KEY}

    process = await asyncio.create_subprocess_exec(
        sys.executable, str(MAIN), "jobs", env=environ, stdout=asyncio.subprocess.PIPE
    )
    listed, _ = await process.communicate()

    assert process.returncode == 0
    assert done in listed.decode()


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:8080/v1"),
        ({"SLUICE_PORT": "9000"}, "http://127.0.0.1:9000/v1"),
        ({"SLUICE_HOST": "10.1.2.3", "SLUICE_PORT": "9000"}, "http://10.1.2.3:9000/v1"),
        ({"SLUICE_HOST": "0.0.0.0"}, "http://127.0.0.1:8080/v1"),
        ({"SLUICE_HOST": "::"}, "http://[::1]:8080/v1"),
        ({"SLUICE_HOST": "fe80::1%eth0"}, "http://[fe80::1%eth0]:8080/v1"),
        ({"SLUICE_HOST": "sluice.example", "SLUICE_PORT": ""}, "http://sluice.example:8080/v1"),
        ({"SLUICE_PORT": "9000", "OPENAI_BASE_URL": "https://sluice.example/v1"}, "https://sluice.example/v1"),
        ({"SLUICE_PORT": "9000", "OPENAI_BASE_URL": ""}, "http://127.0.0.1:9000/v1"),
    ],
)
def test_help_tells_the_url_that_is_used(environ: dict[str, str], url: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLUICE_", "OPENAI_"))}
    command = [sys.executable, str(MAIN), "--help"]
    done = subprocess.run(command, env=kept | {"COLUMNS": "200"} | environ, capture_output=True, text=True, check=True)

    assert f"of the API, with /v1 ({url})" in done.stdout


@pytest.mark.parametrize("url", ["nonsense", "http://", "localhost:8080/v1", "http://[", "ftp://sluice.example/v1"])
def test_a_url_that_is_none_is_told_as_such(url: str) -> None:
    command = [sys.executable, str(MAIN), "--url", url, "--key", "k", "jobs"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"`{url}` is no URL such as http://127.0.0.1:8080/v1; see --url and OPENAI_BASE_URL.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("watch", "batch_nobody"), 1, "404: No batch `batch_nobody`."),
        (("submit", "nowhere.jsonl"), 1, "No such file"),
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
