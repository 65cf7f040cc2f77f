"""What the metrics say of an attempt that has ended."""

from shared.jobs.messages import JobMessage
from shared.metrics import (
    ATTEMPTS,
    COST,
    EMISSIONS,
    ENERGY,
    FIRST_TOKEN_SECONDS,
    TOKENS,
    Metrics,
)
from shared.usage.schemas import MICRO, NANO_PER_UNIT
from worker.metering import Meter

_NG_PER_G = 10**9


def note_attempt(
    metrics: Metrics, message: JobMessage, status: str, provider_id: int | None, ttft_ms: int | None, meter: Meter
) -> None:
    """Count one attempt and what it consumed."""
    model = message.router_name
    metrics.count(ATTEMPTS, str(provider_id or 0), status)
    if ttft_ms is not None:
        metrics.observe(FIRST_TOKEN_SECONDS, model, value=ttft_ms / 1000)
    for name, tokens in (("prompt", meter.tokens.prompt), ("completion", meter.tokens.completion)):
        if tokens:
            metrics.count(TOKENS, model, name, by=tokens)
    if meter.cost_micros:
        metrics.count(COST, model, by=meter.cost_micros / MICRO)
    if meter.energy_nwh:
        metrics.count(ENERGY, model, by=meter.energy_nwh / NANO_PER_UNIT)
        metrics.count(EMISSIONS, model, by=(meter.operational_ng + meter.embodied_ng) / _NG_PER_G)
