"""Hot writes on the items of batches, for the group-commit writer."""

from msgspec.structs import astuple

from shared.group_commit.units import Statement, insert_sql
from shared.jobs.statements import NewJob
from shared.jobs.tables import JobRow

_INSERT_ITEM = insert_sql("jobs", NewJob.__struct_fields__) + " ON CONFLICT (id) DO NOTHING"
_ADMIT = """
UPDATE jobs SET held = false, admission = $2, traceparent = $3, tracestate = $4, trace_id = $5, version = version + 1
WHERE id = $1 AND held AND finished_ms IS NULL AND EXISTS (SELECT 1 FROM batches b WHERE b.id = jobs.batch_id
    AND b.status = 'in_progress' AND b.expired_ms IS NULL)
RETURNING id
"""


def insert_item(job: NewJob) -> Statement:
    """Accept one line; nothing happens if it was accepted before."""
    return Statement(_INSERT_ITEM, astuple(job))


def admit_item(row: JobRow, admission: str | None) -> Statement:
    """Let an item run in the trace it has now; returns (id), nothing if it or its batch was ended, or it is in."""
    return Statement(_ADMIT, (row.id, admission, row.traceparent, row.tracestate, row.trace_id))
