"""Usage reports: one's own, that of one's organization, and for administrators those of everybody; as JSON or CSV."""

import datetime as dt
from typing import Final

from msgspec import json

from api.call import Call
from api.http import JSON, Reply, Routes
from api.log_reads import reading_logs
from api.named import Scope, find_named
from api.negotiation import preferred
from api.usage_report import make_report, to_csv
from shared.clock import now_ms, to_datetime
from shared.errors import InvalidFieldError, NotFoundError
from shared.request_logs.errors import LogsUnavailableError
from shared.usage.report_queries import COLUMN_OF, DAY_MS, Part
from shared.usage.reports import MOST_DAYS, UsageReportPage, UsageReportQuery

routes = Routes("Usage")
CSV: Final = "text/csv"


@routes.get("/v1/usage/report", raises=(LogsUnavailableError,), other_media_types=(CSV,))
async def get_usage_report(call: Call, query: UsageReportQuery) -> Reply[UsageReportPage]:
    """Add up one's own usage by day, month or in total, and by key, model or provider.

    `Accept: text/csv` gives the lines as CSV.
    """
    return await _report(call, query, "caller", {"user_id": call.caller.user_id})


@routes.get(
    "/v1/organization/usage/report",
    right="read_organization_usage",
    raises=(NotFoundError, LogsUnavailableError),
    other_media_types=(CSV,),
)
async def get_organization_usage_report(call: Call, query: UsageReportQuery) -> Reply[UsageReportPage]:
    """Add up what was charged to the caller's organization, by its users, keys, models and providers.

    What somebody used while he belonged to another organization is not part of it.
    """
    if call.caller.organization_id is None:  # as a filter, it would mean all organizations
        raise NotFoundError("You belong to no organization.")
    return await _report(call, query, "organization", {"organization_id": call.caller.organization_id})


@routes.get("/v1/admin/usage/report", right="admin", raises=(LogsUnavailableError,), other_media_types=(CSV,))
async def get_all_usage_report(call: Call, query: UsageReportQuery) -> Reply[UsageReportPage]:
    """Add up the usage of everybody, or of one user, organization or key, by whatever is asked for."""
    return await _report(call, query, "everybody", {})


async def _report(call: Call, query: UsageReportQuery, scope: Scope, within: dict[str, int]) -> Reply[UsageReportPage]:
    today = to_datetime(now_ms()).date()
    since = _day(query.since, "since") or today.replace(day=1)
    until = _day(query.until, "until") or today
    if not 0 <= (until - since).days < MOST_DAYS:
        raise InvalidFieldError(["query", "until"], f"Expected a day from `since` on, and at most {MOST_DAYS} days")
    asked = {name: getattr(query, name) for name in ("user_id", "organization_id", "key_id", "provider_id")}
    part = Part(
        from_ms=_start_ms(since), until_ms=_start_ms(until) + DAY_MS,
        dimensions=[name for name in COLUMN_OF if name in query.group_by],
        filters=asked | {"router_name": query.model}, named=await find_named(call, query, scope), within=within,
    )  # fmt: skip
    async with reading_logs(call) as session:
        lines, total = await make_report(session, part, query.period)
    if preferred(call.request.headers.get("Accept", ""), (JSON, CSV)) == CSV:
        call.headers["Content-Disposition"] = f"attachment; filename=usage_report_{since}_{until}.csv"
        return Reply(body=to_csv(lines), content_type=CSV)
    page = UsageReportPage(since=since.isoformat(), until=until.isoformat(), data=lines, total=total)
    return Reply(body=json.encode(page))


def _day(text: str | None, name: str) -> dt.date | None:
    try:
        return None if text is None else dt.date.fromisoformat(text)
    except ValueError:
        raise InvalidFieldError(["query", name], "Expected a day such as 2026-11-01") from None


def _start_ms(day: dt.date) -> int:
    return int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp() * 1000)
