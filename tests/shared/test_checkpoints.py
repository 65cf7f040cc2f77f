"""Checkpoints of the log of SQLite."""

import asyncio
from contextlib import closing
from pathlib import Path

from shared.database import connect_sqlite
from shared.group_commit.sqlite import SqliteStore
from shared.group_commit.units import Statement


async def test_a_large_log_and_somebody_who_reads_keep_no_writer_waiting(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    with closing(connect_sqlite(path)) as filling, closing(connect_sqlite(path)) as reading:
        filling.execute("PRAGMA wal_autocheckpoint=0")
        filling.execute("CREATE TABLE blobs (bytes BLOB)")
        filling.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 70) "
                        "INSERT INTO blobs SELECT zeroblob(1000000) FROM n")  # fmt: skip
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM blobs").fetchall()
        store = SqliteStore(path, lock_wait_s=1.0)
        unit = (Statement("INSERT INTO blobs VALUES ($1)", (b"",)),)
        await store.commit([unit] * 1000)  # a checkpoint begins

        for _ in range(30):
            await store.commit([unit])  # raises if somebody has the lock for longer than a second
            await asyncio.sleep(0.05)

        await store.close()
        assert reading.execute("SELECT count(*) FROM blobs").fetchall() == [(70,)]
