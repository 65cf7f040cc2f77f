"""README and deploy/docs as programs: their code blocks, and a session that runs them as a reader would."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tests.databases import prepared_sqlite
from tests.faults.processes import ROOT, free_port

PAGES: Final = ("README.md", *sorted(f"deploy/docs/{path.name}" for path in (ROOT / "deploy/docs").glob("*.md")))
COMMANDS: Final = ("sh", "python")
KINDS: Final = {*COMMANDS, "output", "console", "yaml", "text"}
"""`sh` and `python` are run; `output`: each line is in what the block before said, `...` is anything; `console`:
commands that cannot run here; `yaml` is read; `text` is a drawing."""
_FENCE: Final = re.compile(r"^ *(```+|~~~+) *(\S*)")
_DONE: Final = "--- this block is done ---"
_PYTHON: Final = f"""
import sys
names = {{"__name__": "__main__"}}
for line in sys.stdin:
    with open(line.strip()) as file:
        code = compile(file.read(), line.strip(), "exec")
    exec(code, names)
    print({_DONE!r}, flush=True)
"""
_BASH: Final = """
set -eo pipefail
curl() { command curl --silent --show-error --max-time 30 $FAIL "$@"; }
"""
_RUN: Final = """#!/usr/bin/env bash
# Stands for scripts/run: starts in the background, in place of what ran before, and returns when it serves.
gone() { ! grep -qs '^State:[[:space:]]*[^Z]' "/proc/$1/status"; }
if [ -f run.pid ]; then
  kill "$(cat run.pid)"
  until gone "$(cat run.pid)"; do sleep 0.05; done
fi
setsid "$PYTHON" -m worker.supervisor >> run.log 2>&1 < /dev/null &
echo $! > run.pid
for _ in {1..400}; do
  curl --fail --silent "$OPENAI_BASE_URL/../health" > health && exit 0
  gone $! && break
  sleep 0.1
done
cat run.log >&2
exit 1
"""
_INSTALLS: Final = re.compile(r'^"\$root/scripts/install".*\n', re.MULTILINE)
_VENV: Final = "$root/.venv/bin/python"


class Block(Struct, frozen=True):
    """A fenced block of a file; `line` is that of its fence."""

    file: str
    line: int
    kind: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def blocks_of(file: str) -> list[Block]:
    """Return the blocks of a file in order."""
    return list(_read((ROOT / file).read_text().splitlines(), file))


def _read(lines: list[str], file: str) -> Iterator[Block]:
    fence, kind, start, text = "", "", 0, list[str]()
    for number, line in enumerate(lines, 1):
        found = _FENCE.match(line)
        if not fence and found:
            fence, kind, start, text = found[1], found[2], number, []
        elif fence and found and line.strip() == fence:
            yield Block(file, start, kind, "\n".join(text) + "\n")
            fence = ""
        elif fence:
            text.append(line)
    assert not fence, f"{file}:{start} has no end"


class Session:
    """A reader with a shell and a Python in one folder; addresses of the text are those of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._addresses = {"127.0.0.1:8080": f"127.0.0.1:{self._port}"}
        for port in (9000, 9001):
            other = str(free_port())
            self._addresses |= {
                f"127.0.0.1:{port}": f"127.0.0.1:{other}",
                f'"127.0.0.1", {port}': f'"127.0.0.1", {other}',
            }
        self._environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLUICE_", "OPENAI_"))
        }
        self._environ |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
            "PYTHON": sys.executable, "OPENAI_BASE_URL": f"http://127.0.0.1:{self._port}/v1", "LINES": "100",
            "SLUICE_PORT": str(self._port),
        }  # fmt: skip
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._make_folder()

    def _make_folder(self) -> None:
        scripts = self._folder / "scripts"
        scripts.mkdir()
        for name, text in (("run", _RUN), ("sluice", _program("sluice")), ("capacity", _program("capacity"))):
            (scripts / name).write_text(text)
            (scripts / name).chmod(0o755)
        (self._folder / "deploy").symlink_to(ROOT / "deploy")
        (self._folder / "tests").symlink_to(ROOT / "tests")
        (self._folder / ".venv").symlink_to(sys.prefix)
        (self._folder / ".sluice").mkdir(mode=0o700)
        (self._folder / ".sluice" / "sluice.db").write_bytes(prepared_sqlite())

    def begin(self, stand_in: str, *, starts: bool) -> None:
        """Begin a page, with a new shell and a new Python; `stand_in` is in the place of all model servers.

        Unless the page itself `starts` an installation, one runs afterwards.
        """
        self._end_processes()
        servers = ("http://127.0.0.1:8000", "http://127.0.0.1:11434", "https://api.openai.com")
        self._addresses |= dict.fromkeys(servers, stand_in)
        if not starts and not (self._folder / "run.pid").exists():
            self.run(Block("start", 0, "sh", "scripts/run\n"), may_fail=False)

    def run(self, block: Block, *, may_fail: bool) -> str:
        """Run a block and return what it said; unless `may_fail`, an error that curl is told is a failure."""
        file = self._folder / f"{Path(block.file).stem}-{block.line}.{block.kind}"
        file.write_text(self.translate(block.text))
        fail = "" if may_fail else "--fail-with-body"
        line = str(file) if block.kind == "python" else f'FAIL={fail}; source {file} < /dev/null; echo "{_DONE}"'
        process = self._processes.get(block.kind) or self._open(block.kind)
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(line + "\n")
            process.stdin.flush()
        said = []
        for line in process.stdout:
            if line.rstrip("\n").endswith(_DONE):
                return "".join(said) + line.rstrip("\n").removesuffix(_DONE)
            said.append(line)
        raise AssertionError(f"{block.place} failed:\n{''.join(said)}")

    def translate(self, text: str) -> str:
        """Return a text with the addresses and the key of this installation."""
        for theirs, ours in self._addresses.items():
            text = text.replace(theirs, ours)
        key = self._folder / ".sluice" / "admin_key"
        return text.replace('"sk-..."', f'"{key.read_text().strip()}"') if key.exists() else text

    def _open(self, kind: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-u", "-c", _PYTHON] if kind == "python" else ["bash", "--norc"]
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = self._processes[kind] = subprocess.Popen(
            command, cwd=self._folder, env=self._environ, text=True, bufsize=1, start_new_session=True, **options
        )
        if kind == "sh":
            assert process.stdin is not None
            process.stdin.write(_BASH)
        return process

    def close(self) -> None:
        """End the installation and all that the blocks have started."""
        pid = self._folder / "run.pid"
        if pid.exists():
            _end(int(pid.read_text()))
        self._end_processes()

    def _end_processes(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]  # both are pipes
        self._processes.clear()


def _program(name: str) -> str:
    """Return a script of this repository that installs nothing."""
    text = _INSTALLS.sub("", (ROOT / "scripts" / name).read_text())
    return text.replace(_VENV, sys.executable).replace('$(cd "$(dirname "$0")/.." && pwd)', str(ROOT))


def _end(pid: int) -> None:
    """End a process that may be no child of this one, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    status, deadline = Path(f"/proc/{pid}/status"), time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if "State:\tZ" not in status.read_text():
                time.sleep(0.02)
                continue
        return
    raise AssertionError(f"{pid} does not end")


def is_said(line: str, output: str) -> bool:
    """Return whether a line of an `output` block, in which `...` is anything, is in what was said."""
    return re.search(".*".join(map(re.escape, line.strip().split("..."))), output) is not None
