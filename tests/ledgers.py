"""Ledgers drawn from a seed: several attempts per job, restated ones, and all that may be missing in a row."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from shared.carbon.footprint import Deployment, build_profile
from shared.database import Database
from shared.ids import oldest_ulid
from shared.usage.report_queries import COLUMN_OF, DAY_MS
from shared.usage.tables import ChargeRow, UsageRecordRow
from worker.context import TokenCount
from worker.metering import weigh

DEPLOYMENTS = (
    Deployment(total_params=70.0, zone="FRA"),
    Deployment(total_params=8.0, active_params=1.5, zone="POL", pue=1.1),
    Deployment(zone="USA"),
    Deployment(joules_per_output_token=2.7, zone="FRA"),
)
FEE = 10**13 + 7
"""Micro-units: so much that a sum of floats would be wrong."""


def draw_ledger(seed: int, first_ms: int, days: int, jobs: int = 60) -> tuple[list[UsageRecordRow], list[ChargeRow]]:
    """Return records, as the worker computes them, and charges; credits, which are negative, are among these."""
    draw = random.Random(seed)
    records, charges = [], []
    for number in range(jobs):
        at_ms = first_ms + draw.randrange(days * DAY_MS)
        job_id = oldest_ulid(at_ms)[:16] + f"{number:010d}"
        who = {
            "user_id": draw.randrange(1, 4), "organization_id": draw.choice([None, 1, 2]),
            "key_id": draw.choice([None, 1, 2, 3]), "router_id": 1, "router_name": draw.choice(["a", "b"]),
        }  # fmt: skip
        last_ms = first_ms + days * DAY_MS - 1
        records += [
            _record(draw, job_id, attempt, min(at_ms + attempt, last_ms), who)
            for attempt in range(1, draw.randrange(1, 4) + 1)
        ]
        amount = draw.choice([0, draw.randrange(10**9), -draw.randrange(10**6), FEE])
        charges.append(
            ChargeRow(job_id=job_id, status="completed", created_ms=at_ms, kind="chat", amount_micros=amount, **who)
        )
    return records, charges


def _record(draw: random.Random, job_id: str, attempt: int, at_ms: int, who: dict[str, Any]) -> UsageRecordRow:
    tokens = TokenCount(prompt=draw.randrange(3000), completion=draw.randrange(900), cached=draw.randrange(9))
    latency_ms, cost = draw.choice([None, draw.randrange(20_000)]), draw.choice([0, 1, draw.randrange(10**9), FEE])
    called = draw.random() < 0.9
    provider = draw.randrange(len(DEPLOYMENTS))
    profile = build_profile(DEPLOYMENTS[provider])
    meter = weigh(profile, tokens, latency_ms, cost)
    found = meter.footprint
    assert found is not None
    computed: dict[str, Any] = {
        "energy_nwh": meter.energy_nwh, "energy_low_nwh": meter.energy_low_nwh,
        "energy_high_nwh": meter.energy_high_nwh, "operational_ng": meter.operational_ng,
        "embodied_ng": meter.embodied_ng, "carbon_low_ng": meter.carbon_low_ng,
        "carbon_high_ng": meter.carbon_high_ng, "water_nl": meter.water_nl, "prefill_nwh": meter.prefill_nwh,
        "zone": found.zone, "zone_effective": found.zone_effective, "intensity_kg_per_kwh": found.intensity_kg_per_kwh,
        "pue": found.pue, "source": found.source, "footprint_status": found.status, "deployment": meter.deployment,
    }  # fmt: skip
    if not called:
        computed = {"source": "none", "footprint_status": "unknown_params"}
    return UsageRecordRow(
        id=job_id[:-1] + "xyz"[attempt - 1], job_id=job_id, attempt=attempt,
        status=draw.choice(["succeeded", "failed", "lost"]), created_ms=at_ms,
        provider_id=provider + 1 if called else None, provider_model="m", endpoint="/v1/chat/completions",
        prompt_tokens=tokens.prompt,
        completion_tokens=tokens.completion, cached_tokens=tokens.cached, latency_ms=latency_ms, cost_micros=cost,
        method="ecologits-0.11", factors="2025", **who, **computed,
    )  # type: ignore[arg-type]  # fmt: skip


async def store(database: Database, rows: Sequence[Any]) -> None:
    """Write copies of the rows."""
    async with database.transaction() as session:
        session.add_all(type(row)(**row.model_dump()) for row in rows)


def newest(records: Sequence[UsageRecordRow]) -> list[UsageRecordRow]:
    """Return the records that nothing supersedes."""
    superseded = {record.supersedes for record in records}
    return [record for record in records if record.id not in superseded]


def sums_by(rows: Sequence[Any], dimensions: Sequence[str], names: Sequence[str], period: Callable[[int], Any]) -> Any:
    """Return group → exact sums of these columns, added one by one."""
    found: dict[Any, list[int]] = defaultdict(lambda: [0] * (len(names) + 1))
    for row in rows:
        sums = found[(period(row.created_ms), *(getattr(row, COLUMN_OF[name]) for name in dimensions))]
        sums[0] += 1
        for place, name in enumerate(names, 1):
            sums[place] += getattr(row, name)
    return dict(found)
