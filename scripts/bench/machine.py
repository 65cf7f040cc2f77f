"""Start, pin, weigh and stop processes; everything is read from /proc.  Linux only."""

import ctypes
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_ALLOWED = sorted(os.sched_getaffinity(0))
ALL_CORES, SERVER_CORES, LOAD_CORES = frozenset(_ALLOWED), frozenset(_ALLOWED[:1]), frozenset(_ALLOWED[1:2])
_KINDS = {"-m api": "api", "-m worker ": "worker", "redis-server": "redis", "postgres": "postgres"}
"""From words of a command line to what the process is."""
NOT_INHERITED = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_PR_SET_PDEATHSIG = 1


class BenchError(Exception):
    """A measurement that must not be believed, or cannot be made; the message says why."""


@dataclass(frozen=True)
class Stat:
    """One process as the kernel counts it; `cpu_s` includes children that have ended and were waited for."""

    pid: int
    parent: int
    cpu_s: float
    rss_mb: float
    started_ticks: int


def start(
    command: Sequence[str],
    cores: Iterable[int],
    log: Path,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a command on these cores, its output in a file; it gets SIGTERM if this process dies."""
    numbers = set(cores)

    def pin() -> None:
        os.sched_setaffinity(0, numbers)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))

    kept = {name: value for name, value in os.environ.items() if name.upper() not in NOT_INHERITED}
    kept = {name: value for name, value in kept.items() if not name.startswith("SLUICE_")}
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=kept | dict(environ or {}),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=pin,  # noqa: PLW1509  # no threads run here when processes are started
        )


def stop(process: "subprocess.Popen[bytes]", grace_s: float = 45) -> None:
    """Ask the process to end, wait, then kill what is left of the tree it had."""
    members = tree([process.pid])
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    for member in members:
        left = read_stat(member.pid)
        if left is not None and left.started_ticks == member.started_ticks:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
    process.wait()


def read_stat(pid: int) -> Stat | None:
    """Return the process, or None if there is none with this number."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    cpu_ticks = sum(int(field) for field in fields[11:15])
    rss_mb = int(fields[21]) * resource.getpagesize() / 2**20
    return Stat(pid, int(fields[1]), cpu_ticks / TICKS_PER_S, rss_mb, int(fields[19]))


def tree(roots: Iterable[int]) -> list[Stat]:
    """Return the roots and all their descendants."""
    every = [stat for entry in PROC.iterdir() if entry.name.isdigit() and (stat := read_stat(int(entry.name)))]
    wanted, size = set(roots), -1
    while size != len(wanted):
        size = len(wanted)
        wanted |= {stat.pid for stat in every if stat.parent in wanted}
    return [stat for stat in every if stat.pid in wanted]


def cpu_s(roots: Iterable[int]) -> float:
    """Return the CPU seconds that the trees have used so far."""
    return sum(stat.cpu_s for stat in tree(roots))


def cpu_s_by_kind(roots: Iterable[int]) -> dict[str, float]:
    """Return the same by what the processes are: api, worker, redis, postgres, other."""
    seconds: dict[str, float] = defaultdict(float)
    for stat in tree(roots):
        command = _command_line(stat.pid)
        kind = next((kind for words, kind in _KINDS.items() if words in command), "other")
        seconds[kind] += stat.cpu_s
    return seconds


def find(roots: Iterable[int], words: str) -> list[Stat]:
    """Return the processes of the trees whose command line has these words."""
    return [stat for stat in tree(roots) if words in _command_line(stat.pid)]


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return (PROC / str(pid) / "cmdline").read_text().replace("\0", " ")
    return ""


def pin_tree(roots: Iterable[int], cores: Iterable[int]) -> None:
    """Move running processes, and so what they start from now on, to these cores."""
    for stat in tree(roots):
        for thread in (PROC / str(stat.pid) / "task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), set(cores))


def busy_s() -> float:
    """Return the seconds that all cores have worked, or were taken away by the host, since the machine started."""
    ticks = [int(tick) for tick in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / TICKS_PER_S


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def raise_file_limit() -> int:
    """Allow as many open files as the system permits, here and in what is started later; return the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def wait_until(what: str, is_so: Callable[[], bool], within_s: float, pause_s: float = 0.1) -> None:
    """Return when it is so; raises `BenchError` if it does not come to that."""
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {within_s:.0f} s")
        time.sleep(pause_s)


def describe() -> dict[str, str | int]:
    """Return what the figures depend on."""
    lines = (PROC / "cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    memory_kb = int((PROC / "meminfo").read_text().split()[1])
    return {
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "memory_gb": round(memory_kb / 2**20),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def say(text: str) -> None:
    """Report progress beside the result."""
    print(text, file=sys.stderr, flush=True)
