"""What may be changed of a provider, and what counts from then on."""

from typing import Any

import pytest

from shared.usage.tables import UsageRecordRow
from tests.installation import Installation
from tests.people import AUDIT, PROVIDERS, changed, read
from tests.waiting import eventually

MEASUREMENTS: dict[str, Any] = {
    "quantization_bits": 8, "gpu_count": 4, "gpu_memory_gb": 80.0, "batch_size": 16, "pue": 1.1, "wue": 0.5,
    "joules_per_output_token": 2.5,
}  # fmt: skip


async def test_measurements_are_given_later_and_cleared_by_null(both: Installation) -> None:
    path = f"{PROVIDERS}/1"
    before = await read(both, path)

    await changed(both, path, MEASUREMENTS)
    given = await read(both, path)
    await changed(both, path, {"gpu_count": 2})
    one_more = await read(both, path)
    await changed(both, path, dict.fromkeys(MEASUREMENTS))

    assert {name: given[name] for name in MEASUREMENTS} == MEASUREMENTS
    assert {name: one_more[name] for name in MEASUREMENTS} == MEASUREMENTS | {"gpu_count": 2}
    assert await read(both, path) | {"updated": 0} == before | {"updated": 0}
    event = (await read(both, f"{AUDIT}?object_type=provider&object_id=1"))["data"][-1]
    assert (event["before"]["pue"], event["after"]["pue"]) == (None, 1.1)


async def test_a_measurement_counts_for_the_next_requests(sluice: Installation) -> None:
    model = await sluice.add_model("known", model_total_params=70)
    assert (await sluice.chat(model="known")).status == 200
    await changed(sluice, f"{PROVIDERS}/{model['id']}", {"joules_per_output_token": 3600.0, "pue": 2.0})

    async def measured() -> list[UsageRecordRow]:
        assert (await sluice.chat(model="known")).status == 200
        return await sluice.rows(UsageRecordRow, UsageRecordRow.source == "measured")

    found = (await eventually(measured))[0]
    assert found.pue == 2.0
    assert found.energy_nwh == found.completion_tokens * 2 * 10**9  # 3,600 J are 0.001 kWh


@pytest.mark.parametrize(
    ("member", "value"),
    [("pue", 0.9), ("wue", -1), ("gpu_count", 0), ("quantization_bits", 65), ("batch_size", 0),
     ("gpu_memory_gb", 0), ("joules_per_output_token", -0.1)],
)  # fmt: skip
async def test_impossible_measurements_are_refused(sluice: Installation, member: str, value: float) -> None:
    response = await sluice.patch(f"{PROVIDERS}/1", {member: value})

    assert response.status == 422
    assert (await read(sluice, f"{PROVIDERS}/1"))[member] is None


async def test_a_limit_goes_with_its_metric(sluice: Installation) -> None:
    path = f"{PROVIDERS}/1"
    await changed(sluice, path, {"qos_metric": "inflight", "qos_limit": 8})

    alone = await sluice.patch(path, {"qos_limit": None})
    await changed(sluice, path, {"qos_metric": None, "qos_limit": 5})

    assert alone.status == 422
    found = await read(sluice, path)
    assert (found["qos_metric"], found["qos_limit"]) == (None, None)
