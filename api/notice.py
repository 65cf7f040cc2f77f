"""Who is told about an object that a request makes."""

from msgspec import Struct

from shared.jobs.schemas import JobWebhook
from shared.webhooks.statements import NewWebhookEndpoint


class Notice(Struct, kw_only=True):
    """Who is told about an object that a request makes, if the request says so."""

    notify: str | None
    """See `shared.webhooks.statements`."""
    endpoint: NewWebhookEndpoint | None = None
    """Made for the object alone; its `object_id` is set when that has an id."""
    shown: JobWebhook | None = None
    """For the answer."""
