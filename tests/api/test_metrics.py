"""GET /metrics: figures of all processes."""

from shared.clock import now_ms
from tests.figures import metrics, of
from tests.installation import Installation
from tests.people import add_user, key_of, person
from tests.receivers import Receiver, says
from tests.waiting import eventually
from tests.webhooks import add_endpoint, until


async def test_what_happened_is_counted_over_all_processes(sluice: Installation) -> None:
    await sluice.add_model("known", model_total_params=70, model_active_params=70, prices=(1, 1_000_000))
    for _ in range(3):
        await sluice.chat(model="known", simulator={"tokens": 5})
    await (await sluice.chat(stream=True)).read()
    await sluice.chat(simulator={"fail": "400"})
    await sluice.get("/v1/jobs/job_nobody")

    async def is_told() -> bool:
        return of(await metrics(sluice), "jobs_total", status="failed") == 1

    await eventually(is_told)
    found = await metrics(sluice)
    assert of(found, "jobs_total", model="known", status="completed", kind="chat.completion") == 3
    assert of(found, "tokens_total", model="known", type="completion") == 15
    assert of(found, "charge_total", model="known") > 15
    assert of(found, "emissions_gco2eq_total", model="known") > 0
    assert of(found, "attempts_total", status="succeeded") == 4
    assert of(found, "attempts_total", status="failed") == 1
    assert of(found, "job_seconds_count", model="known") == 3
    assert of(found, "job_seconds_bucket", model="known", le="+Inf") == 3
    assert of(found, "first_token_seconds_count") == 1
    assert of(found, "http_requests_total", route="/v1/chat/completions", status="200") == 4
    assert of(found, "http_requests_total", route="/v1/jobs/{job_id}", status="404") == 1
    assert of(found, "commit_units_sum", process="api") >= 5
    assert of(found, "commit_seconds_count", process="worker") > 0


async def test_a_job_that_never_begins_is_counted_when_it_ends(idle: Installation) -> None:
    job = (await idle.chat(headers={"Prefer": "respond-async"})).headers["x-job-id"]
    assert (await idle.post(f"/v1/jobs/{job}/cancel")).status == 200

    async def is_told() -> bool:
        return of(await metrics(idle), "jobs_total", model="simulator", status="cancelled") == 1

    await eventually(is_told)
    assert of(await metrics(idle), "job_seconds_count", model="simulator") == 1


async def test_what_never_happened_is_told_as_0_if_that_can_be_said(sluice: Installation) -> None:
    assert ("sluice_lease_takeovers_total", frozenset({("shard", "0")})) in await metrics(sluice)


async def test_disabled_webhooks_are_told_with_what_is_kept_for_them(told: Installation, receiver: Receiver) -> None:
    receiver.default = says(410)
    gone, off = [await add_endpoint(told, receiver, event) for event in ("job.completed", "job.failed")]
    await told.chat()
    await until(told, gone, "paused")
    await told.chat()
    await until(told, gone, "paused", count=2)
    await told.post(f"/v1/webhook_endpoints/{off['id']}/disable")

    before = await metrics(told)
    receiver.default = says(204)
    await told.post(f"/v1/webhook_endpoints/{gone['id']}/enable")
    after = await metrics(told)

    assert of(before, "webhook_endpoints_disabled", cause="failures") == 1
    assert of(before, "webhook_deliveries_paused", cause="failures") >= 1  # what was tried is looked at when it is due
    assert of(before, "webhook_endpoints_disabled", cause="owner") == 1
    assert of(before, "webhook_deliveries_paused", cause="owner") == 0
    assert of(after, "webhook_endpoints_disabled", cause="failures") == 0


