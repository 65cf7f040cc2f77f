"""scripts/bench/run: its scenarios measure something and find no error, so that RESULTS can be had again."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHORT = (
    "--plain", "--seconds", "0.2", "--warm-up", "0", "--rounds", "1", "--jobs", "4000", "--lines", "50",
    "--depths", "300,600", "--clients", "20", "--chunks", "200", "--log-rows", "2000", "--log-days", "2",
)  # fmt: skip


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("names", "database"),
    [
        ("chat-1,stream-1,accept-64,drain", "sqlite"),
        ("batches,polling,cancel,backlog", "postgresql"),
        ("search,logs", "sqlite"),
    ],
)
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs a core for the load")
def test_scenarios_measure_something(tmp_path: Path, names: str, database: str) -> None:
    result = tmp_path / "result.json"
    command = [ROOT / "scripts" / "bench" / "run", "--only", names, "--database", database, "--json", result, *SHORT]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, "FAILED" in done.stderr) == (0, False), done.stderr[-2000:]
    rows = json.loads(result.read_text())["scenarios"]
    assert len({row["name"].partition(":")[0].split(" ")[0] for row in rows}) >= len(names.split(","))
    assert all(row.get("requests", 1) for row in rows)
