"""GET /v1/webhook_event_types: the events there are."""

from api.call import Call
from api.http import Routes
from shared.webhooks.events import EVENT_TYPES
from shared.webhooks.schemas import WebhookEventTypes

routes = Routes("Webhooks")


@routes.get("/v1/webhook_event_types")
async def list_webhook_event_types(call: Call) -> WebhookEventTypes:  # every handler takes it
    """List the names of events."""
    return WebhookEventTypes(data=list(EVENT_TYPES))