async def test_buckets_grow_to_the_count(sluice: Installation) -> None:
    await sluice.chat()

    async def is_told() -> bool:
        return of(await metrics(sluice), "job_seconds_count") == 1

    await eventually(is_told)
    found = await metrics(sluice)
    buckets = [(dict(labels), value) for (name, labels), value in found.items() if name == "sluice_job_seconds_bucket"]
    bounds = {float(labels["le"]): value for labels, value in buckets}
    assert [bounds[bound] for bound in sorted(bounds)] == sorted(bounds.values())


async def test_queues_and_providers_are_told_as_they_are_now(idle: Installation) -> None:
    await idle.chat(headers={"Prefer": "respond-async"})

    async def is_queued() -> bool:
        return of(await metrics(idle), "queue_ready", lane="inference", band="background") == 1

    await eventually(is_queued)
    found = await metrics(idle)
    assert of(found, "queue_ready", lane="inference", band="interactive") == 0
    assert of(found, "queue_oldest_seconds", lane="inference", band="background") > 0
    assert of(found, "queue_oldest_seconds", lane="inference", band="interactive") == 0
    assert of(found, "queue_oldest_seconds", lane="platform", band="due") == 0
    assert of(found, "queue_parked", lane="inference", band="background") == 0
    assert of(found, "provider_breaker_open", provider="1") == 0
    assert of(found, "shard_up", shard="0") == 1


async def test_decisions_about_limits_are_counted(sluice: Installation) -> None:
    await sluice.grant(1, rpm=1)
    me = await key_of(sluice, (await add_user(sluice))["id"])
    for _ in range(3):
        await sluice.chat(headers=me)

    async def is_told() -> bool:
        return of(await metrics(sluice), "admissions_total", verdict="rpm") == 2

    await eventually(is_told)
    assert of(await metrics(sluice), "admissions_total", verdict="ok") == 1


async def test_only_who_may_read_metrics_can(sluice: Installation) -> None:
    nobody = await person(sluice, email="nobody@example.com")
    reader = await person(sluice, "read_metric", email="reader@example.com")

    assert (await sluice.client.get("/metrics")).status == 401
    assert (await sluice.client.get("/metrics", headers=nobody)).status == 403
    assert (await sluice.client.get("/metrics", headers=reader)).status == 200


async def test_a_flush_of_redis_begins_anew(sluice: Installation) -> None:
    await sluice.chat()
    await sluice.state.redis.flushall()

    assert of(await metrics(sluice), "jobs_total") == 0


async def test_attempts_under_way_are_told_per_provider(sluice: Installation) -> None:
    job = await sluice.chat(simulator={"delay_ms": 20_000}, headers={"Prefer": "respond-async"})

    async def runs() -> bool:
        return of(await metrics(sluice), "provider_in_flight", provider="1") == 1

    await eventually(runs)
    await sluice.post(f"/v1/jobs/{job.headers['x-job-id']}/cancel")

    async def is_over() -> bool:
        return of(await metrics(sluice), "provider_in_flight", provider="1") == 0

    await eventually(is_over)


async def test_what_a_dead_process_told_of_the_moment_is_forgotten(sluice: Installation) -> None:
    name = "sluice:metrics:now"
    await sluice.state.redis.hset(name, "provider_in_flight\x1f1\x1fdead", f"7 {now_ms() - 1}")  # type: ignore[misc]
    await sluice.state.redis.hset(name, "provider_in_flight\x1f1\x1falive", f"2 {now_ms() + 60_000}")  # type: ignore[misc]

    assert of(await metrics(sluice), "provider_in_flight", provider="1") == 2
    assert await sluice.state.redis.hlen(name) == 1  # type: ignore[misc]


async def test_a_provider_is_told_by_name_and_with_its_limit(sluice: Installation) -> None:
    provider = await sluice.add_model("known", qos_metric="inflight", qos_limit=8)

    found, number = await metrics(sluice), str(provider["id"])
    assert of(found, "provider_info", provider=number, router="known", model="upstream-model") == 1
    assert of(found, "provider_in_flight_limit", provider=number) == 8
    assert of(found, "provider_in_flight_limit", provider="1") == 0
