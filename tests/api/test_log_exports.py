"""GET /v1/request_logs as a file: NDJSON, CSV and Parquet."""

import csv
import io
import json

import pytest
from pyarrow import parquet

from tests.api.test_request_logs import LOGS, logs
from tests.installation import Installation


async def test_the_log_is_exported_in_three_formats(both: Installation) -> None:
    for number in range(3):
        await both.chat(metadata={"name": "=1+1"} if number else None, headers={"User-Agent": "=1+1"})

    async def read(media_type: str) -> bytes:
        response = await both.get(f"{LOGS}?order=asc", headers={"Accept": media_type})
        assert response.headers["Content-Disposition"].startswith("attachment; filename=request_logs.")
        assert (response.status, response.content_type) == (200, media_type)
        return bytes(await response.read())

    lines = [json.loads(line) for line in (await read("application/x-ndjson")).splitlines()]
    rows = list(csv.DictReader(io.StringIO((await read("text/csv")).decode())))
    table = parquet.read_table(io.BytesIO(await read("application/vnd.apache.parquet"))).to_pylist()

    listed = await logs(both, order="asc")
    for row in listed:
        del row["key_name"], row["user_email"], row["organization_name"]
    assert lines == listed
    assert [row["id"] for row in rows] == [row["id"] for row in table] == [row["id"] for row in listed]
    assert [row["prompt_tokens"] for row in table] == [row["prompt_tokens"] for row in listed]
    assert table[0]["created_at"] == listed[0]["created_at"]
    assert {row["user_agent"] for row in rows} == {"'=1+1"}
    assert {row["user_agent"] for row in table} == {"=1+1"}


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json, text/csv;q=0.5", "application/json"),
        ("text/csv;q=0", "application/json"),
        ("text/csv;q=0.4, application/x-ndjson; q=0.9", "application/x-ndjson"),
        ("TEXT/*", "text/csv"),
        ("*/*;q=0.1, text/csv", "text/csv"),
        ("text/csvx", "application/json"),
        ("image/png", "application/json"),
        ("text/csv;q=much", "application/json"),
    ],
)
async def test_the_form_is_the_one_that_is_preferred(sluice: Installation, accept: str, expected: str) -> None:
    assert (await sluice.get(LOGS, headers={"Accept": accept})).content_type == expected


async def test_a_report_is_a_file_with_a_name(sluice: Installation) -> None:
    path = "/v1/usage/report?since=2026-11-01&until=2026-11-02"
    report = await sluice.get(path, headers={"Accept": "text/csv, application/json;q=0.5"})
    plain = await sluice.get(path, headers={"Accept": "application/json, text/csv;q=0.5"})

    assert (report.content_type, plain.content_type) == ("text/csv", "application/json")
    assert report.headers["Content-Disposition"] == "attachment; filename=usage_report_2026-11-01_2026-11-02.csv"


async def test_a_file_has_no_limit(sluice: Installation) -> None:
    response = await sluice.get(f"{LOGS}?limit=5", headers={"Accept": "text/csv"})

    assert (response.status, (await response.json())["error"]["param"]) == (422, "limit")


async def test_an_empty_export_is_a_file(sluice: Installation) -> None:
    response = await sluice.get(LOGS, headers={"Accept": "application/vnd.apache.parquet"})

    assert parquet.read_table(io.BytesIO(await response.read())).num_rows == 0
