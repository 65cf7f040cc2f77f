"""Every command and every code block of README and deploy/docs is what a reader can use."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from aiohttp import web

from shared.batches.schemas import ENDPOINTS
from shared.settings import Settings
from tests.faults.processes import ROOT
from tests.guides import COMMANDS, KINDS, PAGES, Block, Session, blocks_of, is_said
from tests.providers import ScriptedProvider

EVERY_BLOCK: Final = [block for page in PAGES for block in blocks_of(page)]
WITH_COMMANDS: Final = [page for page in PAGES if any(block.kind in COMMANDS for block in blocks_of(page))]
ELSEWHERE: Final = {
    "docker", "kubectl", "systemctl", "cp", "useradd", "install", "scripts/bench/run", "scripts/capacity",
    "scripts/test", "pg_basebackup", "psql", "touch", "chmod", "systemd-run", "/opt/sluice/scripts/install",
}  # fmt: skip
"""First words of commands that need what a test machine does not have, or that take too long."""
READ_OPTIONS: Final = """
import {module}, sys
for line in sys.stdin:
    sys.argv[1:] = line.split()
    {module}.read_options()
"""
UPSTREAM_MODELS: Final = ["llama3.2", "meta-llama/Llama-3.3-70B-Instruct", "gpt-5.6-luna"]


def of_kind(*kinds: str) -> Any:
    blocks = [block for block in EVERY_BLOCK if block.kind in kinds]
    return pytest.mark.parametrize("block", blocks, ids=lambda block: block.place)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_known_kind(page: str) -> None:
    assert [block.place for block in blocks_of(page) if block.kind not in KINDS] == []


def starts(page: str) -> bool:
    """Return whether the page begins with an installation of its own, with settings of its own."""
    return "scripts/run" in next(block.text for block in blocks_of(page) if block.kind in COMMANDS)


@pytest.fixture(scope="module")
def common_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One installation for all pages that do not start one, since a start takes seconds."""
    session = Session(tmp_path_factory.mktemp("docs"))
    yield session
    session.close()


@pytest.fixture
def own_session(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path)
    yield session
    session.close()


@pytest.fixture
def session(page: str, request: pytest.FixtureRequest) -> Session:
    opened: Session = request.getfixturevalue("own_session" if starts(page) else "common_session")
    return opened


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", WITH_COMMANDS)
async def test_the_commands_of_a_page_do_what_it_says(page: str, session: Session, provider: ScriptedProvider) -> None:
    provider.models = list(UPSTREAM_MODELS)
    provider.routes["/v1/embeddings"] = embed
    await asyncio.to_thread(session.begin, provider.url.rstrip("/"), starts=starts(page))
    blocks = blocks_of(page)
    said = ""
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.kind in COMMANDS:
            is_checked = following is not None and following.kind == "output"
            said = await asyncio.to_thread(session.run, block, may_fail=is_checked)
        elif block.kind == "output":
            for line in session.translate(block.text).splitlines():
                assert is_said(line, said), f"{block.place}: {line!r} was not said, but:\n{said}"


async def embed(_request: web.Request) -> web.Response:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, -2.0]}]
    return web.json_response({"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 3}})


@of_kind("console")
def test_what_cannot_run_here_names_what_there_is(block: Block) -> None:
    settings = {f"SLUICE_{name.upper()}" for name in Settings.__struct_fields__}
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        command = next((word for word in words if "=" not in word and word != "sudo"), None)
        assert command is None or command in ELSEWHERE, f"{block.place}: {command} could be run"
        for word in words:
            path = word.partition("=")[2] or word
            if path.startswith(("deploy/", "scripts/", "tests/")) and not path.endswith((".env", "secrets.env")):
                assert (ROOT / path).exists(), f"{block.place}: {path}"
        assert set(re.findall(r"SLUICE_[A-Z_]+", line)) <= settings, block.place


@pytest.mark.parametrize(
    ("program", "module"), [("scripts/bench/run", "bench/bench"), ("scripts/capacity", "planning/main")]
)
def test_a_program_that_measures_has_the_options_that_are_named(program: str, module: str) -> None:
    lines = [line for block in EVERY_BLOCK if block.kind == "console" for line in block.text.splitlines()]
    options = [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]
    folder, _, name = module.partition("/")

    done = subprocess.run(
        [sys.executable, "-c", READ_OPTIONS.format(module=name)], input="\n".join(options), capture_output=True,
        text=True, check=False, cwd=ROOT / "scripts" / folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    assert len(options) > 1
    assert done.returncode == 0, done.stderr


@of_kind("yaml")
def test_a_document_is_yaml(block: Block) -> None:
    assert yaml.safe_load(block.text)


@of_kind("text")
def test_a_tree_names_folders_there_are(block: Block) -> None:
    folders = re.findall(r"^([\w-]+/)", block.text, re.MULTILINE)

    assert [name for name in folders if not (ROOT / name).is_dir()] == []


def test_the_numbers_are_those_that_were_measured() -> None:
    measured = set(re.findall(r"\d[\d,.]*\d|\d", (ROOT / "scripts/bench/RESULTS.md").read_text()))
    text = (ROOT / "deploy/docs/numbers.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]

    numbers = {number for row in rows for number in re.findall(r"\d[\d,.]*\d|\d", row)}
    assert numbers
    assert numbers - measured == set()


def test_decisions_are_numbered_one_after_the_other() -> None:
    files = sorted((ROOT / "shared" / "decisions").glob("*.md"))

    assert [file.name[:5] for file in files] == [f"{number:04}-" for number in range(1, len(files) + 1)]
    for file in files:
        assert file.read_text().startswith(f"# {file.name[:4]} "), file.name


def test_a_command_that_fails_fails_the_page(own_session: Session) -> None:
    run = partial(own_session.run, may_fail=False)
    assert run(Block("a.md", 1, "sh", "NAME=x\nprintf $NAME")) == "x"
    assert run(Block("a.md", 2, "python", "name = 'y'\nprint(name)")) == "y\n"
    with pytest.raises(AssertionError, match=r"a\.md:3 failed"):
        run(Block("a.md", 3, "sh", "cat nothing | cat"))
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run(Block("a.md", 4, "python", "1 / 0"))


def test_the_readme_names_every_route_of_batches() -> None:
    (told,) = [one for one in (ROOT / "README.md").read_text().split("\n\n") if one.startswith("A line is `{")]

    assert {route for route in ENDPOINTS if route in told} == set(ENDPOINTS)
