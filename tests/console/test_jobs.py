"""Jobs and batches: what the lists show, and what can be done to them."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.console.visits import Visit
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="package")
CHAT = "/v1/chat/completions"


async def make_job(visit: Visit, prompt: str = "Hello", **simulator: Any) -> Any:
    body = {"model": "simulator", "messages": [{"role": "user", "content": prompt}], "simulator": simulator}
    return await visit.post("/v1/jobs", {"endpoint": CHAT, "body": body, "metadata": {"run": "<i>nightly</i>"}})


def line(custom_id: str, **simulator: Any) -> dict[str, Any]:
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Hi"}], "simulator": simulator}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}


async def test_the_list_follows_a_job_from_running_to_cancelled(user: Visit) -> None:
    job = await make_job(user, delay_ms=60_000)
    await user.open("jobs")
    row = user.row(job["id"][-10:])
    await expect(row).to_contain_text("in progress")

    await row.get_by_role("link").click()
    await user.page.get_by_role("button", name="Cancel").click()

    await expect(user.page.locator(".facts")).to_contain_text("cancelled")
    assert (await user.get(f"/v1/jobs/{job['id']}"))["status"] == "cancelled"
    await user.page.get_by_role("link", name="Jobs").click()
    await expect(user.row(job["id"][-10:])).to_contain_text("cancelled")


async def test_a_list_that_is_open_shows_the_end_of_a_job(user: Visit) -> None:
    job = await make_job(user, text="Done.", delay_ms=1500)
    await user.open("jobs")

    await expect(user.row(job["id"][-10:])).to_contain_text("completed")


async def test_a_failed_job_is_retried_as_a_new_one(user: Visit) -> None:
    job = await make_job(user, fail="400")
    await user.open(f"jobs/{job['id']}")
    await expect(user.page.get_by_role("alert")).to_contain_text("told to refuse")

    await user.page.get_by_role("button", name="Retry").click()

    await expect(user.page.get_by_text("Retry of")).to_be_visible()
    again = (await user.get("/v1/jobs", limit=1))["data"][0]
    assert again["retry_of"] == job["id"]
    assert user.page.url.endswith(again["id"])


async def test_a_result_is_downloaded_as_the_api_gives_it(user: Visit, tmp_path: Path) -> None:
    job = await make_job(user, text="Trains leave every hour.")
    await user.open(f"jobs/{job['id']}")

    async with user.page.expect_download() as waiting:
        await user.page.get_by_role("button", name="Download result").click()
    await (await waiting.value).save_as(tmp_path / "result.json")

    assert json.loads((tmp_path / "result.json").read_bytes()) == await user.get(f"/v1/jobs/{job['id']}/result")


async def test_sound_is_saved_as_what_it_is(user: Visit) -> None:
    body = {"model": "simulator-speech", "input": "Hello", "voice": "alloy", "response_format": "wav"}
    job = await user.post("/v1/jobs", {"endpoint": "/v1/audio/speech", "body": body})
    await user.open(f"jobs/{job['id']}")

    async with user.page.expect_download() as waiting:
        await user.page.get_by_role("button", name="Download result").click()

    assert (await waiting.value).suggested_filename == f"{job['id']}.wav"
    assert (await (await waiting.value).path()).read_bytes().startswith(b"RIFF")


async def test_an_incomplete_job_shows_and_gives_its_result(user: Visit) -> None:
    body = {"model": "simulator", "input": "Hello", "max_output_tokens": 2, "simulator": {"text": "one two three"}}
    job = await user.post("/v1/jobs", {"endpoint": "/v1/responses", "body": body})
    await user.open(f"jobs/{job['id']}")
    await expect(user.page.locator(".output")).to_contain_text("one two")

    async with user.page.expect_download() as waiting:
        await user.page.get_by_role("button", name="Download result").click()

    result = json.loads((await (await waiting.value).path()).read_bytes())
    assert (result["status"], result["output"][0]["content"][0]["text"]) == ("incomplete", "one two")


async def test_filters_are_part_of_the_address(user: Visit) -> None:
    failed, done = await make_job(user, fail="400"), await make_job(user)
    await eventually(lambda: _is_over(user, failed["id"], done["id"]))
    await user.open("jobs")

    await user.page.get_by_label("State").select_option("failed")
    await user.page.get_by_role("button", name="Filter").click()

    await expect(user.row(failed["id"][-10:])).to_be_visible()
    await expect(user.row(done["id"][-10:])).to_have_count(0)
    await user.page.reload()
    await expect(user.page.get_by_label("State")).to_have_value("failed")
    await expect(user.row(done["id"][-10:])).to_have_count(0)


async def _is_over(visit: Visit, *ids: str) -> bool:
    return all([(await visit.get(f"/v1/jobs/{one}"))["completed_at"] is not None for one in ids])


async def test_a_long_list_is_read_on_by_its_cursor(user: Visit) -> None:
    requests = [line(f"request-{number}") for number in range(60)]
    batch = await user.post("/v1/batches", {"endpoint": CHAT, "completion_window": "24h", "requests": requests})
    await eventually(lambda: _is_ended(user, batch["id"]))
    await user.open("jobs")
    await expect(user.page.locator("tbody tr")).to_have_count(50)

    await user.page.get_by_role("button", name="Load more").click()

    await expect(user.page.locator("tbody tr")).to_have_count(60)
    await expect(user.page.get_by_role("button", name="Load more")).to_have_count(0)


async def _is_ended(visit: Visit, batch_id: str) -> bool:
    return (await visit.get(f"/v1/batches/{batch_id}"))["status"] == "completed"


async def test_a_batch_goes_from_upload_to_download(user: Visit, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    lines = [line("good", text="Yes."), line("bad", fail="400"), line("<b>odd</b>", text="Odd.")]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    await user.open("batches")
    await user.page.get_by_role("button", name="New batch").first.click()
    await user.page.get_by_label("File (JSONL)").set_input_files(path)
    await expect(user.page.get_by_label("Endpoint")).to_have_value(CHAT)
    await user.page.get_by_role("button", name="Upload and start").click()

    await expect(user.page.get_by_text("3 of 3 are over: 2 completed, 1 failed.")).to_be_visible()
    await expect(user.row("bad")).to_contain_text("told to refuse")
    await expect(user.row("<b>odd</b>")).to_contain_text("completed")
    outputs = await _download(user, "Download output", tmp_path)
    errors = await _download(user, "Download errors", tmp_path)
    assert {one["custom_id"] for one in outputs} == {"good", "<b>odd</b>"}
    assert [one["custom_id"] for one in errors] == ["bad"]

    await user.page.get_by_role("button", name="Retry what did not succeed").click()
    await expect(user.page.get_by_text("1 of 1 are over: 1 failed.")).to_be_visible()


async def _download(visit: Visit, name: str, folder: Path) -> list[Any]:
    async with visit.page.expect_download() as waiting:
        await visit.page.get_by_role("button", name=name).click()
    await (await waiting.value).save_as(folder / name)
    return [json.loads(one) for one in (folder / name).read_text().splitlines()]


async def test_a_file_with_faults_shows_their_lines(user: Visit, tmp_path: Path) -> None:
    path = tmp_path / "faulty.jsonl"
    path.write_text(json.dumps(line("a")) + "\nno json\n")
    await user.open("batches")
    await user.page.get_by_role("button", name="New batch").first.click()
    await user.page.get_by_label("File (JSONL)").set_input_files(path)
    await user.page.get_by_role("button", name="Upload and start").click()

    await expect(user.page.get_by_text("Nothing ran: the file has faults")).to_be_visible()
    await expect(user.page.get_by_role("region", name="Faults of the file").locator("tbody")).to_contain_text("2")
    await expect(user.page.get_by_text("are over")).to_be_hidden()
    await expect(user.page.get_by_role("progressbar")).to_have_count(0)


async def test_a_running_batch_is_cancelled(user: Visit) -> None:
    requests = [line(f"slow-{number}", delay_ms=60_000) for number in range(3)]
    batch = await user.post("/v1/batches", {"endpoint": CHAT, "completion_window": "24h", "requests": requests})
    await user.open(f"batches/{batch['id']}")

    await user.page.get_by_role("button", name="Cancel").click()

    await expect(user.page.get_by_text("3 of 3 are over: 3 cancelled.")).to_be_visible()
    await expect(user.page.locator(".facts")).to_contain_text("cancelled")
