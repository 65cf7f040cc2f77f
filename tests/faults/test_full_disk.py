"""The disk of the SQLite file is full for a while: nothing is accepted, nothing accepted is lost, and it goes on."""

import asyncio
import os
import random
import resource
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from shared.jobs.schemas import COMPLETED
from tests.faults.invariants import check_ledger, statuses_of
from tests.faults.processes import Processes
from tests.faults.traffic import Traffic, random_calls, try_to_submit
from tests.waiting import eventually

FULL_S: Final = 2.0
DISK_MB: Final = 32
BLOCK_BYTES: Final = 4096


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Put a small file system under the folder; skips the test where that is not allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Take all space of the folder's file system."""
    path = folder / "filler"
    try:
        with path.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(BLOCK_BYTES))
        yield
    finally:
        path.unlink()


@contextmanager
def limited(processes: Processes) -> Iterator[None]:
    """Forbid api and workers to make any file larger than the write-ahead log is now."""
    size = (processes.folder / "sluice.db-wal").stat().st_size
    pids = [*processes.children("-m api"), *processes.children("-m worker")]
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@asynccontextmanager
async def under_load(folder: Path, seed: int) -> AsyncIterator[tuple[Processes, Traffic]]:
    """Yield an installation at work; afterwards all calls are to be answered and the ledger to be right."""
    processes = Processes(folder, workers=2)
    try:
        await processes.start()
        await processes.add_model("priced")
        traffic = Traffic(processes, "priced")
        calling = asyncio.ensure_future(traffic.run(random_calls(random.Random(seed), 60), callers=10))
        await eventually(lambda: len(traffic.accepted) > 20 or calling.done())
        yield processes, traffic
        await calling
        ledger = await check_ledger(processes, traffic.accepted, traffic.streamed, traffic.answered)
        assert statuses_of(ledger, traffic.accepted) == {COMPLETED}
    finally:
        await processes.close()


async def test_a_full_disk_refuses_jobs_and_loses_none(folder: Path) -> None:
    with small_disk(folder):
        async with under_load(folder, seed=9) as (processes, traffic):
            children = processes.children()
            with filled(folder):
                refused = await until_refused(processes, traffic)
                await asyncio.sleep(FULL_S)

            # Redis keeps its log on the same disk, so whichever is first notices
            assert refused in ((503, "storage_unavailable"), (503, "queue_unavailable"))
            assert processes.children() == children


async def test_a_database_file_that_cannot_grow_refuses_jobs_and_loses_none(folder: Path) -> None:
    async with under_load(folder, seed=10) as (processes, traffic):
        children = processes.children()
        with limited(processes):
            refused = await until_refused(processes, traffic)
            await asyncio.sleep(FULL_S)

        assert refused == (503, "storage_unavailable")
        assert processes.children() == children


async def until_refused(processes: Processes, traffic: Traffic) -> tuple[int, str]:
    """Submit jobs until one is refused; returns status and code."""

    async def submit() -> tuple[int, str] | None:
        job_id, refused = await try_to_submit(processes)
        traffic.accepted |= {job_id} if job_id else set()
        return refused

    refused: tuple[int, str] = await eventually(submit)
    return refused
