"""GET /v1/me/usage: one's own model calls, from the ledger."""

from typing import Final

from api.call import Call
from api.http import Routes
from shared.clock import now_ms
from shared.lists import ListPage, check_ranges
from shared.usage.queries import list_usage_records
from shared.usage.records import ListUsageQuery, RecordMetrics, RecordUsage, UsageRecord
from shared.usage.schemas import MICRO, NANO_PER_UNIT, Carbon, Impacts, Range
from shared.usage.tables import UsageRecordRow

routes = Routes("Me")
_DEFAULT_S: Final = 30 * 86_400


@routes.get("/v1/me/usage")
async def list_my_usage(call: Call, query: ListUsageQuery) -> ListPage[UsageRecord]:
    """List one's successful model calls, newest first; without times, those of the last 30 days."""
    check_ranges(query, ("start_time", "end_time"))
    now_s = now_ms() // 1000
    until_s = now_s if query.end_time is None else query.end_time
    from_s = now_s - _DEFAULT_S if query.start_time is None else query.start_time
    async with call.state.database.read() as session:
        rows, total = await list_usage_records(session, call.caller.user_id, from_s * 1000, (until_s + 1) * 1000, query)
    return ListPage(
        data=[_to_record(row, key) for row, key in rows], total=total, offset=query.offset, limit=query.limit
    )


def _to_record(row: UsageRecordRow, key_name: str | None) -> UsageRecord:
    usage = RecordUsage(
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        total_tokens=row.prompt_tokens + row.completion_tokens,
        cost=row.cost_micros / MICRO,
        carbon=Carbon(
            kWh=Range(min=row.energy_low_nwh / NANO_PER_UNIT, max=row.energy_high_nwh / NANO_PER_UNIT),
            kgCO2eq=Range(min=row.carbon_low_ng / NANO_PER_UNIT, max=row.carbon_high_ng / NANO_PER_UNIT),
        ),
        impacts=Impacts(
            kWh=row.energy_nwh / NANO_PER_UNIT, kgCO2eq=(row.operational_ng + row.embodied_ng) / NANO_PER_UNIT
        ),
        metrics=RecordMetrics(latency=row.latency_ms, ttft=row.ttft_ms),
    )
    return UsageRecord(
        model=row.router_name,
        key=key_name,
        endpoint=row.endpoint,
        method="POST",
        status=row.http_status,
        usage=usage,
        created=row.created_ms // 1000,
    )
