"""Request logs, and usage with its charts."""

import json
import shlex
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.console.test_jobs import make_job
from tests.console.visits import Visit
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def _chat(visit: Visit, model: str = "priced", status: int = 200, **simulator: object) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "simulator": simulator}
    answer = await visit.sluice.client.post("/v1/chat/completions", json=body, headers=visit.headers)
    assert answer.status == status, await answer.text()


async def test_the_log_is_filtered_and_a_row_shows_its_bodies(user: Visit) -> None:
    await _chat(user, text="Trains.")
    await _chat(user, fail="400", status=400)
    await user.open("logs")
    await expect(user.page.locator("tbody tr")).to_have_count(2)

    await user.page.get_by_label("Error code").fill("refused")
    await user.page.get_by_role("button", name="Filter").click()
    await expect(user.page.locator("tbody tr")).to_have_count(1)
    await expect(user.row("refused")).to_contain_text("failed")
    await user.page.get_by_role("button", name="Clear").click()
    await expect(user.page.locator("tbody tr")).to_have_count(2)

    await user.row("completed").get_by_role("link").click()
    await expect(user.page.get_by_role("region", name="Request", exact=True)).to_contain_text("Hello")
    await expect(user.page.get_by_role("region", name="Response", exact=True)).to_contain_text("Trains.")
    await expect(user.page.get_by_role("region", name="Request headers")).not_to_contain_text("Bearer")


async def test_error_cost_and_emissions_are_in_sight(user: Visit) -> None:
    await _chat(user, tokens=1000)
    await _chat(user, fail="400", status=400)
    await user.open("logs")

    await expect(user.row("refused").get_by_role("cell").nth(1)).to_contain_text("refused")
    for name in ("Error", "Cost", "CO2e"):
        column = user.page.get_by_role("columnheader", name=name, exact=True)
        await expect(column).to_be_in_viewport(ratio=1)


async def test_administrators_see_and_look_for_names_in_the_log(admin: Visit) -> None:
    await _chat(admin)
    await admin.open("logs")
    email = f"{admin.name}@example.com"
    await expect(admin.page.locator("tbody tr").first).to_contain_text(email)
    await admin.page.get_by_text("More filters").click()

    await admin.page.get_by_label("User", exact=True).fill("nobody@example.com")
    await admin.page.get_by_role("button", name="Filter").click()
    await expect(admin.page.get_by_role("alert")).to_contain_text("No user has this name")
    await admin.page.get_by_label("User", exact=True).fill(email)
    await admin.page.get_by_role("button", name="Filter").click()

    await expect(admin.page.locator("tbody tr")).to_have_count(1)
    await admin.page.locator("tbody tr").get_by_role("link").first.click()
    await expect(admin.page.locator("dl")).to_contain_text(email)


async def test_an_impossible_filter_is_answered_in_words(user: Visit) -> None:
    await user.open("logs?http_status=often")

    await expect(user.page.get_by_role("alert")).to_contain_text("422")
    await expect(user.page.get_by_role("alert")).to_contain_text("http_status")


async def test_an_impossible_instant_is_answered_in_words(user: Visit) -> None:
    await user.open("logs?created_after=abc")

    await expect(user.page.get_by_role("alert")).to_contain_text("created_after")
    await expect(user.page.get_by_label("From", exact=True)).to_have_value("")
    await expect(user.page.get_by_role("button", name="Filter")).to_be_visible()


async def test_the_log_is_filtered_by_metadata_and_exported(user: Visit, tmp_path: Path) -> None:
    job = await make_job(user)
    await _chat(user)
    await eventually(lambda: _has_ended(user, job["id"]))
    await user.open("logs")
    await user.page.get_by_text("More filters").click()
    await user.page.get_by_label("Metadata").fill("run=<i>nightly</i>")
    await user.page.get_by_role("button", name="Filter").click()
    await expect(user.page.locator("tbody tr")).to_have_count(1)

    async with user.page.expect_download() as waiting:
        await user.page.get_by_role("button", name="Export CSV").click()
    await (await waiting.value).save_as(tmp_path / "logs.csv")

    header, *rows = (tmp_path / "logs.csv").read_text().splitlines()
    assert "job_id" in header
    assert [job["id"] in row for row in rows] == [True]


async def test_a_filter_of_metadata_without_a_value_is_not_left_out(user: Visit) -> None:
    await _chat(user)
    await user.open("logs")
    await user.page.get_by_text("More filters").click()
    await user.page.get_by_label("Metadata").fill("run")
    await user.page.get_by_role("button", name="Filter").click()

    await expect(user.page.get_by_role("alert")).to_contain_text("name=value, not “run”")
    await expect(user.page.locator("tbody tr")).to_have_count(0)
    await expect(user.page.get_by_label("Metadata")).to_have_value("run")


_PICK = """() => {
    window.showSaveFilePicker = async ({ suggestedName }) => {
        const folder = await navigator.storage.getDirectory();
        return folder.getFileHandle(suggestedName, { create: true });
    };
}"""
_PICK_NOTHING = """() => {
    window.showSaveFilePicker = async () => { throw new DOMException("", "AbortError"); };
}"""
_SAVED = """async (name) => {
    const folder = await navigator.storage.getDirectory();
    return (await (await folder.getFileHandle(name)).getFile()).text();
}"""


