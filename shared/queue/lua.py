"""The Lua scripts bound to one Redis and one queue; every method is one round trip."""

from math import inf
from pathlib import Path
from typing import Any, Final, cast
from uuid import uuid4

from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError

from shared.queue.jobs import Claim, Claimed
from shared.queue.keys import BAND_WIDTH, DUE_FROM, FIRST_TAG, PARKED_FROM, wake_key

MAX_CLAIMS: Final = 1000
"""Most jobs one claim may ask for: Lua returns at most 8,000 values."""

_FOLDER = Path(__file__).parent / "scripts"
_LAYOUT = f"local BAND_WIDTH, DUE_FROM, PARKED_FROM, FIRST_TAG = {BAND_WIDTH}, {DUE_FROM}, {PARKED_FROM}, {FIRST_TAG}\n"


def script_source(name: str) -> str:
    """Return the text Redis runs: the layout constants, the prelude and the script."""
    prelude, script = ((_FOLDER / f"{part}.lua").read_text() for part in ("prelude", name))
    return _LAYOUT + prelude + script


class Outcome(Struct, frozen=True, kw_only=True):
    """How a run ended: what the `finish` or the `requeue` script is told."""

    job_id: str
    token: str
    epoch: str
    """The epoch when the run ended: the lease was held under it, even if Redis has a newer one by now."""
    script: str
    arguments: tuple[str | bytes | int, ...]


class Wanted(Struct, frozen=True, kw_only=True):
    """What a worker can take now."""

    jobs: int
    can_wait: int
    """How many of them may be of bands below the first."""
    slots: int
    """All it has."""
    share: float
    """A group takes a slot only while it has fewer than this times the free ones of all workers; 0 is no limit."""
    cap: int = 0
    """Most jobs at once of a group that has no cap of its own; 0 is no limit."""
    weights: tuple[int, ...]
    """Jobs per round and band while all of them have jobs; at least 1 each."""


class QueueScripts:
    """The scripts of one queue."""

    def __init__(self, redis: Redis, queue: str) -> None:
        self.queue = queue
        self._redis = redis
        names = ("enqueue", "claim", "renew", "finish", "requeue", "release", "abort")
        self._scripts: dict[str, AsyncScript] = {name: AsyncScript(redis, script_source(name)) for name in names}

    async def enqueue(self, arguments: list[Any], pipeline: Pipeline | None = None) -> bytes:
        """Run `enqueue`; inside a pipeline the answer comes from executing the pipeline."""
        return cast(bytes, await self._run("enqueue", arguments, pipeline))

    async def claim(self, token: str, lease_ms: int, wanted: Wanted, *, wait_s: float = 0.0) -> Claimed:
        """Lease jobs to the worker `token`; wait for the bell first, `wait_s` at most.

        Waiting and claiming are one round trip.  Redis gives the bell to the worker that has waited longest, so the
        load spreads; it carries no job, so nothing is lost with a broken connection.
        """
        jobs = min(wanted.jobs, MAX_CLAIMS)
        arguments = [token, jobs, lease_ms, wanted.slots, wanted.share, wanted.can_wait, wanted.cap, *wanted.weights]
        answer = await (self._run_at_the_bell(arguments, wait_s) if wait_s > 0 else self._run("claim", arguments))
        now, upcoming, is_more, *rows = answer
        claims = [
            Claim(
                job_id=job_id.decode(),
                place=place.decode(),
                payload=payload,
                score=score.decode(),
                run_score=int(float(score)) if float(score) >= DUE_FROM else now,
            )
            for job_id, score, place, payload in zip(rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True)
        ]
        idle_s = (float(upcoming) - now) / 1000 if upcoming != b"0" else inf
        return Claimed(claims, idle_s, bool(is_more))

    async def _run_at_the_bell(self, arguments: list[Any], wait_s: float) -> Any:
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.execute_command("BZPOPMIN", wake_key(self.queue), wait_s)
            await self._run("claim", arguments, pipeline)
            rung, answer = await pipeline.execute(raise_on_error=False)
        if isinstance(answer, NoScriptError):
            return await self._run("claim", arguments)
        for outcome in (rung, answer):
            if isinstance(outcome, Exception):
                raise outcome
        return answer

    async def ring(self) -> None:
        """Wake one worker that waits."""
        await self._redis.zadd(wake_key(self.queue), {"0": 0})

    async def renew(
        self, token: str, claims: list[Claim], lease_ms: int, epoch: str, slots: int
    ) -> tuple[str, list[str]]:
        """Extend the leases; returns the epoch and the ids whose lease is lost."""
        rows = [value for claim in claims for value in (claim.job_id, claim.place)]
        new_epoch, *lost = await self._run("renew", [token, lease_ms, epoch, uuid4().hex, slots, *rows])
        return new_epoch.decode(), [job_id.decode() for job_id in lost]

    async def settle(self, outcome: Outcome, pipeline: Pipeline) -> None:
        """Add `finish` or `requeue` to the pipeline; its answer is 1, or 0 if the lease is gone."""
        arguments = [outcome.job_id, outcome.token, outcome.epoch, *outcome.arguments]
        await self._run(outcome.script, arguments, pipeline)

    async def release(self, token: str, lease_ms: int) -> int:
        """Make the jobs of a dead worker due; returns their number."""
        return cast(int, await self._run("release", [token, lease_ms]))

    async def abort(self, job_id: str, result: bytes, lifetime_ms: int) -> bytes:
        """End a waiting job with `result` (empty: none is kept), or signal the worker that runs it."""
        return cast(bytes, await self._run("abort", [job_id, result, lifetime_ms]))

    async def load(self) -> None:
        """Give Redis the scripts; needed again whenever it has lost them."""
        for script in self._scripts.values():
            await self._redis.script_load(script.script)

    async def _run(self, name: str, arguments: list[Any], pipeline: Pipeline | None = None) -> Any:
        """Run a script; in a pipeline without redis-py's check for its presence, which is a round trip each time."""
        script = self._scripts[name]
        if pipeline is not None:
            return pipeline.execute_command("EVALSHA", script.sha, 1, self.queue, *arguments)
        return await script(keys=[self.queue], args=arguments)
