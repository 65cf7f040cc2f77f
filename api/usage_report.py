"""Fold sums of the ledger into the lines of a report."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from sqlmodel.ext.asyncio.session import AsyncSession

from api.spreadsheets import harmless
from shared.clock import to_datetime
from shared.names import Names, find_names
from shared.usage.report_queries import DAY_MS, SOURCES, SUMS, Part, sum_charges, sum_records
from shared.usage.reports import Emissions, UsageLine
from shared.usage.schemas import MICRO, NANO_PER_UNIT, Range

Group = tuple[Any, ...]
"""Period and dimensions."""
_NG_PER_G: Final = 10**9
_COUNTED: Final = 1 + len(SUMS) + len(SOURCES)


class _Sums:
    """What was added up for one group."""

    def __init__(self) -> None:
        self.records = [0] * _COUNTED
        self.jobs = 0
        self.charged_micros = 0

    def add(self, other: "_Sums") -> None:
        self.records = [one + more for one, more in zip(self.records, other.records, strict=True)]
        self.jobs += other.jobs
        self.charged_micros += other.charged_micros


async def make_report(session: AsyncSession, part: Part, period: str) -> tuple[list[UsageLine], UsageLine]:
    """Return the lines of a part of the ledger by day, month or in total, and their sum."""
    dimensions = part.dimensions
    has_charges = "provider" not in dimensions and part.filters.get("provider_id") is None
    groups: defaultdict[Group, _Sums] = defaultdict(_Sums)
    for day, *rest in await sum_records(session, part):
        found = groups[(_period(int(day), period), *rest[: len(dimensions)])]
        found.records = [one + more for one, more in zip(found.records, rest[len(dimensions) :], strict=True)]
    if has_charges:
        for day, *rest in await sum_charges(session, part):
            found = groups[(_period(int(day), period), *rest[: len(dimensions)])]
            found.jobs += rest[-2]
            found.charged_micros += rest[-1]
    total = _Sums()
    for one in groups.values():
        total.add(one)
    ordered = sorted(groups.items(), key=lambda item: [(value is not None, value) for value in item[0]])
    names: dict[str, Names] = {
        name: await find_names(session, name, (group[place] for group in groups))
        for place, name in enumerate(dimensions, 1)
    }
    lines = [_to_line(group, names, sums, has_charges=has_charges) for group, sums in ordered]
    return lines, _to_line((None,), {}, total, has_charges=has_charges)


def _period(day: int, period: str) -> str | None:
    if period == "total":
        return None
    return to_datetime(day * DAY_MS).strftime("%Y-%m-%d" if period == "day" else "%Y-%m")


def _to_line(group: Group, names: dict[str, Names], sums: _Sums, *, has_charges: bool) -> UsageLine:
    """Return a line; `names` has those of the dimensions of `group`, in their order."""
    attempts, *values = sums.records
    stored = dict(zip((*SUMS, *SOURCES), values, strict=True))
    of = dict(zip(names, group[1:], strict=True))
    called = {name: names[name].get(number) for name, number in of.items()}
    tokens = stored["prompt_tokens"] + stored["completion_tokens"]
    known = tokens - stored["none"]
    emitted_ng = stored["operational_ng"] + stored["embodied_ng"]
    return UsageLine(
        period=group[0],
        organization_id=of.get("organization"),
        user_id=of.get("user"),
        key_id=of.get("key"),
        model=of.get("model"),
        provider_id=of.get("provider"),
        attempts=attempts,
        requests=sums.jobs if has_charges else None,
        prompt_tokens=stored["prompt_tokens"],
        completion_tokens=stored["completion_tokens"],
        cached_tokens=stored["cached_tokens"],
        cost=stored["cost_micros"] / MICRO,
        charge=sums.charged_micros / MICRO if has_charges else None,
        kwh=stored["energy_nwh"] / NANO_PER_UNIT,
        kwh_range=Range(min=stored["energy_low_nwh"] / NANO_PER_UNIT, max=stored["energy_high_nwh"] / NANO_PER_UNIT),
        gco2eq=Emissions(
            total=emitted_ng / _NG_PER_G,
            operational=stored["operational_ng"] / _NG_PER_G,
            embodied=stored["embodied_ng"] / _NG_PER_G,
            range=Range(min=stored["carbon_low_ng"] / _NG_PER_G, max=stored["carbon_high_ng"] / _NG_PER_G),
        ),
        water_l=stored["water_nl"] / 10**9,
        gco2eq_per_1000_tokens=emitted_ng / _NG_PER_G / known * 1000 if known > 0 else None,
        coverage=known / tokens if tokens else None,
        sources={source: stored[source] / tokens for source in SOURCES if tokens and stored[source]},
        organization_name=called.get("organization"),
        user_email=called.get("user"),
        key_name=called.get("key"),
        provider_name=called.get("provider"),
    )


def to_csv(lines: Iterable[UsageLine]) -> bytes:
    """Return the lines as CSV with a header; members of members become columns of their own."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _COLUMNS, restval=0, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(msgspec.to_builtins(line)) for line in lines)
    return buffer.getvalue().encode()


_COLUMNS: Final = (
    "period", "organization_id", "user_id", "key_id", "model", "provider_id", "attempts", "requests", "prompt_tokens",
    "completion_tokens", "cached_tokens", "cost", "charge", "kwh", "kwh_range_min", "kwh_range_max", "gco2eq_total",
    "gco2eq_operational", "gco2eq_embodied", "gco2eq_range_min", "gco2eq_range_max", "water_l",
    "gco2eq_per_1000_tokens", "coverage", *(f"sources_{source}" for source in SOURCES),
    "organization_name", "user_email", "key_name", "provider_name",
)  # fmt: skip


def _flat(members: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in members.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}_")
        else:
            flat[prefix + name] = harmless(value) if isinstance(value, str) else value
    return flat