async def test_an_export_is_written_to_the_chosen_file(user: Visit) -> None:
    """The file is in the browser's own file system, since nobody can answer a dialog."""
    await _chat(user)
    await user.open("logs")
    await user.page.evaluate(_PICK)

    await user.page.get_by_role("button", name="Export NDJSON").click()

    await expect(user.page.get_by_text("request_logs.ndjson is saved.")).to_be_visible()
    (line,) = (await user.page.evaluate(_SAVED, "request_logs.ndjson")).splitlines()
    assert json.loads(line)["id"] == (await user.get("/v1/request_logs"))["data"][0]["id"]


async def test_an_export_whose_file_is_not_chosen_is_not_made(user: Visit) -> None:
    await user.open("logs")
    exports: list[str] = []
    user.page.on("request", lambda request: exports.append(request.headers.get("accept", "")))
    await user.page.evaluate(_PICK_NOTHING)

    await user.page.get_by_role("button", name="Export CSV").click()
    await user.open("jobs")

    await expect(user.page.get_by_role("alert")).to_have_count(0)
    assert "text/csv" not in exports


_HOLD = """async (mostBytes) => {
    const { download } = await import("/console/saving.js");
    const { attempt } = await import("/console/notice.js");
    const place = document.querySelector("main").appendChild(document.createElement("div"));
    await attempt(place, () => download("/v1/request_logs?model=it's", "logs.csv", "text/csv", mostBytes));
}"""


async def test_what_is_too_large_to_hold_is_left_to_a_command(user: Visit) -> None:
    await user.page.evaluate(_HOLD, 10)

    await expect(user.page.get_by_role("alert")).to_contain_text("more than 10 B")
    command = await user.page.get_by_label("Command").inner_text()
    assert shlex.split(command) == [
        "curl", "-f", "-o", "logs.csv", "-H", "Authorization: Bearer $SLUICE_KEY", "-H", "Accept: text/csv",
        f"{user.url}/v1/request_logs?model=it%27s",
    ]  # fmt: skip


async def _has_ended(visit: Visit, job_id: str) -> bool:
    return (await visit.get(f"/v1/jobs/{job_id}"))["completed_at"] is not None


async def test_a_user_sees_only_own_rows(user: Visit) -> None:
    other = (await user.sluice.chat("Mine"),)
    assert other[0].status == 200

    await user.open("logs")

    await expect(user.page.get_by_text("No request matches.")).to_be_visible()


async def test_charts_and_table_show_the_figures_of_the_api(user: Visit) -> None:
    await _chat(user, tokens=30)
    await _chat(user, tokens=20)
    await _chat(user, model="simulator", tokens=10)
    report = await user.get("/v1/usage/report", group_by="model", period="day")
    total = report["total"]
    assert total["cost"] > 0
    assert total["gco2eq"]["total"] > 0

    await user.open("usage")

    for title, member in (("Tokens", _tokens), ("Cost", _cost), ("Carbon (CO2e)", _carbon)):
        bars = user.page.locator("figure").filter(has_text=title).locator("rect")
        drawn = {
            (await bar.get_attribute("data-period"), await bar.get_attribute("data-series")): float(
                str(await bar.get_attribute("data-value"))
            )
            for bar in await bars.all()
        }
        assert drawn == {(one["period"], one["model"]): member(one) for one in report["data"] if member(one)}
    await expect(user.row("priced")).to_contain_text(f"{total['cost']:.6f}".rstrip("0"))
    await expect(user.page.locator("tfoot")).to_contain_text(f"{total['prompt_tokens']:,}")
    assert total["prompt_tokens"] == sum(one["prompt_tokens"] for one in report["data"])


_PERIODS = """async ([periods, period]) => {
    const { periodsOf } = await import("/console/pages/usage.js");
    return periodsOf(periods.map((one) => ({ period: one })), period);
}"""


@pytest.mark.parametrize(
    ("period", "used", "drawn"),
    [
        ("month", ["2027-02", "2026-11"], ["2026-11", "2026-12", "2027-01", "2027-02"]),
        ("day", ["2026-12-02", "2026-11-29"], ["2026-11-29", "2026-11-30", "2026-12-01", "2026-12-02"]),
        ("month", ["2026-11", "2026-11"], ["2026-11"]),
    ],
)
async def test_a_chart_has_a_place_for_what_was_not_used(
    user: Visit, period: str, used: list[str], drawn: list[str]
) -> None:
    assert await user.page.evaluate(_PERIODS, [used, period]) == drawn


_OUTSIDE = """async (periods) => {
    const { barChart } = await import("/console/chart.js");
    const series = [{ name: "all", values: periods.map(() => 1) }];
    const chart = barChart({ title: "Tokens", periods, series, show: String });
    document.querySelector("main").append(chart);
    const drawing = chart.querySelector("svg").getBoundingClientRect();
    const places = [...chart.querySelectorAll("text")].map((one) => [one.textContent, one.getBoundingClientRect()]);
    return places.filter(([, at]) => at.left < drawing.left || at.right > drawing.right).map(([text]) => text);
}"""


