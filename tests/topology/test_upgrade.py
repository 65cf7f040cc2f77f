"""The next version migrates the database while this one serves, on both databases."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.database import Database
from tests.faults.invariants import check_ledger, statuses_of
from tests.faults.processes import ROOT, Processes
from tests.topology.callers import Callers
from tests.upgrades import NEXT, revision_of, write_revision
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(120)
MODEL = "costly"


@pytest_asyncio.fixture
async def processes(tmp_path: Path, database_url: str) -> AsyncIterator[Processes]:
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    running = Processes(folder, database_url=database_url, lease_s=2, drain_s=10, accept_patience_s=5)
    try:
        await running.start()
        yield running
    finally:
        await running.close()


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The folder of a next version: this one, with one more migration."""
    folder = tmp_path / "next"
    for package in ("shared", "worker"):
        shutil.copytree(ROOT / package, folder / package)
    write_revision(folder / "shared" / "migrations" / "versions")
    return folder


async def test_no_request_fails_while_the_next_version_migrates(processes: Processes, next_version: Path) -> None:
    await processes.add_model(MODEL)
    callers, later = Callers(processes, MODEL), Callers(processes, MODEL)

    async def upgrade() -> None:
        await eventually(lambda: callers.failures or all(callers.counts.values()))
        await asyncio.gather(*(_migrate(processes, next_version) for _ in range(2)))  # one finds nothing to do
        counts = dict(callers.counts)
        await eventually(lambda: callers.failures or all(callers.counts[one] > counts[one] for one in counts))

    await callers.run(upgrade())
    assert processes.stop() == 0
    await processes.start()  # this version, on the schema of the next one
    await later.run(asyncio.sleep(0))

    assert callers.failures == later.failures == []
    accepted = callers.accepted | later.accepted
    assert statuses_of(await check_ledger(processes, accepted), accepted) == {"completed"}
    assert "schema_is_newer" in processes.output.read_text()
    database = Database(processes.database_url)
    assert await revision_of(database.engine) == NEXT
    await database.close()


async def _migrate(processes: Processes, version: Path) -> None:
    """Run `scripts/sluice migrate` of this version with the settings of the others."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker.maintenance", "migrate", cwd=version,
        env=processes.environ | {"PYTHONPATH": str(version)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
