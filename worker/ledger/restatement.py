"""Compute footprints anew, by the method and the factors of this version of Sluice.

A record that comes out differently is not changed: a new one names it in `supersedes` and counts from then on, in the
same period, with the same tokens and the same money.  Records of attempts that called no provider stay as they are.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import DecodeError, Struct, json
from msgspec.structs import replace
from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.carbon.footprint import Deployment, Profile, build_profile
from shared.carbon.method import METHOD
from shared.carbon.zones import Factors, current_factors
from shared.clock import now_ms
from shared.database import Database
from shared.directory import deployment_of
from shared.ids import new_ulid
from shared.providers.tables import ProviderRow
from shared.usage.newest import IS_NEWEST
from shared.usage.tables import RestatementRow, UsageRecordRow
from worker.context import TokenCount
from worker.metering import weigh

Deployments = Literal["recorded", "current"]
_PAGE: Final = 500
_COPIED: Final = (
    "job_id", "attempt", "status", "created_ms", "user_id", "organization_id", "key_id", "router_id", "provider_id",
    "router_name", "provider_model", "endpoint", "http_status", "prompt_tokens", "completion_tokens", "cached_tokens",
    "reasoning_tokens", "is_estimated", "latency_ms", "ttft_ms", "cost_micros",
)  # fmt: skip
_COMPUTED: Final = (
    "energy_nwh", "energy_low_nwh", "energy_high_nwh", "operational_ng", "embodied_ng", "carbon_low_ng",
    "carbon_high_ng", "water_nl", "prefill_nwh", "zone", "zone_effective", "intensity_kg_per_kwh", "pue", "source",
    "method", "factors", "footprint_status",
)  # fmt: skip


class Task(Struct, frozen=True, kw_only=True):
    """What is restated: records of [from, until), with providers as they were or as they are described now."""

    from_ms: int
    until_ms: int
    deployments: Deployments
    reason: str


class Outcome(Struct, kw_only=True):
    """Numbers of records.  `unknown` ones have no description of their provider left, and stayed as they are."""

    number: int
    restated: int = 0
    unchanged: int = 0
    unknown: int = 0


async def restate(database: Database, task: Task, factors: Factors | None = None) -> Outcome:
    """Restate page by page; broken off, it is simply run again, since what is right already is not written again."""
    factors = factors or current_factors()
    async with database.transaction() as session:
        number = int((await session.exec(select(func.max(RestatementRow.number)))).one() or 0) + 1
        run = RestatementRow(
            number=number, created_ms=now_ms(), from_ms=task.from_ms, until_ms=task.until_ms,
            deployments=task.deployments, reason=task.reason, method=METHOD, factors=factors.version,
        )  # fmt: skip
        session.add(run)
    async with database.read() as session:
        current = {row.id: deployment_of(row) for row in (await session.exec(select(ProviderRow))).all()}
    outcome, after = Outcome(number=number), ""
    profiles: dict[Deployment, Profile] = {}
    while True:
        async with database.transaction() as session:
            page = await _page(session, task, number, after)
            for row in page:
                deployment = _deployment(row, task.deployments, current)
                if deployment is None:
                    outcome.unknown += 1
                    continue
                if deployment not in profiles:
                    profiles[deployment] = build_profile(deployment, factors)
                newer = restated(row, profiles[deployment], factors.version, number)
                if newer is None:
                    outcome.unchanged += 1
                else:
                    outcome.restated += 1
                    session.add(newer)
        if len(page) < _PAGE:
            break
        after = page[-1].id
    async with database.transaction() as session:
        run = await session.get_one(RestatementRow, number)
        run.finished_ms, run.records = now_ms(), outcome.restated
    return outcome


async def _page(session: AsyncSession, task: Task, number: int, after: str) -> Sequence[UsageRecordRow]:
    """Return the next of the newest records that called a provider, without those of this run."""
    statement: Any = (
        select(UsageRecordRow)
        .where(UsageRecordRow.id > after, UsageRecordRow.restatement < number, col(UsageRecordRow.zone).is_not(None))
        .where(UsageRecordRow.created_ms >= task.from_ms, UsageRecordRow.created_ms < task.until_ms, IS_NEWEST)
        .order_by(col(UsageRecordRow.id))
        .limit(_PAGE)
    )
    return list((await session.exec(statement)).all())


def _deployment(row: UsageRecordRow, which: Deployments, current: dict[int | None, Deployment]) -> Deployment | None:
    """Return what the record is computed from; None if that is not known any more.

    Records of earlier versions do not have it: then it is the provider's of now, where and as cooled as it was then.
    """
    now = current.get(row.provider_id)
    if which == "current":
        return now
    if row.deployment is not None:
        try:
            return json.decode(row.deployment, type=Deployment)
        except DecodeError:
            return None
    return None if now is None else replace(now, zone=row.zone or now.zone, pue=row.pue)


def restated(row: UsageRecordRow, profile: Profile, factors: str, number: int) -> UsageRecordRow | None:
    """Return the record that takes this one's place; None if nothing would be different."""
    tokens = TokenCount(prompt=row.prompt_tokens, completion=row.completion_tokens, cached=row.cached_tokens)
    meter = weigh(profile, tokens, row.latency_ms, row.cost_micros)
    found = meter.footprint
    if found is None:
        return None
    facts = (
        meter.energy_nwh, meter.energy_low_nwh, meter.energy_high_nwh, meter.operational_ng, meter.embodied_ng,
        meter.carbon_low_ng, meter.carbon_high_ng, meter.water_nl, meter.prefill_nwh, found.zone, found.zone_effective,
        found.intensity_kg_per_kwh, found.pue, found.source, METHOD, factors, found.status,
    )  # fmt: skip
    computed: dict[str, Any] = dict(zip(_COMPUTED, facts, strict=True))
    if all(getattr(row, name) == value for name, value in computed.items()):
        return None
    copied: dict[str, Any] = {name: getattr(row, name) for name in _COPIED}
    return UsageRecordRow(
        id=new_ulid(), supersedes=row.id, restatement=number, deployment=profile.deployment, **copied, **computed
    )
