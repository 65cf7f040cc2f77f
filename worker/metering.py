"""Price one attempt: money, energy, carbon and water, in the integers of the ledger.

cost = prompt tokens × price + completion tokens × price; prices are per million tokens, so the sum is in micro-units of
money already; it is rounded half-even.
"""

from decimal import ROUND_HALF_EVEN, Decimal

from msgspec import Struct

from shared.carbon.footprint import Footprint, Profile, compute_footprint
from shared.jobs.messages import JobMessage
from shared.usage.schemas import MICRO, NANO_PER_UNIT, Carbon, Impacts, Range, Usage
from worker.context import TokenCount


class Meter(Struct, frozen=True, kw_only=True):
    """What an attempt consumed.  Money in micro-units, energy in nWh (1e-12 kWh), mass in ng (1e-12 kg)."""

    tokens: TokenCount
    cost_micros: int
    energy_nwh: int
    energy_low_nwh: int
    energy_high_nwh: int
    operational_ng: int
    embodied_ng: int
    carbon_low_ng: int
    carbon_high_ng: int
    water_nl: int
    prefill_nwh: int
    footprint: Footprint | None
    """None if no provider was called."""
    deployment: str | None
    """What the provider was described as, see `shared.carbon.footprint`."""

    @property
    def carbon_ug(self) -> int:
        """Return what budgets of CO2e are charged, in µg."""
        return round((self.operational_ng + self.embodied_ng) / 1000)


def meter(message: JobMessage, profile: Profile | None, tokens: TokenCount, latency_ms: int | None) -> Meter:
    """Return what these tokens consumed at a provider with this profile."""
    if profile is None:
        return Meter(
            tokens=tokens, cost_micros=0, energy_nwh=0, energy_low_nwh=0, energy_high_nwh=0, operational_ng=0,
            embodied_ng=0, carbon_low_ng=0, carbon_high_ng=0, water_nl=0, prefill_nwh=0, footprint=None,
            deployment=None,
        )  # fmt: skip
    return weigh(profile, tokens, latency_ms, cost_micros(message, tokens))


def weigh(profile: Profile, tokens: TokenCount, latency_ms: int | None, cost: int) -> Meter:
    """Return the same, once the cost is known."""
    latency_s = None if latency_ms is None else latency_ms / 1000
    uncached = max(tokens.prompt - tokens.cached, 0)
    found = compute_footprint(profile, tokens.completion, latency_s, uncached_prompt_tokens=uncached)
    return Meter(
        tokens=tokens,
        cost_micros=cost,
        energy_nwh=round(found.kwh * NANO_PER_UNIT),
        energy_low_nwh=round(found.kwh_low * NANO_PER_UNIT),
        energy_high_nwh=round(found.kwh_high * NANO_PER_UNIT),
        operational_ng=round(found.operational_kg * NANO_PER_UNIT),
        embodied_ng=round(found.embodied_kg * NANO_PER_UNIT),
        carbon_low_ng=round(found.kg_low * NANO_PER_UNIT),
        carbon_high_ng=round(found.kg_high * NANO_PER_UNIT),
        water_nl=round(found.water_l * 10**9),
        prefill_nwh=round(found.prefill_kwh * NANO_PER_UNIT),
        footprint=found,
        deployment=profile.deployment,
    )


def cost_micros(message: JobMessage, tokens: TokenCount) -> int:
    """Return the cost at the prices of the moment the job was accepted."""
    if message.price_prompt == "0" and message.price_completion == "0":
        return 0
    exact = tokens.prompt * Decimal(message.price_prompt) + tokens.completion * Decimal(message.price_completion)
    return int(exact.to_integral_value(ROUND_HALF_EVEN))


def charge_micros(message: JobMessage, cost: int) -> int:
    """Return what the caller pays: the cost, but not more than was held of his budget."""
    held = None if message.admission is None else message.admission.held_micros
    return cost if held is None else min(cost, held)


def to_usage(metered: Meter, charge_micros: int, *, requests: int) -> Usage:
    """Return the usage object of a reply."""
    tokens = metered.tokens
    return Usage(
        prompt_tokens=tokens.prompt,
        completion_tokens=tokens.completion,
        total_tokens=tokens.prompt + tokens.completion,
        cost=charge_micros / MICRO,
        carbon=Carbon(
            kWh=Range(min=metered.energy_low_nwh / NANO_PER_UNIT, max=metered.energy_high_nwh / NANO_PER_UNIT),
            kgCO2eq=Range(min=metered.carbon_low_ng / NANO_PER_UNIT, max=metered.carbon_high_ng / NANO_PER_UNIT),
        ),
        impacts=Impacts(
            kWh=metered.energy_nwh / NANO_PER_UNIT,
            kgCO2eq=(metered.operational_ng + metered.embodied_ng) / NANO_PER_UNIT,
        ),
        requests=requests * tokens.calls,
        prompt_tokens_details=tokens.prompt_details,
        completion_tokens_details=tokens.completion_details,
    )
