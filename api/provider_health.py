"""How providers are, in the colours of the wire."""

from collections.abc import Iterable
from typing import Final

from redis.exceptions import RedisError

from api.call import Call
from api.state import reachable
from shared.clock import now_ms, to_seconds
from shared.directory import Provider, Router
from shared.errors import QueueUnavailableError
from shared.models.health import Light, ProviderHealth
from shared.provider_health import ProviderState, read_states

_ORDER: Final[tuple[Light, ...]] = ("green", "yellow", "red")


async def health_of(call: Call, routers: Iterable[Router]) -> dict[int, list[ProviderHealth]]:
    """Return the health of all providers, by router; raises `QueueUnavailableError`, since Redis knows it."""
    known = list(routers)
    ids = [provider.id for router in known for provider in router.providers]
    try:
        states = await read_states([shard.redis for shard in reachable(call.state)], ids)
    except (RedisError, OSError) as error:
        raise QueueUnavailableError from error
    return {
        router.id: [_to_health(router, provider, states[provider.id]) for provider in router.providers]
        for router in known
    }


def worst(healths: Iterable[ProviderHealth]) -> Light:
    """Return the colour of the worst."""
    return max((health.status for health in healths), key=_ORDER.index, default="red")


def _to_health(router: Router, provider: Provider, state: ProviderState) -> ProviderHealth:
    now, limit = now_ms(), provider.most_attempts
    is_counted = limit is not None or router.load_balancing_strategy == "least_busy"
    return ProviderHealth(
        id=provider.id,
        model_name=provider.model_name,
        status=_light(provider, state, now),
        breaker="closed" if not state.opens_ms else "open" if state.opens_ms > now else "half_open",
        opens_at=to_seconds(state.opens_ms) if state.opens_ms > now else None,
        failures=state.failures,
        running=state.running if is_counted else None,
        limit=limit,
        ttft_p95_ms=state.figures.ttft_p95_ms,
        latency_p95_ms=state.figures.latency_p95_ms,
        tokens_per_s=state.figures.tokens_per_s,
    )


def _light(provider: Provider, state: ProviderState, now: int) -> Light:
    if state.opens_ms > now or not state.figures.keep(provider.qos_metric, provider.qos_limit):
        return "red"
    limit = provider.most_attempts
    return "yellow" if state.opens_ms or (limit is not None and state.running >= limit) else "green"
