"""The claims one worker holds, and how they stay alive."""

import asyncio
import os
from uuid import uuid4

from shared.queue.jobs import Claim
from shared.queue.lua import QueueScripts


def new_token() -> str:
    """Return the identity of one worker process; it is the value of each of its leases."""
    return f"{os.uname().nodename}:{os.getpid()}:{uuid4().hex[:8]}"


class Leases:
    """What this worker runs: one run per job at most, each with its claim.

    A claim is held from the moment it is taken until its run has ended.  It is renewed until its outcome is being
    recorded, and never while one is: after a loss of data, a renewal that Redis sees later than the outcome would
    take a finished job back.
    """

    def __init__(self, scripts: QueueScripts, *, token: str, lease_s: float) -> None:
        self.token = token
        self.lease_ms = int(lease_s * 1000)
        self.epoch = ""
        """What Redis called its data at the last renewal; empty before the first one."""
        self.settling = asyncio.Lock()
        """Held while outcomes are recorded, and while leases are renewed."""
        self._scripts = scripts
        self._held: dict[str, Claim] = {}
        self._finishing: set[str] = set()
        self._leaving: set[str] = set()

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._held

    def claim_of(self, job_id: str) -> Claim | None:
        """Return the claim of a running job."""
        return self._held.get(job_id)

    def hold(self, claim: Claim) -> None:
        """Renew this claim from now on."""
        self._held[claim.job_id] = claim

    def drop(self, job_id: str) -> None:
        """Forget the claim: its run has ended."""
        self._held.pop(job_id, None)
        self._finishing.discard(job_id)
        self._leaving.discard(job_id)

    def finish(self, job_id: str) -> Claim | None:
        """Return the claim whose job is to be removed, and stop renewing it; None if its lease is lost."""
        if job_id in self._leaving:
            return None
        self._finishing.add(job_id)
        return self._held.get(job_id)

    def give_back(self, job_id: str) -> Claim | None:
        """Return the claim whose job is to run again, and stop renewing it; None if its lease is lost."""
        if job_id in self._leaving:
            return None
        self._leaving.add(job_id)
        return self._held.get(job_id)

    def is_leaving(self, job_id: str) -> bool:
        """Return whether the job may run again, here or elsewhere, as soon as its run here has ended."""
        return job_id in self._leaving

    async def renew(self, slots: int) -> list[str]:
        """Extend all leases; returns the ids that somebody else may run now.  Raises Redis errors."""
        async with self.settling:
            claims = [claim for claim in self._held.values() if self._is_renewed(claim.job_id)]
            self.epoch, lost = await self._scripts.renew(self.token, claims, self.lease_ms, self.epoch, slots)
        lost = [job_id for job_id in lost if job_id in self._held and self._is_renewed(job_id)]
        self._leaving.update(lost)
        return lost

    def _is_renewed(self, job_id: str) -> bool:
        return job_id not in self._finishing and job_id not in self._leaving
