"""From a provider's description to the footprint of one attempt.

Range, 90 %: the GPU term varies by a factor exp(±1.645·sigma), sigma by what is known of the deployment; electricity
factor and PUE add in quadrature; embodied emissions within a factor of two.
"""

from math import exp, isnan, sqrt
from typing import Final, Literal

from msgspec import Struct, json

from shared.carbon import method
from shared.carbon.zones import Factors, Zone, current_factors

Status = Literal["ok", "unknown_params", "zone_fallback"]
Source = Literal["measured", "modelled", "none"]

_Z: Final = 1.645
_SIGMA_GRID: Final = 0.06
_SIGMA_PUE: Final = 0.03
_EMBODIED_LOW, _EMBODIED_HIGH = 0.5, 2.0
_JOULES_PER_KWH: Final = 3.6e6


class Deployment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of how a provider serves its model; sizes in billions, 0 is unknown.

    The ledger keeps it as JSON with each record, so that records can be computed again.
    """

    total_params: float = 0.0
    active_params: float = 0.0
    zone: str = "WOR"
    quantization_bits: int | None = None
    gpu_count: int | None = None
    gpu_memory_gb: float | None = None
    batch_size: int | None = None
    pue: float | None = None
    wue: float | None = None
    joules_per_output_token: float | None = None


class Profile(Struct, frozen=True, kw_only=True):
    """Coefficients of a deployment, computed once."""

    deployment: str
    """As the ledger keeps it."""
    zone: str
    used: Zone
    status: Status
    source: Source
    active_params: float
    pue: float
    wue: float
    sigma: float
    gpus_kwh_per_token: float
    seconds_per_token: float
    server_kwh_per_second: float
    embodied_kg_per_second: float


class Footprint(Struct, frozen=True, kw_only=True):
    """Of one attempt.  Energy in kWh, mass in kg CO2e, water in litres."""

    kwh: float
    kwh_low: float
    kwh_high: float
    operational_kg: float
    embodied_kg: float
    kg_low: float
    kg_high: float
    water_l: float
    prefill_kwh: float
    """Own extension `prefill-1`, not part of `kwh`."""
    zone: str
    zone_effective: str
    intensity_kg_per_kwh: float
    pue: float
    source: Source
    status: Status


def build_profile(deployment: Deployment, factors: Factors | None = None) -> Profile:
    """Return the coefficients; one of the two sizes serves for both if the other is unknown."""
    factors = factors or current_factors()
    active = deployment.active_params or deployment.total_params
    total = deployment.total_params or active
    batch = deployment.batch_size or method.BATCH_SIZE
    bits = deployment.quantization_bits or method.BITS
    gpus = deployment.gpu_count or method.gpu_count(total, bits, deployment.gpu_memory_gb or method.GPU_MEMORY_GB)
    used = factors.effective_zone(deployment.zone)
    joules = deployment.joules_per_output_token
    is_known = active > 0
    return Profile(
        deployment=json.encode(deployment).decode(),
        zone=deployment.zone,
        used=used,
        status=_status(deployment.zone, used, is_known=is_known or joules is not None),
        source="measured" if joules is not None else "modelled" if is_known else "none",
        active_params=active,
        pue=method.PUE if deployment.pue is None else deployment.pue,
        wue=method.WUE if deployment.wue is None else deployment.wue,
        sigma=_sigma(deployment),
        gpus_kwh_per_token=_kwh_per_token(joules, gpus, active, batch),
        seconds_per_token=method.seconds_per_token(active, batch),
        server_kwh_per_second=method.server_kwh_per_second(gpus, batch) if is_known and joules is None else 0.0,
        embodied_kg_per_second=method.embodied_kg_per_second(gpus, batch) if is_known else 0.0,
    )


def _status(asked: str, used: Zone, *, is_known: bool) -> Status:
    if not is_known:
        return "unknown_params"
    return "ok" if used.code == asked else "zone_fallback"


def _kwh_per_token(joules: float | None, gpus: int, active: float, batch: int) -> float:
    if joules is not None:
        return joules / _JOULES_PER_KWH
    return gpus * method.gpu_kwh_per_token(active, batch) if active > 0 else 0.0


def _sigma(deployment: Deployment) -> float:
    if deployment.joules_per_output_token is not None:
        return 0.0
    if deployment.gpu_count and deployment.batch_size:
        return 0.50
    return 0.57 if deployment.quantization_bits else 0.65


def compute_footprint(
    profile: Profile, output_tokens: int, latency_s: float | None, *, uncached_prompt_tokens: int = 0
) -> Footprint:
    """Return what one attempt consumed.

    Args:
        profile: of the provider that was called.
        output_tokens: completion tokens, reasoning included; never prompt tokens.
        latency_s: from the call to the last byte; None, negative or NaN is unknown, and the modelled time counts.
        uncached_prompt_tokens: for the extension `prefill-1`.

    """
    modelled_s = output_tokens * profile.seconds_per_token
    is_unknown = latency_s is None or isnan(latency_s) or latency_s < 0
    duration_s = modelled_s if is_unknown or latency_s is None else min(latency_s, modelled_s)
    gpus = output_tokens * profile.gpus_kwh_per_token
    server = duration_s * profile.server_kwh_per_second
    embodied = duration_s * profile.embodied_kg_per_second
    pue, grid = profile.pue, profile.used.kg_per_kwh

    def kwh(sigma: float) -> float:
        return pue * (server + gpus * exp(_Z * sigma))

    sigma_kwh = sqrt(profile.sigma**2 + _SIGMA_PUE**2)
    sigma_kg = sqrt(sigma_kwh**2 + _SIGMA_GRID**2)
    return Footprint(
        kwh=kwh(0.0),
        kwh_low=kwh(-sigma_kwh),
        kwh_high=kwh(sigma_kwh),
        operational_kg=kwh(0.0) * grid,
        embodied_kg=embodied,
        kg_low=kwh(-sigma_kg) * grid + embodied * _EMBODIED_LOW,
        kg_high=kwh(sigma_kg) * grid + embodied * _EMBODIED_HIGH,
        water_l=(server + gpus) * (profile.wue + pue * profile.used.l_per_kwh),
        prefill_kwh=method.prefill_kwh(profile.active_params, uncached_prompt_tokens),
        zone=profile.zone,
        zone_effective=profile.used.code,
        intensity_kg_per_kwh=grid,
        pue=pue,
        source=profile.source,
        status=profile.status,
    )
