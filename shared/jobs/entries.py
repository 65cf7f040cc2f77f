"""From a stored job to its place in the queue."""

from shared.jobs.messages import JobMessage
from shared.jobs.statements import NewJob
from shared.jobs.tables import JobRow
from shared.queue.jobs import NewJob as QueuedJob
from shared.queue.lanes import RUN_JOB, group_of


def queue_entry(message: JobMessage, row: JobRow | NewJob) -> QueuedJob:
    """Return the queue entry of a job."""
    return QueuedJob(
        job_id=row.id,
        function=RUN_JOB,
        args=(message,),
        tenant=str(row.organization_id) if row.organization_id is not None else f"u{row.user_id}",
        group=group_of(row.router_id),
        band=row.band,
        priority=row.priority,
        cost=row.cost_estimate,
        due_ms=row.next_attempt_ms or row.not_before_ms or 0,
    )
