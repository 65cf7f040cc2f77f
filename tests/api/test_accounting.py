"""Usage, charges, the request log: what the ledger says is what was done."""

import asyncio
import random
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from msgspec import json

from shared.request_logs.tables import RequestLogRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.installation import Installation
from tests.providers import ScriptedProvider, says, usage

VULTR_CHAT = {"model": "simulator", "messages": [{"role": "user", "content": "Hi"}], "simulator": {"fail": "400"}}


async def test_usage_of_a_reply_carries_cost_and_carbon(both: Installation, provider: ScriptedProvider) -> None:
    provider.default = says("Hi", reported=usage(1000, 500))
    await both.add_model(
        "public", provider.url, prices=("0.55", "2.2"), model_total_params=70, model_hosting_zone="FRA"
    )

    reported = (await (await both.chat(model="public")).json())["usage"]

    record, charge = (await both.rows(UsageRecordRow))[0], (await both.rows(ChargeRow))[0]
    assert reported["cost"] == 0.00165
    assert charge.amount_micros == record.cost_micros == 1650
    assert reported["impacts"]["kWh"] == record.energy_nwh / 10**12
    assert reported["impacts"]["kgCO2eq"] == (record.operational_ng + record.embodied_ng) / 10**12
    assert reported["carbon"]["kWh"]["min"] < reported["impacts"]["kWh"] < reported["carbon"]["kWh"]["max"]
    assert reported["requests"] == 1
    assert (record.zone_effective, record.method, record.footprint_status) == ("FRA", "ecologits-0.11", "ok")
    assert record.water_nl > 0


async def test_doubling_the_prompt_leaves_the_energy_equal(sluice: Installation, provider: ScriptedProvider) -> None:
    await sluice.add_model("public", provider.url, model_total_params=8, joules_per_output_token=2)
    provider.script = [says("Hi", reported=usage(100, 50)), says("Hi", reported=usage(200, 50))]

    first = (await (await sluice.chat(model="public")).json())["usage"]
    second = (await (await sluice.chat(model="public")).json())["usage"]

    assert first["impacts"]["kWh"] == second["impacts"]["kWh"] > 0


async def test_rounding_is_half_even_and_sums_equal_the_report(both: Installation, provider: ScriptedProvider) -> None:
    generator = random.Random(7)
    tokens = [(generator.randrange(1, 400), generator.randrange(1, 400)) for _ in range(40)]
    provider.script = [says("Hi", reported=usage(*pair)) for pair in tokens]
    prompt_price, completion_price = Decimal("0.5"), Decimal("1.25")
    await both.add_model("public", provider.url, prices=(str(prompt_price), str(completion_price)))

    await asyncio.gather(*(both.chat(model="public") for _ in tokens))

    exact = [p * prompt_price + c * completion_price for p, c in tokens]
    expected = sorted(int(cost.to_integral_value(ROUND_HALF_EVEN)) for cost in exact)
    charges = await both.rows(ChargeRow)
    assert sorted(charge.amount_micros for charge in charges) == expected
    month = (await (await both.get("/v1/usage")).json())["current_month"]
    assert Decimal(str(month["cost"])) * 10**6 == sum(expected)
    assert month["chat"] == sum(p + c for p, c in tokens)
    assert month["by_model"] == [
        {
            "model": "public",
            "requests": 40,
            "input_tokens": sum(p for p, _ in tokens),
            "output_tokens": sum(c for _, c in tokens),
            "cost": month["cost"],
        }
    ]
    energy = sum(record.energy_nwh for record in await both.rows(UsageRecordRow))
    assert month["impacts"]["kWh"] == energy / 10**12


async def test_a_price_counts_from_the_moment_of_acceptance(sluice: Installation) -> None:
    response = await sluice.get("/v1/usage")

    report = await response.json()
    assert report["previous_month"]["requests"] == 0
    assert report["current_month"]["by_model"] == []


async def test_every_attempt_and_every_refusal_is_logged(both: Installation, provider: ScriptedProvider) -> None:
    await both.add_model("public", provider.url, prices=(1, 1))
    await both.chat("secret words", model="public", headers={"User-Agent": "tests/1", "X-Api-Key": "sk-hidden"})
    await both.chat("Hi", model="nothing")
    await both.client.post("/v1/chat/completions", json={}, headers={"Authorization": "Bearer sk-wrong"})

    logged = await (await both.post("/v1/requests", {"period": 15, "endpoint": "chat"})).json()

    assert [entry["response_code"] for entry in logged["requests"]] == [401, 404, 200]
    done = logged["requests"][-1]
    assert (done["endpoint"], done["model"], done["cost"]) == ("chat/completions", "public", 0.000012)
    assert "secret words" in done["request_body"]
    assert json.decode(done["response_body"])["choices"][0]["message"]["content"] == "Hello!"
    headers = json.decode(done["request_headers"])
    assert (headers["authorization"], headers["x-api-key"], headers["user-agent"]) == ("***", "***", "tests/1")
    assert "sk-" not in str(logged)
    row = next(row for row in await both.rows(RequestLogRow) if row.attempt == 1)
    assert (row.status, row.http_status, row.client_address) == ("succeeded", 200, "127.0.0.1")
    assert row.queue_ms is not None
    assert row.latency_ms is not None


async def test_the_body_of_a_logged_error_is_that_which_was_sent(both: Installation) -> None:
    sent = [
        await (await both.chat("Hi", model="nothing")).text(),
        await (await both.chat("Hi", simulator={"fail": "400"})).text(),
        await (await both.post("/vultr/v1/chat/completions", VULTR_CHAT)).text(),
    ]

    logged = await (await both.post("/v1/requests", {"period": 15})).json()

    assert [entry["response_body"] for entry in logged["requests"]] == sent[::-1]


async def test_a_stream_has_a_time_to_its_first_token(sluice: Installation) -> None:
    await (await sluice.chat(stream=True, simulator={"tokens": 3, "delay_ms": 30})).read()

    row = (await sluice.rows(RequestLogRow))[0]
    assert row.streamed is True
    assert row.ttft_ms is not None
    assert row.ttft_ms >= 25


async def test_nothing_is_shown_of_a_request_that_is_not_stored(sluice: Installation) -> None:
    await sluice.chat("secret words", store=False)

    logged = (await (await sluice.post("/v1/requests", {"period": 15})).json())["requests"]

    assert [(e["request_body"], e["response_body"], e["request_headers"]) for e in logged] == [("", "", "")]


@pytest.mark.parametrize(
    "body",
    [
        {"period": 20},
        {},
        {"period": 15, "timestamp": "yesterday"},
        {"period": 15, "timestamp": "2999-01-01T00:00:00Z"},
    ],
)
async def test_an_impossible_window_is_refused(sluice: Installation, body: dict) -> None:
    assert (await sluice.post("/v1/requests", body)).status == 422
