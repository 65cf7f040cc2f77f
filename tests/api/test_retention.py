"""What is kept for how long: results, tombstones, the request log; and the ledger, for ever."""

from typing import Any

from sqlmodel import col, update

from shared.clock import now_ms
from shared.ids import new_ulid, oldest_ulid
from shared.jobs.tables import JobEventRow, JobResultRow, JobRow
from shared.request_logs.tables import RequestLogRow
from shared.usage.tables import ChargeRow, UsageRecordRow
from shared.webhooks.tables import WebhookDeliveryRow, WebhookEndpointRow
from tests.installation import Installation
from tests.receivers import Receiver
from tests.webhooks import add_endpoint
from worker.__main__ import open_runtime
from worker.reconciler import Reconciler
from worker.retention import remove_old

DAY_MS = 86_400_000
MANY = 1200
ASYNC = {"Prefer": "respond-async"}


async def sweep(sluice: Installation) -> None:
    """Remove what has been kept long enough, as a worker does every ten minutes."""
    redis, queue = sluice.state.redis, sluice.state.queue
    async with open_runtime(sluice.state.settings, redis, "sweeper") as runtime:
        reconciler = Reconciler(runtime=runtime, redis=redis, queue=queue, platform=sluice.state.platform)
        await remove_old(reconciler)  # not `retain`: it leaves that to the worker at the tenth minute


async def completed(sluice: Installation, **members: Any) -> str:
    """Return the bare id of a job that is over."""
    response = await sluice.chat(**members)
    assert response.status == 200, await response.text()
    await response.read()
    return str(response.headers["x-job-id"]).removeprefix("job_")


async def change(sluice: Installation, job_id: str, **values: object) -> None:
    """Write columns of a job, as if time had passed."""
    async with sluice.state.database.transaction() as session:
        await session.exec(update(JobRow).where(col(JobRow.id) == job_id).values(**values))


async def ledger(sluice: Installation) -> list[str]:
    """Return all rows of the ledger as texts."""
    rows = await sluice.rows(UsageRecordRow) + await sluice.rows(ChargeRow)
    return sorted(repr(sorted(row.model_dump().items())) for row in rows)


async def usage(sluice: Installation) -> Any:
    return await (await sluice.get("/v1/usage")).json()


async def test_a_result_lives_as_long_as_the_settings_say(both: Installation) -> None:
    kept, unstored = await completed(both), await completed(both, store=False)

    rows = {row.id: row for row in await both.rows(JobRow)}

    lives_ms = [rows[job_id].result_expires_ms - rows[job_id].finished_ms for job_id in (kept, unstored)]
    assert lives_ms == [30 * DAY_MS, 3_600_000]


async def test_a_result_whose_time_is_over_is_gone_and_the_ledger_stays(both: Installation) -> None:
    over = await completed(both, stream=True, metadata={"a": "b"}, user="someone")
    fresh = await completed(both)
    ledger_before, usage_before = await ledger(both), await usage(both)

    await change(both, over, result_expires_ms=now_ms())
    await sweep(both)

    for path in ("jobs/job_", "chat/completions/chatcmpl-"):
        answer = await both.get(f"/v1/{path}{over}")
        assert (answer.status, (await both.get(f"/v1/{path}{fresh}")).status) == (410, 200)
        tombstone = (await answer.json())["tombstone"]
        assert (tombstone["id"], tombstone["status"], tombstone["reason"]) == (f"job_{over}", "completed", "expired")
    for what in ("result", "events", "attempts"):
        assert (await both.get(f"/v1/jobs/job_{over}/{what}")).status == 410
        assert (await both.get(f"/v1/jobs/job_{fresh}/{what}")).status == 200
    listed = await (await both.get("/v1/jobs")).json()
    assert [job["id"] for job in listed["data"]] == [f"job_{fresh}"]
    assert [result.job_id for result in await both.rows(JobResultRow)] == [fresh]
    row = (await both.rows(JobRow, JobRow.id == over))[0]
    assert (row.request, row.request_headers, row.metadata_, row.end_user) == (None, None, None, None)
    assert await ledger(both) == ledger_before
    assert await usage(both) == usage_before


