"""What goes into the queue, what comes out of it, and what can be said about it."""

from enum import StrEnum
from typing import Any

from msgspec import Struct


class NewJob(Struct, frozen=True, kw_only=True):
    """A job to put into the queue.  The database has everything in `args`, too."""

    job_id: str
    function: str
    args: tuple[Any, ...] = ()
    tenant: str = ""
    """Tenants take turns within a band."""
    group: str = ""
    """What the job keeps busy, its router for example.  Groups share the slots: none can take the last ones."""
    band: int = 0
    """Priority, 0 is the most urgent."""
    priority: int = 0
    """Head start within the band, see `shared.queue.keys`."""
    cost: float = 1.0
    """Share of the tenant's turn this job uses up; for example its estimated tokens / 1000."""
    due_ms: int = 0
    """Unix ms of the earliest start; 0 is now.  A deferred job leaves its band: once due it is served as due."""


class Enqueued(StrEnum):
    """What the queue knew about a job that was put into it."""

    QUEUED = "queued"
    PRESENT = "present"
    RUNNING = "running"
    FINISHED = "finished"


class Aborted(StrEnum):
    """What an abort did: ended a waiting job, told its worker, or found nothing to end."""

    ABORTED = "aborted"
    SIGNALLED = "signalled"
    FINISHED = "finished"
    UNKNOWN = "unknown"


class Claim(Struct, frozen=True, kw_only=True):
    """One job leased to this worker."""

    job_id: str
    place: str
    """Its band and group, as the scripts write them; names the job's place after a loss of data."""
    payload: bytes
    """What was enqueued; empty if Redis lost it."""
    score: str
    """Where the job stood, as Redis wrote it; it returns there if it is given back."""
    run_score: int
    """The score arq's `run_job` is told: Unix ms, since it computes delays from it."""

    @property
    def can_wait(self) -> bool:
        """Return whether the job is of a band below the first."""
        return not self.place.startswith("0")


class Claimed(Struct, frozen=True):
    """Answer to one claim."""

    claims: list[Claim]
    idle_s: float
    """Seconds until the next job is due as far as Redis knows now; infinite if none is scheduled."""
    has_more: bool
    """Whether jobs are ready that this worker could not take."""


class QueueStats(Struct, frozen=True, kw_only=True):
    """The queue at one instant."""

    ready: tuple[int, ...]
    """Jobs that could start now, per band."""
    due: int
    """Retries, cron, expired leases and jobs of stock arq producers that could start now."""
    held: int
    """Jobs that are running or deferred."""
    parked: tuple[int, ...]
    """Jobs that wait because their group has its share of the slots, per band."""
    oldest_s: tuple[float, ...]
    """How long the first job of each band has waited, ready or parked; 0 where none waits."""
    oldest_due_s: float
    """How long the first job of the due zone could have been running."""
