"""Wire types of /v2/inference.  Source: Vultr API, "Serverless Inference"."""

from typing import Annotated

from msgspec import Meta, Struct

Label = Annotated[str, Meta(min_length=1, max_length=128)]


class SubscriptionRequest(Struct, kw_only=True):
    """A new subscription, or a new label."""

    label: Label


class Subscription(Struct, kw_only=True):
    """A labelled key; `api_key` is its secret, in clear unless the installation masks it in lists."""

    id: str
    date_created: Annotated[str, Meta(description="ISO 8601, UTC.")]
    label: str
    api_key: str


class SubscriptionReply(Struct, kw_only=True):
    """One subscription."""

    subscription: Subscription


class ListSubscriptionsQuery(Struct, kw_only=True):
    """`label` is an exact filter; `cursor` is one of the links of another page."""

    label: str | None = None
    per_page: Annotated[int, Meta(ge=1, le=500)] = 100
    cursor: str | None = None


class PageLinks(Struct, kw_only=True):
    """Cursors of the pages beside this one; empty at the ends."""

    next: str
    prev: str


class PageMeta(Struct, kw_only=True):
    """Part of `SubscriptionPage`."""

    total: int
    links: PageLinks


class SubscriptionPage(Struct, kw_only=True):
    """Subscriptions, oldest first."""

    subscriptions: list[Subscription]
    meta: PageMeta


class ModelTokens(Struct, kw_only=True):
    """One chat model in a month; prices are whole units of money per million tokens."""

    model: str
    tokens: int
    """Generated."""
    input_tokens: int
    output_price: int
    input_price: int


class MonthsByModel(Struct, kw_only=True):
    """Part of `SubscriptionUsage`."""

    current_month: list[ModelTokens]
    previous_month: list[ModelTokens]


class AudioUsage(Struct, kw_only=True):
    """Characters spoken this month."""

    tts_characters: int
    tts_sm_characters: int


class ImageUsage(Struct, kw_only=True):
    """No images are served."""

    megapixels: float
    sm_megapixels: float


class ChatUsage(Struct, kw_only=True):
    """The current month; the last three members belong to prepaid plans, which do not exist here."""

    completion_tokens: int
    cost: float
    input_tokens: int
    input_cost: float
    current_tokens: int
    monthly_allotment: int
    overage: int


class SubscriptionUsage(Struct, kw_only=True):
    """What a subscription has used."""

    chat_by_model: MonthsByModel
    audio: AudioUsage
    image: ImageUsage
    chat: ChatUsage


class SubscriptionUsageReply(Struct, kw_only=True):
    """Usage of one subscription."""

    usage: SubscriptionUsage