async def test_a_job_that_is_not_over_is_never_removed(idle: Installation) -> None:
    job_id = (await (await idle.chat(headers=ASYNC)).json())["id"].removeprefix("job_")
    await change(idle, job_id, created_ms=now_ms() - 400 * DAY_MS)

    await sweep(idle)

    row = (await idle.rows(JobRow))[0]
    assert (row.id, row.status, row.removed_ms) == (job_id, "queued", None)
    assert row.request is not None


async def test_a_tombstone_answers_410_and_then_404(both: Installation) -> None:
    old, young = await completed(both), await completed(both)
    ledger_before, usage_before = await ledger(both), await usage(both)
    for job_id in (old, young):
        assert (await both.delete(f"/v1/jobs/job_{job_id}")).status == 200

    ttl_ms = both.state.settings.tombstone_ttl_s * 1000
    await change(both, old, removed_ms=now_ms() - ttl_ms - 1)
    await change(both, young, removed_ms=now_ms() - ttl_ms + 60_000)
    await sweep(both)

    statuses = [(await both.get(f"/v1/jobs/job_{job_id}")).status for job_id in (old, young)]
    assert statuses == [404, 410]
    assert [row.id for row in await both.rows(JobRow)] == [young]
    assert [row.job_id for row in await both.rows(JobEventRow)] == [young]
    assert await ledger(both) == ledger_before
    assert await usage(both) == usage_before


async def test_rows_of_the_request_log_are_removed_and_their_jobs_stay(both: Installation) -> None:
    old, young, running = [await completed(both) for _ in range(3)]
    refused = await both.chat(model="unknown")
    ledger_before = await ledger(both)
    ttl_ms = both.state.settings.request_log_ttl_s * 1000
    await set_age(both, RequestLogRow.job_id == old, ttl_ms + 1)
    await set_age(both, RequestLogRow.status == "refused", ttl_ms + 2)
    await set_age(both, RequestLogRow.job_id == young, ttl_ms - 60_000)
    await set_age(both, RequestLogRow.job_id == running, ttl_ms + 3, status="in_progress")

    await sweep(both)

    assert refused.status == 404
    assert {row.job_id for row in await both.rows(RequestLogRow)} == {young, running}
    attempts = [(await both.get(f"/v1/jobs/job_{job_id}/attempts")) for job_id in (old, young)]
    assert [len((await answer.json())["data"]) for answer in attempts] == [0, 1]
    assert (await both.get(f"/v1/jobs/job_{old}/result")).status == 200
    assert await ledger(both) == ledger_before


async def set_age(sluice: Installation, condition: Any, age_ms: int, **values: object) -> None:
    """Make a row of the request log so old; its id tells its age."""
    aged = {"id": oldest_ulid(now_ms() - age_ms), "created_ms": now_ms() - age_ms} | values
    async with sluice.state.database.transaction() as session:
        await session.exec(update(RequestLogRow).where(condition).values(**aged))


