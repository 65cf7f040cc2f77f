"""The files of the console: who gets them, and what the browser is told about them."""

import pytest
from yarl import URL

from tests.installation import Installation

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/console/", "text/html; charset=utf-8"),
        ("/console/main.js", "text/javascript; charset=utf-8"),
        ("/console/pages/jobs.js", "text/javascript; charset=utf-8"),
        ("/console/styles/layout.css", "text/css; charset=utf-8"),
        ("/console/icon.svg", "image/svg+xml"),
    ],
)
async def test_files_come_without_a_key_and_with_a_strict_policy(
    sluice: Installation, path: str, content_type: str
) -> None:
    answer = await sluice.client.get(path)

    assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert await answer.read()


async def test_a_file_that_is_known_is_not_sent_again(sluice: Installation) -> None:
    first = await sluice.client.get("/console/main.js")

    again = await sluice.client.get("/console/main.js", headers={"If-None-Match": f'"other", {first.headers["ETag"]}'})

    assert (again.status, await again.read()) == (304, b"")
    assert again.headers["Content-Security-Policy"] == POLICY


async def test_the_folder_is_found_without_its_slash(sluice: Installation) -> None:
    answer = await sluice.client.get("/console", allow_redirects=False)

    assert (answer.status, answer.headers["Location"]) == (308, "/console/")


@pytest.mark.parametrize(
    "path",
    [
        "/console/nothing.js", "/console/pages", "/console/../app.py", "/console/..%2fapp.py", "/console/%2e%2e/app.py",
        "/console//etc/passwd", "/console/pages/../../app.py", "/console/%00", "/console/pages%5c..%5c..%5capp.py",
    ],
)  # fmt: skip
async def test_no_path_leads_out_of_the_folder(sluice: Installation, path: str) -> None:
    answer = await sluice.client.get(URL(sluice.url + path, encoded=True))

    assert answer.status == 404
    assert (await answer.json())["error"]["message"] == "Not Found"


async def test_pages_carry_no_inline_script_or_style(sluice: Installation) -> None:
    page = await (await sluice.client.get("/console/")).text()

    assert "<style" not in page
    assert " style=" not in page
    assert page.count("<script") == page.count('<script src="/console/') + page.count(
        '<script type="module" src="/console/'
    )
    assert "http:" not in page
    assert "https:" not in page
