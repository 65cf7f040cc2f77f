"""shared.carbon against vectors made with ecologits 0.11.3, and against the library itself."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from ecologits.impacts.llm import compute_llm_impacts
from hypothesis import given
from hypothesis import strategies as st

from shared.carbon import method
from shared.carbon.footprint import Deployment, Footprint, build_profile, compute_footprint
from shared.carbon.zones import HOSTING_ZONES, effective_zone

DATA = Path(__file__).parent.parent / "data"
# a deployment has no measured token rate, so the one vector with `tps` does not apply
VECTORS = [v for v in json.loads((DATA / "carbon_vectors.json").read_text())["vectors"] if "tps" not in v["in"]]


def end(value: Any, which: str) -> Any:
    """Return one end of a range, or the number itself."""
    if isinstance(value, list):
        return value[0] if which == "min" else value[1]
    return value[which] if isinstance(value, dict) else value


def footprint_of(given: dict, which: str) -> Footprint:
    profile = build_profile(
        Deployment(
            total_params=end(given["total_b"], which),
            active_params=end(given["active_b"], which),
            zone=given["zone"],
            quantization_bits=given.get("model_quantization_bits"),
            gpu_memory_gb=given.get("gpu_memory"),
            batch_size=given.get("batch_size"),
            pue=end(given["pue"], which),
            wue=end(given["wue"], which),
        )
    )
    return compute_footprint(profile, given["output_tokens"], given["latency_s"])


@pytest.mark.parametrize("which", ["min", "max"])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['name']} {vector['in']['zone']}")
def test_equals_the_vectors(vector: dict, which: str) -> None:
    given, expected = vector["in"], vector["out"]

    found = footprint_of(given, which)

    assert math.isclose(found.kwh, end(expected["energy_kwh"], which), rel_tol=1e-12)
    assert math.isclose(found.operational_kg, end(expected["gwp_usage_kg"], which), rel_tol=1e-12)
    assert math.isclose(found.embodied_kg, end(expected["gwp_embodied_kg"], which), rel_tol=1e-12)
    assert math.isclose(found.water_l, end(expected["wcf_l"], which), rel_tol=1e-12)


@given(
    active=st.floats(0.1, 2000),
    extra=st.floats(0, 2000),
    tokens=st.integers(1, 100_000),
    latency=st.floats(0, 600),
    zone=st.sampled_from(["FRA", "USA", "WOR", "DEU", "SWE"]),
)
def test_equals_the_library_itself(active: float, extra: float, tokens: int, latency: float, zone: str) -> None:
    factors = effective_zone(zone)
    expected = compute_llm_impacts(
        model_active_parameter_count=active,
        model_total_parameter_count=active + extra,
        output_token_count=tokens,
        request_latency=latency,
        if_electricity_mix_adpe=1e-8,
        if_electricity_mix_pe=9.0,
        if_electricity_mix_gwp=factors.kg_per_kwh,
        if_electricity_mix_wue=factors.l_per_kwh,
        datacenter_pue=1.2,
        datacenter_wue=1.8,
    )

    deployment = Deployment(active_params=active, total_params=active + extra, zone=zone)
    found = compute_footprint(build_profile(deployment), tokens, latency)

    assert math.isclose(found.kwh, expected.energy.value, rel_tol=1e-12)
    assert math.isclose(found.operational_kg + found.embodied_kg, expected.gwp.value, rel_tol=1e-12)


def test_the_range_holds_the_value_and_narrows_with_knowledge() -> None:
    vague = compute_footprint(build_profile(Deployment(total_params=70)), 200, 2.5)
    known = compute_footprint(build_profile(Deployment(total_params=70, gpu_count=4, batch_size=64)), 200, 2.5)

    assert vague.kwh_low < vague.kwh < vague.kwh_high
    assert vague.kg_low < vague.operational_kg + vague.embodied_kg < vague.kg_high
    assert known.kwh == pytest.approx(vague.kwh, rel=1e-12)
    assert known.kwh_high - known.kwh_low < vague.kwh_high - vague.kwh_low


@pytest.mark.parametrize("latency", [None, -1.0, math.nan])
def test_an_unknown_latency_is_the_modelled_one(latency: float | None) -> None:
    profile = build_profile(Deployment(total_params=70))
    assert compute_footprint(profile, 200, latency) == compute_footprint(profile, 200, 1e9)


def test_one_size_serves_for_both() -> None:
    total_only = compute_footprint(build_profile(Deployment(total_params=70)), 200, 2.5)
    active_only = compute_footprint(build_profile(Deployment(active_params=70)), 200, 2.5)
    assert total_only == active_only
    assert total_only.kwh > 0


def test_unknown_sizes_are_zero_and_say_so() -> None:
    found = compute_footprint(build_profile(Deployment(zone="FRA")), 200, 2.5)
    assert (found.kwh, found.operational_kg, found.embodied_kg) == (0.0, 0.0, 0.0)
    assert (found.status, found.source) == ("unknown_params", "none")


def test_measured_energy_replaces_the_model() -> None:
    deployment = Deployment(total_params=70, joules_per_output_token=3.6, pue=1.0)
    found = compute_footprint(build_profile(deployment), 1000, 2.5)
    assert found.kwh == pytest.approx(0.001, rel=1e-12)
    assert found.source == "measured"


@pytest.mark.parametrize(
    ("zone", "used"), [("MCO", "FRA"), ("SMR", "ITA"), ("JEY", "GBR"), ("ATA", "WOR"), ("CAF", "WOR")]
)
def test_a_zone_without_factor_zeroes_nothing(zone: str, used: str) -> None:
    found = compute_footprint(build_profile(Deployment(total_params=70, zone=zone)), 200, 2.5)
    assert found.kwh > 0
    assert found.operational_kg > 0
    assert (found.zone, found.zone_effective, found.status) == (zone, used, "zone_fallback")


def test_every_hosting_zone_has_a_plausible_factor() -> None:
    assert len(HOSTING_ZONES) == 250
    assert all(effective_zone(zone).kg_per_kwh > 0.001 for zone in HOSTING_ZONES)


def test_gpu_count_steps() -> None:
    counts = [method.gpu_count(size, 16, 80) for size in (33, 34, 66.6, 67, 133, 134, 266, 267)]
    assert counts == [1, 2, 2, 4, 4, 8, 8, 16]
