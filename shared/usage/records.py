"""Wire types of GET /v1/me/usage."""

from typing import Literal

from msgspec import Struct

from shared.lists import PageQuery, Seconds
from shared.usage.schemas import Carbon, Impacts

EndpointUsage = Literal[
    "/v1/audio/transcriptions",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/ocr",
    "/v1/rerank",
    "/v1/search",
]


class ListUsageQuery(PageQuery, kw_only=True):
    """Both ends of the time are part of it."""

    start_time: Seconds | None = None
    end_time: Seconds | None = None
    endpoint: EndpointUsage | None = None


class RecordMetrics(Struct, kw_only=True):
    """Milliseconds; `ttft` of streams only."""

    latency: int | None
    ttft: int | None


class RecordUsage(Struct, kw_only=True):
    """What one model call consumed."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float
    carbon: Carbon
    impacts: Impacts
    metrics: RecordMetrics


class UsageRecord(Struct, kw_only=True):
    """One model call; `key` is the name of the key, null once it is deleted."""

    model: str | None
    key: str | None
    endpoint: str | None
    method: str | None
    status: int | None
    usage: RecordUsage
    created: int
    object: Literal["me.usage"] = "me.usage"
