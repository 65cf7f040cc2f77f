"""Wire types of usage: on every reply, and the months of GET /v1/usage."""

from typing import Final

from msgspec import UNSET, Raw, Struct, UnsetType

NANO_PER_UNIT: Final = 10**12
"""nWh per kWh, and ng per kg: the ledger's integers in the wire's units."""
MICRO: Final = 1_000_000
"""Micro-units per unit of money."""


class Range(Struct, kw_only=True):
    """A 90 % range."""

    min: float
    max: float


class Carbon(Struct, kw_only=True):
    """Ranges of energy in kWh and of emissions in kg CO2e."""

    kWh: Range
    kgCO2eq: Range


class Impacts(Struct, kw_only=True):
    """Energy in kWh and emissions in kg CO2e, operational and embodied."""

    kWh: float
    kgCO2eq: float


class FootprintRecord(Struct, kw_only=True):
    """How the footprint of an attempt was computed."""

    operational_kgCO2eq: float
    embodied_kgCO2eq: float
    water_l: float
    zone: str
    zone_effective: str
    intensity_kg_per_kwh: float
    pue: float
    source: str
    method: str
    factors: str
    status: str


class CacheUse(Struct, kw_only=True):
    """The answer was kept from an earlier request; what making it again would have consumed was avoided."""

    hit: bool
    avoided: Impacts


class Usage(Struct, kw_only=True):
    """Tokens, cost and footprint of a reply.  Details are there if the provider reported them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float
    carbon: Carbon
    impacts: Impacts
    requests: int
    cache: CacheUse | UnsetType = UNSET
    prompt_tokens_details: Raw | UnsetType = UNSET
    completion_tokens_details: Raw | UnsetType = UNSET


class ModelUsage(Struct, kw_only=True):
    """One model in a month."""

    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost: float


class MonthUsage(Struct, kw_only=True):
    """One calendar month, UTC.  `chat` counts tokens of texts and embeddings, `tts` characters, `image` megapixels."""

    chat: int
    tts: int
    tts_sm: int
    image: float
    image_sm: float
    requests: int
    cost: float
    impacts: Impacts
    by_model: list[ModelUsage]


class UsageReport(Struct, kw_only=True):
    """Answer of GET /v1/usage."""

    current_month: MonthUsage
    previous_month: MonthUsage


def zero_usage(*, requests: int = 0) -> Usage:
    """Return the usage of a job that consumed nothing, in so many calls of a provider."""
    nothing = Range(min=0.0, max=0.0)
    return Usage(
        prompt_tokens=0, completion_tokens=0, total_tokens=0, cost=0.0, carbon=Carbon(kWh=nothing, kgCO2eq=nothing),
        impacts=Impacts(kWh=0.0, kgCO2eq=0.0), requests=requests,
    )  # fmt: skip
