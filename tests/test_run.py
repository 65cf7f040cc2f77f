"""scripts/run as a newcomer uses it, and what it says when it cannot start."""

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from tests.faults.processes import ROOT, Processes, free_port
from tests.installation import FIRST_MODELS
from tests.providers import ScriptedProvider
from tests.waiting import eventually


def environment(folder: Path, **settings: Any) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    values = {"data_dir": folder, "port": free_port()} | settings
    return kept | {f"SLUICE_{name.upper()}": str(value) for name, value in values.items()}


@contextmanager
def running(environ: dict[str, str], cwd: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run scripts/run; it is ended by SIGTERM at the latest when the test is over."""
    process = subprocess.Popen(
        [ROOT / "scripts" / "run"], env=environ, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def failed_start(environ: dict[str, str], cwd: Path) -> str:
    """Run scripts/run, which must end with code 1 within 20 s; returns what it said."""
    done = subprocess.run(
        [ROOT / "scripts" / "run"], env=environ, cwd=cwd, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """Return the line of the output that contains the text."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"the output ended without {text!r}")


async def test_the_first_chat_works_without_any_setting(tmp_path: Path) -> None:
    environ = environment(tmp_path / "data")
    with running(environ, tmp_path) as process:
        url = read_until(process, "listens on").split()[-1]
        where = read_until(process, "key (new)").split()[-1]
        key = Path(where).read_text().strip()

        async with ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:
            body = {"model": "simulator", "messages": [{"role": "user", "content": "Hello"}]}
            async with http.post(f"{url}/v1/chat/completions", json=body) as response:
                answer = await response.json()

        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert answer["choices"][0]["message"]["content"]
    key_file = tmp_path / "data" / "admin_key"
    assert key_file.read_text().strip() == key
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


async def test_a_second_start_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with running(environment(tmp_path / "data"), tmp_path) as process:
        read_until(process, "listens on")

        said = failed_start(environment(tmp_path / "data"), tmp_path)

    assert "already running" in said


def test_a_typo_in_a_setting_stops_the_start(tmp_path: Path) -> None:
    assert "SLUICE_PROT" in failed_start(environment(tmp_path / "data", prot=1), tmp_path)


def test_a_port_in_use_stops_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        said = failed_start(environment(tmp_path / "data", port=port), tmp_path)

    assert str(port) in said


def test_a_redis_that_does_not_answer_stops_the_start(tmp_path: Path) -> None:
    environ = environment(tmp_path / "data", redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert "SLUICE_REDIS_URL" in failed_start(environ, tmp_path)


def test_a_database_that_does_not_answer_stops_the_start(tmp_path: Path) -> None:
    environ = environment(tmp_path / "data", database_url=f"postgresql://u:hidden@127.0.0.1:{free_port()}/d")
    said = failed_start(environ, tmp_path)
    assert "database" in said
    assert "hidden" not in said


def test_an_upstream_that_does_not_answer_stops_the_start(tmp_path: Path) -> None:
    environ = environment(tmp_path / "data", upstream_url=f"http://127.0.0.1:{free_port()}")
    assert "SLUICE_UPSTREAM_URL" in failed_start(environ, tmp_path)


async def test_the_models_of_an_upstream_become_models_here(tmp_path: Path, provider: ScriptedProvider) -> None:
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    processes = Processes(folder, upstream_url=provider.url + "v1", upstream_key="sk-upstream")
    try:
        await processes.start()
        async with ClientSession(processes.url, headers=processes.headers) as http:
            models = await (await http.get("/v1/models")).json()
            body = {"model": "org/model-b", "messages": [{"role": "user", "content": "Hi"}]}
            answer = await (await http.post("/v1/chat/completions", json=body)).json()
    finally:
        await processes.close()

    assert [model["id"] for model in models["data"]] == [*FIRST_MODELS, "model-a", "org/model-b"]
    assert answer["model"] == "org/model-b"
    assert provider.headers[-1]["Authorization"] == "Bearer sk-upstream"
    assert provider.requests[-1]["model"] == "org/model-b"


async def test_api_and_worker_are_replaced_when_they_die(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    processes = Processes(folder)
    try:
        await processes.start()
        before = processes.kill("-m api") + processes.kill("-m worker")
        await eventually(lambda: processes.children("-m api") and processes.children("-m worker"))
        await eventually(processes.serves)
        after = processes.children("-m")
    finally:
        await processes.close()

    assert not set(before) & set(after)
