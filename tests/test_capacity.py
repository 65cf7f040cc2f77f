"""scripts/capacity: its arithmetic, and that it plans by the figures which were measured."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from sqlmodel import SQLModel

from shared.replies.entries import RETENTION_S
from shared.settings import DAY_S, Settings
from tests.faults.processes import ROOT

PLANNING: Final = ROOT / "scripts" / "planning"
COMPONENTS: Final = ("api", "worker", "redis", "postgres")
CHAT: Final[dict[str, Any]] = {
    "api_us": 300, "worker_us": 400, "redis_us": 100, "postgres_us": 200, "load_us": 50, "commits": 0.1,
    "wal_bytes": 6000, "redis_bytes": 1000,
    "table_bytes": {"jobs": 1500, "job_events": 100, "job_results": 500, "request_logs": 900, "charges": 200},
}  # fmt: skip
PACED: Final = CHAT | {"api_us": 1100, "worker_us": 1200, "redis_us": 300, "postgres_us": 900, "redis_bytes": 13_000}
"""40 chunks more: 20 us each of api and worker, 5 us and 300 bytes of Redis; the database is not concerned."""
FIGURES: Final = {
    "date": "2026-11-22T00:00:00+00:00", "machine": "2 shared cores", "command": "by hand",
    "databases": {
        "postgresql": {
            "loads": {"chat": CHAT, "accepted": CHAT, "simulated": CHAT, "paced": PACED},
            "connections": {"redis_open": 40, "database_open": 8, "database_most_of_process": 11},
            "memory_bytes": {"api": 150_000_000, "worker": 200_000_000},
            "idle_us_per_s": {"redis_us": 2000, "postgres_us": 5000},
            "running_us_per_s": {"redis_us": 4.0}, "redis_bytes_per_waiting_job": 700.0,
            "drained_per_core_s": 2000.0,
        }
    },
}  # fmt: skip


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(PLANNING / "main.py"), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def planned(figures: dict[str, Any], folder: Path, *options: str) -> dict[str, str]:
    """Return the lines of a plan for one rate by their titles, and the remarks under `remarks`."""
    file = folder / "figures.json"
    file.write_text(json.dumps(figures))
    table, _, remarks = run("plan", "--figures", str(file), *options).partition("\n\n")
    rows = (line.rpartition("  ") for line in table.splitlines())
    return {title.strip(): value for title, _, value in rows} | {"remarks": remarks}


def test_whole_answers_need_what_one_costs_times_their_rate(tmp_path: Path) -> None:
    lines = planned(
        FIGURES, tmp_path, *"--rate 10000 --stream-share 0 --prompt-tokens 100 --tokens 100 --latency 2".split(),
        *"--slots 500 --utilization 0.5 --days 10 --tombstone-days 20 --redis-gb 32".split(),
    )  # fmt: skip

    assert lines == lines | {
        "api: cores that work": "3",
        "api: processes": "6",
        "worker: cores that work": "4",
        "worker: processes for CPU": "8",
        "api: memory, GB": "0.90",  # 6 x 150 MB
        "worker: memory, GB": "16",  # 80 x 200 MB
        "jobs at providers": "20,000",
        "worker: processes for slots, too": "80",  # 20,000 / 500 at half of the slots
        "Redis: cores that work": "1.2",  # 10,000 x 100 us, 20,000 leases x 4 us, and 43 pairs of idle processes
        "Redis: shards for CPU": "3",
        "Redis: memory of all, GB": "6.0",  # 10,000 x 600 s x 1,000, and 20,000 messages of 1,200 bytes
        "Redis: shards for memory, too": "3",
        "Redis: connections to each": "660",  # (6 + 80 / 3) x 20
        "PostgreSQL: cores that work": "2.2",
        "PostgreSQL: cores": "5",
        "PostgreSQL: commits per s": "1,000",
        "PostgreSQL: log written, MB/s": "70",  # 10,000 x (6,000 + 200 tokens x 5 bytes)
        "PostgreSQL: connections, at most": "946",  # 86 x 11
        "disk per day, GB": "3,456",  # 864 M x 4,000 bytes
        "disk once days are over, GB": "62,208",  # ten days of that, and twenty of 1,600 bytes
        "ledger, for ever, GB per day": "173",
    }
    assert "One Redis ends at 4,630 requests/s (50% of its core; the whole core: 9,259)." in lines["remarks"]
    assert "A job that waits takes 1,200 bytes of Redis" in lines["remarks"]


def test_chunks_cost_api_worker_and_redis(tmp_path: Path) -> None:
    lines = planned(
        FIGURES, tmp_path, *"--rate 1000 --stream-share 0.5 --tokens 200 --latency 0 --utilization 1".split(),
        *"--redis-gb 8".split(),
    )  # fmt: skip

    assert lines == lines | {
        "api: cores that work": "2.3",  # 300 us, and 100 chunks x 20 us
        "worker: cores that work": "2.4",
        "Redis: cores that work": "0.61",  # 600 us of a request, and three pairs of processes
        "Redis: shards for CPU": "1",
        "Redis: memory of all, GB": "19",  # 1,000 x 600 s x (1,000 + 100 chunks x 300 bytes)
        "Redis: shards for memory, too": "3",
        "PostgreSQL: cores that work": "0.22",
        "PostgreSQL: commits per s": "100",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--slots 0", "--slots: `0` is no number from 1 to"),
        ("--slots 2.5", "--slots: `2.5` is no whole number"),
        ("--slots inf", "--slots: `inf` is no number"),
        ("--redis-gb 0", "--redis-gb: `0` is no number from 0.001 to"),
        ("--rate nan", "--rate: `nan` is no number"),
        ("--rate -5", "--rate: `-5` is no number from 0.001 to"),
        ("--rate 100,,5", "--rate: `` is no number"),
        ("--rate 1e300", "--rate: `1e300` is no number"),
        ("--latency inf", "--latency: `inf` is no number from 0 to"),
        ("--latency soon", "--latency: `soon` is no number from 0 to"),
        ("--tokens -1", "--tokens: `-1` is no number from 0 to"),
        ("--days nan", "--days: `nan` is no number from 0 to"),
        ("--stream-share -1", "--stream-share: `-1` is no number from 0 to 1"),
        ("--stream-share 2", "--stream-share: `2` is no number from 0 to 1"),
        ("--async-share 1.1", "--async-share: `1.1` is no number from 0 to 1"),
        ("--stream-share 0.7 --async-share 0.4", "--stream-share (0.7) and --async-share (0.4) are shares of the same"),
        ("--async-share 0.6", "--stream-share (0.5) and --async-share (0.6)"),
        ("--utilization 0", "--utilization: `0` is no number from 0.001 to 1"),
        ("--utilization 1.5", "--utilization: `1.5` is no number from 0.001 to 1"),
    ],
)
def test_a_plan_for_what_cannot_be_is_refused(options: str, message: str) -> None:
    command = [sys.executable, str(PLANNING / "main.py"), "plan", *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_the_most_and_the_least_that_may_be_asked_for_make_a_plan(database: str) -> None:
    most = "--rate 1e9 --tokens 1e9 --prompt-tokens 1e9 --bytes-per-token 1e9 --latency 1e9 --redis-gb 0.001 --slots 1"
    least = "--rate 0.001 --tokens 0 --latency 0 --stream-share 0.3 --async-share 0.7 --utilization 1 --days 0"

    for options in (f"{most} --stream-share 1 --utilization 0.001 --days 1e9 --tombstone-days 1e9", least):
        assert run("plan", "--database", database, *options.split())


def test_the_arithmetic_in_the_sources_is_right() -> None:
    command = [sys.executable, "-m", "doctest", "model.py", "report.py"]
    done = subprocess.run(command, cwd=PLANNING, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")
    assert sum((PLANNING / name).read_text().count(">>>") for name in ("model.py", "report.py")) > 5


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_the_measured_figures_make_a_plan(database: str) -> None:
    measured = json.loads((PLANNING / "figures.json").read_text())["databases"][database]
    loads = measured["loads"]
    weighed = [name for name in COMPONENTS if name != "postgres" or database == "postgresql"]

    assert set(loads) == {"chat", "stream", "simulated", "paced", "accepted"}
    assert [name for load in loads.values() for name in weighed if load[f"{name}_us"] <= 0] == []
    assert [load["jobs"] for load in loads.values() if load["jobs"] < 500] == []
    assert min(measured["memory_bytes"][name] for name in ("api", "worker")) > 20_000_000
    assert {table for load in loads.values() for table in load["table_bytes"]} - {"all"} <= set(
        SQLModel.metadata.tables
    )
    head, *lines = run("plan", "--database", database).partition("\n\n")[0].splitlines()
    assert head.split()[-4:] == ["100", "1,000", "10,000", "100,000"]
    assert [line for line in lines if len(line.rsplit(maxsplit=4)) != 5] == []


def test_the_model_knows_how_long_things_are_kept() -> None:
    model = load_model()
    defaults = Settings()
    help_text = " ".join(run("plan", "--help").split())

    assert model.REPLIES_KEPT_S == RETENTION_S
    assert f"are kept ({defaults.result_ttl_s // DAY_S})" in help_text
    assert f"after that ({defaults.tombstone_ttl_s // DAY_S})" in help_text
    assert f"SLUICE_WORKER_SLOTS ({defaults.worker_slots})" in help_text


def load_model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("capacity_model", PLANNING / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_a_chunk_of_the_model_is_one_of_the_measurement() -> None:
    code = "import measuring, model; print(measuring.CHUNKS == model.CHUNKS, *measuring.MEASURED)"
    path = os.pathsep.join(map(str, (ROOT, ROOT / "scripts" / "bench", PLANNING)))
    environ = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "chat", "stream", "simulated", "paced", "accepted"]
