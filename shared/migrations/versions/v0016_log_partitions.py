"""On PostgreSQL the request log becomes one partition per day, so that old days are dropped instead of deleted.

A unique index of a partitioned table must hold the column it is partitioned by, so each partition has its own on job
and attempt.  That the number of an attempt is given out once at all is the work of `start_attempt`.

Revision: 0016, after 0015
"""

import datetime as dt
from itertools import pairwise

import sqlalchemy as sa
from alembic import op

from shared.ids import oldest_ulid

revision = "0016"
down_revision = "0015"

_DAYS_AHEAD = 7
_BATCH = "CREATE INDEX ix_request_logs_batch ON request_logs (batch_id, id) WHERE batch_id IS NOT NULL"


def upgrade() -> None:
    """Make the table that there is the partition of today and everything before; no row is copied.

    And index what few rows have, so that reading the log touches no job, and no record twice.
    """
    voted, restated = sa.text("vote IS NOT NULL"), sa.text("supersedes <> ''")
    op.create_index("ix_jobs_vote", "jobs", ["id", "vote"], sqlite_where=voted, postgresql_where=voted)
    op.create_index(
        "ix_usage_records_restated", "usage_records", ["supersedes"], sqlite_where=restated, postgresql_where=restated
    )
    if op.get_bind().dialect.name != "postgresql":
        op.execute(_BATCH)
        return
    today = dt.datetime.now(dt.UTC).date()
    days = [today + dt.timedelta(days=number) for number in range(_DAYS_AHEAD + 2)]
    first, tomorrow = f"request_logs_{today:%Y%m%d}", _first_id(days[1])
    for statement in (
        "LOCK TABLE request_logs IN ACCESS EXCLUSIVE MODE",
        f"ALTER TABLE request_logs RENAME TO {first}",
        f"ALTER INDEX request_logs_pkey RENAME TO {first}_pkey",
        f"ALTER INDEX ix_request_logs_user RENAME TO {first}_user_id_id_idx",
        f"ALTER INDEX ix_request_logs_job RENAME TO {first}_attempt",
        f'ALTER TABLE {first} ALTER COLUMN id TYPE text COLLATE "C"',
        f"CREATE TABLE request_logs (LIKE {first} INCLUDING DEFAULTS) PARTITION BY RANGE (id)",
        "ALTER TABLE request_logs ADD PRIMARY KEY (id)",
        "CREATE INDEX ix_request_logs_user ON request_logs (user_id, id)",
        _BATCH,
        *(
            statement
            for day, after in pairwise(days[1:])
            for statement in _partition(
                f"{day:%Y%m%d}", f"FOR VALUES FROM ('{_first_id(day)}') TO ('{_first_id(after)}')"
            )
        ),
        *_partition("rest", "DEFAULT"),
        f"WITH later AS (DELETE FROM {first} WHERE id >= '{tomorrow}' RETURNING *)"  # noqa: S608  # our own names and ids
        " INSERT INTO request_logs SELECT * FROM later",
        f"ALTER TABLE request_logs ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE) TO ('{tomorrow}')",
    ):
        op.execute(statement)


def _partition(name: str, bounds: str) -> tuple[str, str]:
    return (
        f"CREATE TABLE request_logs_{name} PARTITION OF request_logs {bounds}",
        f"CREATE UNIQUE INDEX request_logs_{name}_attempt ON request_logs_{name} (job_id, attempt)",
    )


def downgrade() -> None:
    """Copy all rows into one table again."""
    op.drop_index("ix_usage_records_restated", "usage_records")
    op.drop_index("ix_jobs_vote", "jobs")
    op.drop_index("ix_request_logs_batch", "request_logs")
    if op.get_bind().dialect.name != "postgresql":
        return
    for statement in (
        "LOCK TABLE request_logs IN ACCESS EXCLUSIVE MODE",
        "CREATE TABLE request_logs_one (LIKE request_logs INCLUDING DEFAULTS)",
        "INSERT INTO request_logs_one SELECT * FROM request_logs",
        "DROP TABLE request_logs",
        "ALTER TABLE request_logs_one RENAME TO request_logs",
        'ALTER TABLE request_logs ALTER COLUMN id TYPE text COLLATE "default"',
        "ALTER TABLE request_logs ADD PRIMARY KEY (id)",
        "CREATE UNIQUE INDEX ix_request_logs_job ON request_logs (job_id, attempt)",
        "CREATE INDEX ix_request_logs_user ON request_logs (user_id, id)",
    ):
        op.execute(statement)


def _first_id(day: dt.date) -> str:
    return oldest_ulid(int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp() * 1000))
