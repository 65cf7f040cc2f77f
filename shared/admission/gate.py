"""The admission scripts bound to one Redis."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct
from redis.asyncio import Redis

from shared.admission.records import Admission
from shared.redis_scripts import Scripts

Strategy = Literal["fixed_window", "moving_window", "sliding_window"]
Dimension = Literal["rpm", "rpd", "tpm", "tpd"]
Verdict = Literal["ok", "budget", "carbon", "queue", "rpm", "rpd", "tpm", "tpd"]
DIMENSIONS: Final[tuple[Dimension, ...]] = ("rpm", "rpd", "tpm", "tpd")
_HOLDS_S: Final = 21 * 24 * 3600
"""Longer than a job can wait and run, as in the scripts."""
_FOLDER: Final = Path(__file__).parent / "scripts"


class Limits(Struct, frozen=True, kw_only=True):
    """What a caller may do on a router; None is unlimited."""

    windows: str
    """Key of the counters; empty if there is no limit."""
    tokens: int
    """Of this request."""
    values: tuple[int | None, int | None, int | None, int | None]
    """In the order of `DIMENSIONS`."""


class Demand(Struct, frozen=True, kw_only=True):
    """What a request asks of one account."""

    account: str
    kind: str
    amount: int
    """Money in micro-units, CO2e in µg, or tokens."""
    limit: int | None = None
    """CO2e budget in µg, or jobs of a tenant."""
    other_limit: int | None = None
    """Tokens of a tenant's unfinished jobs."""


class Use(Struct, frozen=True):
    """How far a window is used, this request included if it was admitted."""

    used: int
    reset_ms: int


class Decision(Struct, frozen=True, kw_only=True):
    """The answer to one request."""

    verdict: Verdict
    left: tuple[int, ...]
    """Of each account, in the order of the demands."""
    held_micros: int
    at_ms: int
    """By the clock of Redis, as the windows."""
    uses: tuple[Use, ...]
    """In the order of `DIMENSIONS`; empty without limits."""


class Missing(Struct, frozen=True):
    """An account that must be loaded first."""

    account: str
    seq: str
    counted_ms: int
    """For how long Redis has been counting; shorter after a loss of data."""


class Truth(Struct, frozen=True, kw_only=True):
    """What the database says of an account."""

    value: int
    """Money that is left, or CO2e that was emitted."""
    version: int
    holds: dict[str, int]
    """Unfinished jobs with what they hold."""


class Released(Struct, frozen=True):
    """What the end of a job did to an account; None if it changed nothing."""

    account: str
    value: int | None = None
    version: int = 0
    is_known: bool = True
    """False if somebody else ended the job and may not have told: then the account is read again."""


class Gate:
    """Admits requests and settles jobs.  Raises Redis errors."""

    def __init__(self, redis: Redis, strategy: Strategy, *, minute_ms: int = 60_000) -> None:
        layout = f"local MINUTE, DAY = {minute_ms}, {minute_ms * 1440}\n"
        prelude = layout + (_FOLDER / "prelude.lua").read_text()
        self._strategy = strategy
        self._redis = redis
        names = ("admit", "load", "settle")
        self._scripts = Scripts(redis, {name: prelude + (_FOLDER / f"{name}.lua").read_text() for name in names})

    async def admit(self, job_id: str, limits: Limits, demands: Sequence[Demand]) -> Decision | list[Missing]:
        """Count the request and hold what it may cost; a refusal changes nothing."""
        arguments: list[Any] = [job_id, limits.windows, self._strategy, limits.tokens, *map(_text, limits.values)]
        for one in demands:
            arguments += [one.account, one.kind, one.amount, _text(one.limit), _text(one.other_limit)]
        verdict, *answer = await self._scripts.run("admit", arguments)
        if verdict == b"load":
            found = answer[0]
            triples = zip(found[::3], found[1::3], found[2::3], strict=True)
            return [Missing(name.decode(), seq.decode(), counted_ms) for name, seq, counted_ms in triples]
        left, (held, at_ms), used = answer
        uses = tuple(Use(count, reset_ms) for count, reset_ms in zip(used[::2], used[1::2], strict=True))
        return Decision(verdict=verdict.decode(), left=tuple(left), held_micros=held, at_ms=at_ms, uses=uses)

    async def load(self, missing: Missing, truth: Truth, settled_before: str) -> bool:
        """Tell Redis the truth about an account; returns False if it must be read again.

        Jobs with ids below `settled_before` that are not among the holds have ended, or were never accepted.
        """
        holds = [part for hold in truth.holds.items() for part in hold]
        arguments = [missing.account, truth.value, truth.version, missing.seq, settled_before, *holds]
        return bool(await self._scripts.run("load", arguments))

    async def settle(
        self, job_id: str, admission: Admission, released: Sequence[Released], *, requests: int = 0, tokens: int = 0
    ) -> None:
        """Release what the job held and correct what was counted by so many requests and tokens."""
        arguments: list[Any] = [job_id, admission.windows, self._strategy, admission.admitted_ms, requests, tokens]
        for one in released:
            arguments += [one.account, _text(one.value) if one.is_known else "?", one.version]
        await self._scripts.run("settle", arguments)

    async def forget(self, accounts: Sequence[str]) -> None:
        """Have accounts read again, since an administrator changed them."""
        if not accounts:
            return
        async with self._redis.pipeline(transaction=True) as pipeline:
            for name in accounts:
                pipeline.delete(f"sluice:account:{name}")
                pipeline.hincrby(f"sluice:holds:{name}", "#", 1)  # what is being loaded now is too old
                pipeline.expire(f"sluice:holds:{name}", _HOLDS_S)
            await pipeline.execute()


def _text(value: int | None) -> int | str:
    return "" if value is None else value
