"""Batches of callers with limits and budgets; when batches begin; what is kept of them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import update
from sqlmodel import col

from shared.batches.statements import admit_item
from shared.batches.tables import BatchRow
from shared.clock import now_ms
from shared.files.tables import FileRow
from shared.jobs.tables import JobRow
from shared.usage.tables import ChargeRow
from tests.api.test_retention import DAY_MS, sweep
from tests.batches import add_input, chat_line, ended, get_batch, lines_of, make_batch, to_jsonl
from tests.conftest import make_settings
from tests.figures import metrics, of
from tests.installation import Installation, open_installation
from tests.people import add_user, key_of
from tests.servers import RedisServer
from tests.waiting import eventually

HOUR_S = 3600


async def test_a_batch_keeps_to_the_limits_of_its_owner(both: Installation) -> None:
    await both.grant(1, rpm=3)
    user = await add_user(both)
    me = await key_of(both, user["id"])

    batch = await make_batch(both, *(chat_line(f"r{n}") for n in range(5)), headers=me)
    await eventually(lambda: _completed(both, batch["id"], 3))
    plain = await both.chat(headers=me)

    counts = (await get_batch(both, batch["id"]))["sluice"]["counts"]
    assert (counts["completed"], counts["queued"]) == (3, 2)
    assert plain.status == 429


async def test_a_batch_asks_again_when_the_refusal_says(sluice: Installation) -> None:
    """One that waits for money asks each second; one that is told to wait a minute asks less often meanwhile."""
    await sluice.add_model("paid", prices=(0, 1_000_000))
    await sluice.grant(1, rpm=1)
    hurried = await key_of(sluice, (await add_user(sluice, "hurried@example.com"))["id"])
    poor = await key_of(sluice, (await add_user(sluice, "poor@example.com", budget=25))["id"])
    body = {"model": "paid", "max_tokens": 1000, "simulator": {"delay_ms": 20_000}}

    await make_batch(sluice, chat_line("a"), chat_line("b"), headers=hurried)
    await eventually(lambda: _has_been_refused(sluice, "rpm", 2))
    costly = await make_batch(sluice, chat_line("a", body=body), chat_line("b", body=body), headers=poor)
    before = of(await metrics(sluice), "admissions_total", verdict="rpm")
    await eventually(lambda: _has_been_refused(sluice, "budget", 6), within_s=30)

    asked = of(await metrics(sluice), "admissions_total", verdict="rpm") - before
    assert asked <= 2
    await sluice.post(f"/v1/batches/{costly['id']}/cancel")


async def _has_been_refused(installation: Installation, verdict: str, times: int) -> bool:
    return of(await metrics(installation), "admissions_total", verdict=verdict) >= times


async def _completed(installation: Installation, batch_id: str, count: int) -> bool:
    counts = (await get_batch(installation, batch_id))["sluice"]["counts"]
    return bool(counts["completed"] >= count)


async def test_a_batch_spends_at_most_the_budget(both: Installation) -> None:
    await both.add_model("paid", prices=(0, 1_000_000))  # a unit per token
    user = await add_user(both, budget=25)
    me = await key_of(both, user["id"])
    body = {"model": "paid", "max_tokens": 10, "simulator": {"tokens": 10}}

    batch = await make_batch(both, *(chat_line(f"r{n}", body=body) for n in range(6)), headers=me)
    done = await ended(both, batch["id"])

    charged = sum(charge.amount_micros for charge in await both.rows(ChargeRow))
    assert charged <= 25_000_000
    assert (done["status"], done["sluice"]["cost"]) == ("completed", charged / 10**6)
    assert done["request_counts"]["completed"] >= 2
    errors = await lines_of(both, done["error_file_id"])
    assert {line["response"]["body"]["error"]["code"] for line in errors} == {"insufficient_budget"}
    assert len(errors) + done["request_counts"]["completed"] == 6


async def test_a_batch_has_a_largest_number_of_lines(tmp_path: Path, redis_server: RedisServer) -> None:
    async with open_installation(make_settings(tmp_path, redis_server, batch_max_lines=3)) as sluice:
        fits = await make_batch(sluice, *(chat_line(f"r{n}") for n in range(3)))
        is_too_long = await make_batch(sluice, *(chat_line(f"r{n}") for n in range(4)))

        done, failed = await ended(sluice, fits["id"]), await ended(sluice, is_too_long["id"])

    assert (done["status"], failed["status"]) == ("completed", "failed")
    assert [(error["code"], error["line"]) for error in failed["errors"]["data"]] == [("too_many_tasks", None)]


async def test_an_input_whose_bytes_are_lost_fails_the_batch(idle: Installation) -> None:
    file_id = await add_input(idle, to_jsonl(chat_line("a")))
    await idle.state.uploads.delete([file_id.removeprefix("file-")])

    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = await (await idle.post("/v1/batches", body)).json()
    failed = await ended(idle, batch["id"])

    assert [error["code"] for error in failed["errors"]["data"]] == ["file_not_found"]


async def test_an_input_that_cannot_be_read_fails_the_batch_at_the_end_of_its_window(idle: Installation) -> None:
    file_id = await add_input(idle, to_jsonl(chat_line("a")))
    path = idle.state.settings.data_path / "files" / "uploads" / file_id.removeprefix("file-")
    path.unlink()
    path.symlink_to(path)  # cannot be opened, but is not gone either
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = await (await idle.post("/v1/batches", body)).json()

    await _change(idle, batch["id"], expires_ms=now_ms())
    failed = await ended(idle, batch["id"])

    assert [error["code"] for error in failed["errors"]["data"]] == ["batch_expired"]


async def test_a_batch_ends_when_its_key_does(idle: Installation) -> None:
    user = await add_user(idle)
    me = await key_of(idle, user["id"])
    await idle.grant(1, rpm=1)
    batch = await make_batch(idle, chat_line("a"), chat_line("b"), headers=me)
    await eventually(lambda: _is(idle, batch["id"], "in_progress"))

    (key,) = (await (await idle.client.get("/v1/me/keys", headers=me)).json())["data"]
    assert (await idle.client.delete(f"/v1/me/keys/{key['id']}", headers=me)).status == 204

    await eventually(lambda: _failed(idle), within_s=20)


async def _is(installation: Installation, batch_id: str, status: str) -> bool:
    return bool((await get_batch(installation, batch_id))["status"] == status)


async def _failed(installation: Installation) -> bool:
    return any("key" in (row.error or "") for row in await installation.rows(JobRow, JobRow.status == "failed"))


def intensities(path: Path, *grams: int) -> str:
    """Write a file that says how clean each hour from now on is; returns its path."""
    hour = now_ms() // 1000 // HOUR_S * HOUR_S
    starts = [datetime.fromtimestamp(hour + n * HOUR_S, UTC).isoformat() for n in range(len(grams))]
    rows = [f"WOR,{start},{value},forecast,test\n" for start, value in zip(starts, grams, strict=True)]
    path.write_text("zone,start_utc,g_per_kwh,kind,source\n" + "".join(rows))
    return str(path)


async def test_a_batch_waits_for_the_cleanest_hour(tmp_path: Path, redis_server: RedisServer) -> None:
    path = intensities(tmp_path / "grid.csv", *(500 - 20 * n for n in range(15)))
    async with open_installation(make_settings(tmp_path, redis_server, intensity_file=path)) as sluice:
        batch = await make_batch(sluice, chat_line("a"), start="low_carbon")
        await eventually(lambda: _is(sluice, batch["id"], "in_progress"))
        waiting = await get_batch(sluice, batch["id"])

        await _change(sluice, batch["id"], start_ms=now_ms())
        done = await ended(sluice, batch["id"])

    assert waiting["sluice"]["counts"]["queued"] == 1
    assert 12 * HOUR_S <= waiting["sluice"]["starts_at"] - waiting["created_at"] <= 15 * HOUR_S
    assert done["status"] == "completed"


async def test_a_batch_reports_what_it_emitted(tmp_path: Path, redis_server: RedisServer) -> None:
    path = intensities(tmp_path / "grid.csv", 300, 300)
    async with open_installation(make_settings(tmp_path, redis_server, intensity_file=path)) as sluice:
        await sluice.add_model("known", model_total_params=70, model_active_params=70)
        batch = await make_batch(sluice, chat_line("a", body={"model": "known"}), start="low_carbon")

        done = await ended(sluice, batch["id"])

    assert done["sluice"]["starts_at"] is None  # all hours are alike
    carbon = done["sluice"]["carbon"]
    assert carbon["actual_gco2eq"] == carbon["baseline_gco2eq"] > 0


async def test_without_a_file_a_batch_begins_at_once(sluice: Installation) -> None:
    batch = await make_batch(sluice, chat_line("a"), start="low_carbon")

    done = await ended(sluice, batch["id"])

    assert (done["sluice"]["starts_at"], done["sluice"]["carbon"]) == (None, None)


async def _change(installation: Installation, batch_id: str, **values: Any) -> None:
    async with installation.state.database.transaction() as session:
        await session.exec(update(BatchRow).where(col(BatchRow.id) == batch_id.removeprefix("batch_")).values(**values))


async def test_files_and_batches_are_removed_when_their_time_is_over(both: Installation) -> None:
    batch = await make_batch(both, chat_line("a"))
    done = await ended(both, batch["id"])
    async with both.state.database.transaction() as session:
        await session.exec(update(FileRow).values(expires_ms=now_ms()))
    await sweep(both)

    gone = await both.get(f"/v1/files/{done['output_file_id']}")
    assert (gone.status, (await gone.json())["tombstone"]["reason"]) == (410, "expired")
    assert list((both.state.settings.data_path / "files" / "uploads").glob("*")) == []
    assert (await get_batch(both, batch["id"])) == done

    await _change(both, batch["id"], finished_ms=now_ms() - 121 * DAY_MS)
    await sweep(both)

    assert (await both.get(f"/v1/batches/{batch['id']}")).status == 404


async def test_counts_and_costs_of_an_ended_batch_outlive_its_items(sluice: Installation) -> None:
    batch = await make_batch(sluice, chat_line("a"), chat_line("b"))
    done = await ended(sluice, batch["id"])
    async with sluice.state.database.transaction() as session:
        await session.exec(update(JobRow).values(result_expires_ms=now_ms()))
    await sweep(sluice)

    assert await get_batch(sluice, batch["id"]) == done
    gone = await sluice.get(f"/v1/jobs?batch_id={batch['id']}")
    assert (await gone.json())["data"] == []


async def test_batches_that_wait_keep_no_other_waiting(tmp_path: Path, redis_server: RedisServer) -> None:
    path = intensities(tmp_path / "grid.csv", *(500 - 20 * n for n in range(15)))
    async with open_installation(make_settings(tmp_path, redis_server, intensity_file=path)) as sluice:
        waiting = [await make_batch(sluice, chat_line("a"), start="low_carbon") for _ in range(9)]
        for batch in waiting:
            await eventually(lambda batch_id=batch["id"]: _is(sluice, batch_id, "in_progress"))

        done = await ended(sluice, (await make_batch(sluice, chat_line("a")))["id"])

        assert done["status"] == "completed"
        assert (await get_batch(sluice, waiting[0]["id"]))["sluice"]["starts_at"] is not None


async def test_who_has_many_batches_keeps_nobody_waiting(both: Installation) -> None:
    await both.grant(1, rpm=1)
    users = [await add_user(both, email) for email in ("busy@example.com", "other@example.com")]
    busy, other = [await key_of(both, user["id"]) for user in users]
    for _ in range(9):
        await make_batch(both, chat_line("a"), chat_line("b"), headers=busy)

    done = await ended(both, (await make_batch(both, chat_line("a"), headers=other))["id"])

    assert done["request_counts"]["completed"] == 1


async def test_a_cancelled_batch_lets_nothing_in_any_more(idle: Installation) -> None:
    user = await add_user(idle)
    me = await key_of(idle, user["id"])
    await idle.grant(1, rpm=1)
    batch = await make_batch(idle, *(chat_line(f"r{n}") for n in range(3)), headers=me)
    await eventually(lambda: _has_let_in(idle, 1))

    cancelled = await (await idle.post(f"/v1/batches/{batch['id']}/cancel")).json()
    await idle.grant(1)
    later = await make_batch(idle, chat_line("a"), headers=me)
    await eventually(lambda: _has_let_in(idle, 2))

    assert cancelled["status"] == "cancelling"
    held = [row for row in await idle.rows(JobRow) if row.held]
    assert {row.batch_id for row in held} == {batch["id"].removeprefix("batch_")}
    results = await idle.state.writer.execute_many([admit_item(row, None) for row in held])  # its feeder had begun to
    assert [result.rows for result in results] == [[], []]
    assert later["status"] == "validating"


async def _has_let_in(installation: Installation, count: int) -> bool:
    return len([row for row in await installation.rows(JobRow) if not row.held]) == count