async def test_the_names_of_all_periods_are_inside_the_chart(user: Visit) -> None:
    days = [f"2026-11-{day:02}" for day in range(1, 32)]
    months = [f"20{year}-{month:02}" for year in (23, 24, 25, 26) for month in range(1, 13)]

    outside = [
        text
        for periods in (days, months)
        for length in range(1, len(periods) + 1)
        for text in await user.page.evaluate(_OUTSIDE, periods[:length])
    ]

    assert outside == []


def _tokens(line: dict[str, int]) -> float:
    return line["prompt_tokens"] + line["completion_tokens"]


def _cost(line: dict[str, float]) -> float:
    return line["cost"]


def _carbon(line: dict[str, dict[str, float]]) -> float:
    return line["gco2eq"]["total"]


async def test_readers_see_their_organization_by_user(reader: Visit) -> None:
    await _chat(reader, tokens=5)
    report = await reader.get("/v1/organization/usage/report", group_by="user", period="day")
    await reader.open("usage")

    await reader.page.get_by_label("Usage of").select_option("organization")
    await reader.page.get_by_role("button", name="Filter").click()
    await reader.page.get_by_label("Grouped by").select_option("user")
    await reader.page.get_by_role("button", name="Filter").click()

    await expect(reader.page.locator("tbody tr")).to_have_count(len(report["data"]))
    await expect(reader.row(f"{reader.name}@example.com ({reader.user_id})")).to_be_visible()
    await expect(reader.page.locator("tfoot")).to_contain_text(f"{report['total']['prompt_tokens']:,}")


async def test_administrators_see_everybody_by_organization(admin: Visit) -> None:
    await _chat(admin, tokens=5)
    report = await admin.get("/v1/admin/usage/report", group_by="organization", period="day")
    await admin.open("usage")

    await admin.page.get_by_label("Grouped by").select_option("organization")
    await admin.page.get_by_role("button", name="Filter").click()

    await expect(admin.page.locator("tbody tr")).to_have_count(len(report["data"]))
    await expect(admin.row("default (1)")).to_be_visible()


async def test_keys_are_called_by_their_names(user: Visit) -> None:
    await _chat(user, tokens=5)
    (key,) = (await user.get("/v1/me/keys"))["data"]

    await user.open("usage?group_by=key")

    await expect(user.row(f"{key['name']} ({key['id']})")).to_be_visible()


async def test_each_figure_says_how_sure_it_is_and_where_it_comes_from(user: Visit) -> None:
    await _chat(user, tokens=30)
    await _chat(user, model="simulator", tokens=10)
    report = await user.get("/v1/usage/report", group_by="model", period="day")
    assert report["total"]["sources"].keys() == {"modelled", "none"}
    await user.open("usage")

    await expect(user.page.get_by_text(f"{report['since']} to {report['until']}: the current month")).to_be_visible()
    await expect(user.page.locator(".tile", has_text="CO2e / 1,000 tokens")).to_contain_text("% modelled")
    await expect(user.row("priced")).to_contain_text("100 % modelled")
    await expect(user.row("simulator")).to_contain_text("100 % unknown")
    priced = next(line for line in report["data"] if line["model"] == "priced")
    cells = await user.row("priced").get_by_role("cell").all_inner_texts()
    low, high = (_grams(priced["gco2eq"]["range"][end]) for end in ("min", "max"))
    assert f"{low} to {high}" in cells
    assert _grams(priced["gco2eq_per_1000_tokens"]) in cells


def _grams(value: float) -> str:
    """Return a mass as the console shows it."""
    unit, size = next((unit, size) for unit, size in (("g", 1), ("mg", 1e-3), ("µg", 1e-6)) if value >= size)
    return f"{float(f'{value / size:.3g}'):g} {unit}"


async def test_usage_is_filtered_by_key(user: Visit) -> None:
    await _chat(user, tokens=5)
    key = (await user.get("/v1/me/keys"))["data"][0]["name"]
    await user.open("usage")
    await user.page.get_by_text("More filters").click()
    await expect(user.page.get_by_label("Only user")).to_have_count(0)

    await user.page.get_by_label("Only key").fill(key)
    await user.page.get_by_role("button", name="Filter").click()
    await expect(user.page.locator("tfoot")).to_be_visible()
    await user.page.get_by_label("Only key").fill("another")
    await user.page.get_by_role("button", name="Filter").click()

    await expect(user.page.get_by_role("alert")).to_contain_text("No key has this name")


async def test_administrators_filter_usage_by_user(admin: Visit) -> None:
    await _chat(admin, tokens=5)
    await admin.open("usage?group_by=user")
    await admin.page.get_by_text("More filters").click()

    await admin.page.get_by_label("Only user").fill(f"{admin.name}@example.com")
    await admin.page.get_by_role("button", name="Filter").click()

    await expect(admin.page.locator("tbody tr")).to_have_count(1)
    await expect(admin.row(f"({admin.user_id})")).to_be_visible()
