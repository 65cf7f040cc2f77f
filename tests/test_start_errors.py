"""A start that cannot succeed ends by itself, says why in one line, and leaves nothing running."""

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.databases import prepared_sqlite
from tests.faults.processes import ROOT, free_port, living

LONGEST_START_S = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder, not made yet; its path is short, since it holds a socket."""
    return tmp_path / "d"


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def failed_start(folder: Path, module: str = "worker.supervisor", **settings: Any) -> str:
    """Start an installation, which must end by itself with code 1; returns what it said."""
    values = {"data_dir": folder, "port": free_port()} | settings
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    environ = kept | {f"SLUICE_{name.upper()}": str(value) for name, value in values.items()}
    done = subprocess.run(
        [sys.executable, "-m", module],
        env=environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONGEST_START_S,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stderr, "a password was shown"
    assert left_of(folder) == []
    return done.stderr


def left_of(folder: Path) -> list[int]:
    """Return the pids of what still runs with this data folder."""
    mark = f"SLUICE_DATA_DIR={folder}\0".encode()
    found = []
    for pid, _ in living():
        with suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


def test_a_file_that_is_no_database_stops_the_start_and_stays_as_it_is(folder: Path) -> None:
    text = "Minutes of the meeting.\n" * 200
    file = folder.parent / "notes.txt"
    file.write_text(text)

    said = failed_start(folder, database_url=f"sqlite:///{file}")

    assert "The database cannot be used" in said
    assert "file is not a database" in said
    assert file.read_text() == text


def test_a_schema_of_a_later_version_that_lacks_something_stops_the_start(folder: Path) -> None:
    file = folder.parent / "later.db"
    file.write_bytes(prepared_sqlite())
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9001'")
        connection.execute("ALTER TABLE jobs DROP COLUMN tracestate")

    said = failed_start(folder, database_url=f"sqlite:///{file}")

    assert "a later version of Sluice (schema 9001), which this one cannot work with: jobs.tracestate is gone." in said


def test_a_postgresql_without_that_database_stops_the_start(folder: Path, postgres_url: str) -> None:
    head, _, query = postgres_url.partition("?")
    absent = f"{head.rpartition('/')[0]}/absent" + (f"?{query}" if query else "")

    said = failed_start(folder, database_url=absent)

    assert "The database cannot be used" in said
    assert '"absent" does not exist' in said


def test_a_postgresql_that_never_answers_stops_the_start(folder: Path, black_hole: int) -> None:
    said = failed_start(folder, database_url=f"postgresql://u:hidden@127.0.0.1:{black_hole}/d")

    assert "The database cannot be used" in said
    assert said.strip().removesuffix(":") != "The database cannot be used", "it does not say why"


def test_a_redis_that_never_answers_stops_the_start(folder: Path, black_hole: int) -> None:
    said = failed_start(folder, redis_url=f"redis://u:hidden@127.0.0.1:{black_hole}")

    assert "SLUICE_REDIS_URL cannot be used" in said
    assert "Timeout" in said


@pytest.mark.parametrize(
    ("name", "url"),
    [("redis_url", "redis://:hidden@127.0.0.1:port"), ("database_url", "postgresql://u:hidden@127.0.0.1:port/d")],
)
def test_a_url_without_a_number_as_port_stops_the_start(folder: Path, name: str, url: str) -> None:
    assert f"SLUICE_{name.upper()}" in failed_start(folder, **{name: url})


def test_a_data_folder_that_is_a_file_stops_the_start(folder: Path) -> None:
    folder.touch()

    said = failed_start(folder)

    assert str(folder) in said
    assert "database" not in said


def test_a_data_folder_whose_path_is_too_long_for_a_socket_stops_the_start(folder: Path) -> None:
    assert "too long" in failed_start(folder / ("long" * 30))


@pytest.mark.parametrize("module", ["api", "worker"])
def test_a_process_by_itself_makes_no_keys_that_nobody_else_has(folder: Path, module: str) -> None:
    said = failed_start(folder, module, admin_key="a-key-of-the-administrator")

    assert said == "SLUICE_ENCRYPTION_KEY must be set, the same for every process.\n"
    assert not folder.exists()
