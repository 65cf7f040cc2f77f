"""The way of this process to the admission script, and to the database for accounts that Redis does not know."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from msgspec import structs
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from shared.admission.accounts import read_truth
from shared.admission.gate import Decision, Demand, Gate, Limits, Missing, Released
from shared.admission.records import Admission
from shared.clock import now_ms
from shared.database import Database
from shared.errors import QueueUnavailableError, StorageUnavailableError
from shared.ids import oldest_ulid

log = structlog.get_logger()
_TRIES: Final = 20
_PAUSE_S: Final = 0.005
_MARGIN_S: Final = 0.25
_ON_ITS_WAY_MS: Final = 60_000
"""An older job is in the database, or was never accepted."""
_TRUSTED_S: Final = 60.0
_MOST_READ: Final = 10_000
_BY_HOLDS: Final = frozenset({"budget", "carbon", "queue"})
"""Verdicts that a hold can cause."""


class Admissions:
    """Admits requests; one per process."""

    def __init__(self, gate: Gate, database: Database, accept_patience_s: float) -> None:
        self.gate = gate
        self.unseen = 0
        """Jobs accepted since Redis went away."""
        self._database = database
        self._settled_s = accept_patience_s + _MARGIN_S
        self._read_at: dict[str, float] = {}
        """When this process last had an account read that refused somebody."""
        self._loading: dict[str, asyncio.Task[None]] = {}

    async def decide(self, job_id: str, limits: Limits, demands: Sequence[Demand]) -> Decision:
        """Return the decision; raises `QueueUnavailableError`, or `StorageUnavailableError`."""
        try:
            for _ in range(_TRIES):
                answer = await self.gate.admit(job_id, limits, demands)
                if isinstance(answer, Decision):
                    if answer.verdict not in _BY_HOLDS or not (suspects := self._suspects(demands)):
                        return answer
                    await self.gate.forget(suspects)
                    continue
                await asyncio.gather(*(self._load_once(missing) for missing in answer))
        except (RedisError, OSError) as error:
            log.warning("not_admitted", error=repr(error))
            raise QueueUnavailableError from error
        except SQLAlchemyError as error:
            raise StorageUnavailableError from error
        log.warning("account_never_loaded", accounts=[demand.account for demand in demands])
        raise QueueUnavailableError

    def _suspects(self, demands: Sequence[Demand]) -> list[str]:
        """Return the accounts that were not read for a while: holds of killed processes may refuse this request."""
        now = asyncio.get_running_loop().time()
        names = [demand.account for demand in demands]
        suspects = [name for name in names if now - self._read_at.get(name, -_TRUSTED_S) >= _TRUSTED_S]
        if len(self._read_at) > _MOST_READ:
            self._read_at.clear()
        self._read_at.update(dict.fromkeys(suspects, now))
        return suspects

    async def give_back(self, job_id: str, admission: Admission, *, is_stored: bool = False) -> None:
        """Undo an admission: no job was made of it, or one that is cancelled and then releases what it holds."""
        requests = -1 if admission.is_counted else 0
        if is_stored:
            admission = structs.replace(admission, accounts=(), tokens=0)
        await self._settle(job_id, admission, requests=requests)

    async def release(self, job_id: str, admission: Admission) -> None:
        """Release what a job held that ended without having run."""
        await self._settle(job_id, admission, requests=0)

    async def _settle(self, job_id: str, admission: Admission, *, requests: int) -> None:
        released = [Released(account) for account in admission.accounts]
        tokens = -admission.tokens if admission.is_counted else 0
        try:
            await self.gate.settle(job_id, admission, released, requests=requests, tokens=tokens)
        except (RedisError, OSError) as error:
            log.warning("not_given_back", job_id=job_id, error=repr(error))  # holds end with the next load

    async def forget(self, accounts: Sequence[str]) -> None:
        """Have accounts read again, since an administrator changed them; without Redis after ten minutes."""
        try:
            await self.gate.forget(accounts)
        except (RedisError, OSError) as error:
            log.warning("accounts_change_later", accounts=len(accounts), first=accounts[0], error=repr(error))

    async def close(self) -> None:
        """Wait until nothing is being loaded."""
        await asyncio.gather(*self._loading.values(), return_exceptions=True)

    async def _load_once(self, missing: Missing) -> None:
        """Load an account; callers of the same moment share it."""
        task = self._loading.get(missing.account)
        if task is None:
            task = self._loading[missing.account] = asyncio.get_running_loop().create_task(self._load(missing))
            task.add_done_callback(lambda _: self._loading.pop(missing.account, None))
        await asyncio.shield(task)

    async def _load(self, missing: Missing) -> None:
        wait_s = self._settled_s - missing.counted_ms / 1000
        if wait_s > 0:  # what was admitted before Redis lost its data is in the database only after this time
            await asyncio.sleep(wait_s)
        truth = await read_truth(self._database, missing.account)
        if not await self.gate.load(missing, truth, oldest_ulid(now_ms() - _ON_ITS_WAY_MS)):
            await asyncio.sleep(_PAUSE_S)
