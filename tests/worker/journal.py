"""What job functions did, in a file: it outlives every process and every loss of data in Redis."""

import os
import time
from pathlib import Path
from typing import Any

from msgspec import Struct, json


class Line(Struct, frozen=True):
    """One event of one run."""

    event: str
    job_id: str
    job_try: int
    pid: int
    at: float
    label: str = ""


class Journal:
    """Lines appended by any number of processes, each in one write; and the gates at which jobs wait."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, ctx: dict[str, Any], label: str = "") -> None:
        line = Line(event, ctx.get("job_id", ""), ctx.get("job_try", 0), os.getpid(), time.time(), label)
        with self.path.open("ab", buffering=0) as file:
            file.write(json.encode(line) + b"\n")

    def lines(self, event: str, *, pid: int | None = None) -> list[Line]:
        return [line for line in self.all() if line.event == event and pid in (None, line.pid)]

    def ids(self, event: str, *, pid: int | None = None) -> list[str]:
        return [line.job_id for line in self.lines(event, pid=pid)]

    def all(self) -> list[Line]:
        if not self.path.exists():
            return []
        return [json.decode(text, type=Line) for text in self.path.read_bytes().splitlines()]

    def most_at_once(self, prefix: str) -> int:
        """Return the largest number of jobs with this prefix that ran at the same time."""
        most = running = 0
        for line in self.all():  # in the order of the events: each is appended when it happens
            if line.job_id.startswith(prefix):
                running += {"start": 1, "end": -1, "cancelled": -1}.get(line.event, 0)
                most = max(most, running)
        return most

    def open_gate(self, gate: str | int) -> None:
        """Let the jobs pass that wait at this gate, or in the process with this id."""
        self._gate(gate).touch()

    def is_open(self, gate: str | int) -> bool:
        return self._gate(gate).exists()

    def _gate(self, gate: str | int) -> Path:
        return self.path.with_name(f"{self.path.name}.gate-{gate}")
