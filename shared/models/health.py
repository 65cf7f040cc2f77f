"""Wire types of the health of models and providers."""

from typing import Literal

from msgspec import Struct

Condition = Literal["ok", "degraded", "down"]
Light = Literal["green", "yellow", "red"]


class ModelHealth(Struct, kw_only=True):
    """A model as its worst provider is; yellow: requests wait there; red: out of order, or over its limit."""

    id: str
    status: Light


class ModelHealthList(Struct, kw_only=True):
    """The models the caller may use."""

    data: list[ModelHealth]


class ProviderHealth(Struct, kw_only=True):
    """A provider; figures are those of the last two minutes, null if there were no attempts."""

    id: int
    model_name: str
    status: Light
    breaker: Literal["closed", "half_open", "open"]
    opens_at: int | None
    """Unix seconds until which nothing is sent there."""
    failures: int
    running: int | None
    """Attempts; null if they are not counted."""
    limit: int | None
    ttft_p95_ms: float | None
    latency_p95_ms: float | None
    tokens_per_s: float | None


class RouterHealth(Struct, kw_only=True):
    """A router and its providers."""

    id: int
    name: str
    status: Light
    providers: list[ProviderHealth]
    object: Literal["router.health"] = "router.health"


class Components(Struct, kw_only=True):
    """Parts of the installation."""

    database: Condition
    redis: Condition
    workers: Condition
    providers: Condition


class ClusterHealth(Struct, kw_only=True):
    """How the installation is; `degraded`: it answers, but a part of it does not work."""

    status: Condition
    components: Components
    checked_at: str
