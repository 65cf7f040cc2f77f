"""GET /v1/usage: this month and the previous one, from the ledger."""

from api.call import Call
from api.http import Routes
from shared.clock import month_start_ms, now_ms
from shared.usage.queries import get_month_usage
from shared.usage.schemas import UsageReport

routes = Routes("Usage")


@routes.get("/v1/usage")
async def get_usage(call: Call) -> UsageReport:
    """Get tokens, cost, energy and carbon of the current and the previous calendar month (UTC).

    They are those of the caller; with the key of a subscription, those of the subscription.
    """
    now = now_ms()
    key_id = call.caller.key_id if call.caller.is_subscription else None
    this, previous = month_start_ms(now), month_start_ms(now, months_back=1)
    async with call.state.database.read() as session:
        return UsageReport(
            current_month=await get_month_usage(session, call.caller.user_id, this, now + 1, key_id),
            previous_month=await get_month_usage(session, call.caller.user_id, previous, this, key_id),
        )
