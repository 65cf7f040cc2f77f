"""Wire types of webhook endpoints and deliveries.  Sources: OpenAI's API for endpoints, the job model, section 9."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.lists import CursorPage, Seconds

EndpointStatus = Literal["enabled", "disabled"]
DeliveryStatus = Literal["pending", "delivering", "delivered", "failed", "exhausted", "paused", "aborted"]
Recoverable = Literal["exhausted", "paused", "failed", "aborted"]
Trigger = Literal["scheduled", "manual", "recover", "test"]
PLAIN: Final = r"^[^\x00-\x1f\x7f]*$"
Text = Annotated[str, Meta(max_length=512, pattern=PLAIN)]
Name = Annotated[str, Meta(min_length=1, max_length=256, pattern=PLAIN)]
EventTypes = Annotated[
    list[Annotated[str, Meta(max_length=100)]], Meta(min_length=1, max_length=64, description="The complete set.")
]
Kinds = Annotated[
    list[Annotated[str, Meta(max_length=64, pattern=r"^[a-z_.]+$")]],
    Meta(min_length=1, max_length=32, description="Only jobs of these kinds; null: all."),
]
HeaderName = Annotated[str, Meta(max_length=128, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
HeaderValue = Annotated[str, Meta(max_length=1024, pattern=r"^[\x20-\x7e]*$")]
Headers = Annotated[
    dict[HeaderName, HeaderValue], Meta(max_length=10, description="Sent with every delivery, at most 10.")
]
Url = Annotated[str, Meta(min_length=1, examples=["https://example.com/hooks"])]


class CreateWebhookEndpointRequest(Struct, kw_only=True):
    """Where events are to be sent, and which."""

    event_types: EventTypes
    name: Name
    url: Url
    description: Text | None = None
    headers: Headers | None = None
    include_result: bool = False
    """Events of completed jobs carry the result, up to 256 kB."""
    kinds: Kinds | None = None


class UpdateWebhookEndpointRequest(Struct, kw_only=True):
    """What is left out stays as it is."""

    event_types: EventTypes | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET
    headers: Headers | UnsetType | None = UNSET
    include_result: bool | UnsetType = UNSET
    kinds: Kinds | UnsetType | None = UNSET


class WebhookEndpoint(Struct, kw_only=True):
    """Where events go.  Values of `headers` that are secrets are shown as `***`."""

    id: str
    name: str
    description: str | None
    url: str
    event_types: list[str]
    kinds: list[str] | None
    headers: dict[str, str]
    include_result: bool
    status: EndpointStatus
    disabled_reason: str | None
    resting_until: int | None
    """Until then nothing but tries that are asked for is sent, since too many failed; null: it does not rest."""
    created_at: int
    updated_at: int
    signing_secret_hint: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"


class WebhookEndpointWithSecret(WebhookEndpoint, kw_only=True):
    """The same with its secret, which is shown when it is made and never again."""

    signing_secret: str


WebhookEndpointPage = CursorPage[WebhookEndpoint]
"""One page of endpoints, newest first."""


class WebhookEndpointDeleted(Struct, kw_only=True):
    """Answer of DELETE /v1/webhook_endpoints/{webhook_endpoint_id}."""

    id: str
    deleted: bool
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"


class ListWebhookEndpointsQuery(Struct, kw_only=True):
    """Query of GET /v1/webhook_endpoints."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class RotateSecretRequest(Struct, kw_only=True):
    """Without an overlap the old secret ends at once; else both sign until it is over."""

    keep_old_secret_active_for_24_hours: bool = False
    overlap_seconds: Annotated[int, Meta(ge=0, le=604_800)] | None = None


class WebhookTestRequest(Struct, kw_only=True):
    """Which sample to send."""

    event_type: str


class WebhookTestResult(Struct, kw_only=True):
    """What the receiver said to the sample."""

    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: bool
    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"


class WebhookEventTypes(Struct, kw_only=True):
    """The events there are."""

    data: list[str]
    object: Literal["list"] = "list"


class RecoverRequest(Struct, kw_only=True):
    """Which deliveries to send again: of this window, at most 14 days, in these states."""

    since: Seconds
    until: Seconds | None = None
    """Unset: now."""
    statuses: Annotated[list[Recoverable], Meta(min_length=1, max_length=4)] = msgspec.field(
        default_factory=lambda: ["exhausted", "paused"]
    )


class WebhookRecovery(Struct, kw_only=True):
    """How many deliveries are sent again."""

    webhook_endpoint_id: str
    matched: int
    object: Literal["webhook_recovery"] = "webhook_recovery"


class WebhookAttempt(Struct, kw_only=True):
    """One try of a delivery."""

    number: int
    trigger: Trigger
    started_at: int
    latency_ms: int
    status_code: int | None
    error_class: str | None
    error: str | None
    remote_address: str | None
    response_snippet: str | None


class WebhookDelivery(Struct, kw_only=True):
    """One event for one endpoint, with its tries."""

    id: str
    webhook_endpoint_id: str
    event_id: str
    event_type: str
    status: DeliveryStatus
    created_at: int
    delivered_at: int | None
    next_attempt_at: int | None
    attempts: list[WebhookAttempt]
    request_body: str | UnsetType = UNSET
    """Not in lists."""
    object: Literal["webhook_delivery"] = "webhook_delivery"


WebhookDeliveryPage = CursorPage[WebhookDelivery]
"""One page of deliveries, newest first."""


class ListWebhookDeliveriesQuery(Struct, kw_only=True):
    """Query of GET /v1/webhook_endpoints/{webhook_endpoint_id}/deliveries."""

    status: DeliveryStatus | None = None
    event_type: str | None = None
    created_after: Seconds | None = None
    created_before: Seconds | None = None
    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