async def test_thousands_of_old_rows_are_removed_in_one_sweep(both: Installation) -> None:
    job_id = await completed(both)
    job = (await both.rows(JobRow))[0].model_dump()
    log = (await both.rows(RequestLogRow))[0].model_dump()
    result = (await both.rows(JobResultRow))[0].model_dump()
    event = (await both.rows(JobEventRow))[0].model_dump()
    finished, tombstones = ([new_ulid() for _ in range(MANY)] for _ in range(2))
    old = oldest_ulid(now_ms() - 400 * DAY_MS)
    async with both.state.database.transaction() as session:
        session.add_all([JobRow(**job | {"id": new, "result_expires_ms": 1}) for new in finished])
        session.add_all([JobRow(**job | {"id": new, "removed_ms": 1}) for new in tombstones])
        session.add_all([JobResultRow(**result | {"job_id": new}) for new in finished])
        session.add_all([JobEventRow(**event | {"job_id": new}) for new in finished + tombstones])
        session.add_all(
            [RequestLogRow(**log | {"id": old[:10] + new[10:], "job_id": new}) for new in finished + tombstones]
        )

    await sweep(both)

    jobs = {row.id: row for row in await both.rows(JobRow)}
    assert jobs.keys() == {job_id, *finished}
    assert {(jobs[new].removed_reason, jobs[new].request) for new in finished} == {("expired", None)}
    assert jobs[job_id].removed_ms is None
    assert [row.job_id for row in await both.rows(JobResultRow)] == [job_id]
    assert {row.job_id for row in await both.rows(JobEventRow)} == {job_id, *finished}
    assert [row.job_id for row in await both.rows(RequestLogRow)] == [job_id]


async def test_deliveries_and_endpoints_of_one_job_are_removed_in_their_time(
    idle_told: Installation, receiver: Receiver
) -> None:
    endpoint = await add_endpoint(idle_told, receiver)
    for number in range(3):
        body = {"model": "simulator", "messages": [{"role": "user", "content": f"{number}"}]}
        request = {"endpoint": "/v1/chat/completions", "body": body, "webhook": {"url": receiver.url}}
        job = await (await idle_told.post("/v1/jobs", request)).json()
        assert (await idle_told.post(f"/v1/jobs/{job['id']}/cancel")).status == 200
    ttl_ms = idle_told.state.settings.webhook_delivery_ttl_s * 1000
    old = oldest_ulid(now_ms() - ttl_ms - 1)[:10]
    rows = await idle_told.rows(WebhookDeliveryRow)
    waiting, over, *young = rows
    await age(idle_told, WebhookDeliveryRow, waiting.id, old)
    await age(idle_told, WebhookDeliveryRow, over.id, old, due_ms=None, status="exhausted")
    own = [row.id for row in await idle_told.rows(WebhookEndpointRow) if row.object_id is not None]
    await age(idle_told, WebhookEndpointRow, own[0], oldest_ulid(now_ms() - ttl_ms - 41 * DAY_MS)[:10])

    await sweep(idle_told)

    assert len(rows) == 6
    left = {row.id for row in await idle_told.rows(WebhookDeliveryRow)}
    assert left == {old + waiting.id[10:], *(row.id for row in young)}
    assert len(await idle_told.rows(WebhookEndpointRow)) == 3
    assert (await idle_told.get(f"/v1/webhook_endpoints/{endpoint['id']}")).status == 200


async def age(sluice: Installation, table: Any, row_id: str, old: str, **values: object) -> None:
    """Make a row so old; its id tells its age."""
    async with sluice.state.database.transaction() as session:
        await session.exec(update(table).where(table.id == row_id).values(id=old + row_id[10:], **values))


async def test_a_result_whose_time_is_over_is_gone_before_it_is_swept(both: Installation) -> None:
    key = {"Idempotency-Key": "order-1"}
    job_id = await completed(both, headers=key)
    etag = (await both.get(f"/v1/jobs/job_{job_id}")).headers["ETag"]
    over_ms = now_ms() - 1000
    await change(both, job_id, result_expires_ms=over_ms)

    answers = [
        await both.get(f"/v1/jobs/job_{job_id}", headers={"If-None-Match": etag}),
        await both.get(f"/v1/jobs/job_{job_id}/result"),
        await both.get(f"/v1/jobs/job_{job_id}/events"),
        await both.get(f"/v1/chat/completions/chatcmpl-{job_id}"),
        await both.chat(headers=key),
    ]

    assert [answer.status for answer in answers] == [410] * 5
    assert {(await answer.json())["tombstone"]["removed_at"] for answer in answers} == {over_ms // 1000}
