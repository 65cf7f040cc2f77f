"""The documentation at /docs: the files of the repository and the reference, as pages."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest
from typing_extensions import override
from yarl import URL

from api.documentation.markdown import render_file
from tests.api.test_openapi import operations, reference_of
from tests.installation import Installation

ROOT = Path(__file__).parents[2]
FILES = sorted(path.stem for path in (ROOT / "deploy/docs").glob("*.md") if path.stem != "index")


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.links += [found["href"] or ""] if tag == "a" else []
        self.loaded += [one for one in (found.get("src"), found.get("href") if tag == "link" else None) if one]
        self.ids += [found["id"] or ""] if "id" in found else []

    @override
    def handle_data(self, data: str) -> None:
        self.text += data


async def page_at(sluice: Installation, url: str) -> Page:
    response = await sluice.client.get(url)
    assert response.status == 200, url
    assert response.content_type == "text/html"
    return Page(await response.text())


@pytest.mark.parametrize("name", ["readme", *FILES])
async def test_every_file_is_a_page(sluice: Installation, name: str) -> None:
    file = ROOT / ("README.md" if name == "readme" else f"deploy/docs/{name}.md")

    page = await page_at(sluice, f"/docs/{name}")

    title = file.read_text().partition("\n")[0].removeprefix("# ")
    assert title in page.text
    assert len(page.ids) == len(set(page.ids))


async def test_every_file_is_in_the_contents(sluice: Installation) -> None:
    page = await page_at(sluice, "/docs")

    assert {f"/docs/{name}" for name in ["readme", "reference", *FILES]} <= set(page.links)


async def test_all_links_of_all_pages_lead_somewhere(sluice: Installation) -> None:
    pages: dict[str, Page] = {}
    wanted = ["/docs"]
    while wanted:
        url = wanted.pop()
        if url in pages:
            continue
        response = await sluice.client.get(url)
        assert response.status == 200, url
        pages[url] = Page(await response.text()) if response.content_type == "text/html" else Page("")
        links = [urljoin(url, link).partition("#")[0] for link in pages[url].links + pages[url].loaded]
        wanted += [link for link in links if link.startswith("/docs")]
    for url, page in pages.items():
        for link in page.links:
            address, _, anchor = urljoin(url, link).partition("#")
            if anchor and address in pages:
                assert anchor in pages[address].ids, (url, link)
    assert len(pages) > len(FILES) + 20


@pytest.mark.parametrize("file", ["README.md", *(f"deploy/docs/{name}.md" for name in ["index", *FILES])])
def test_links_between_files_lead_somewhere_on_a_git_host(file: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / file).read_text(), flags=re.DOTALL)

    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        path = ((ROOT / file).parent / target).resolve() if target else ROOT / file
        assert path.exists(), link
        if anchor and path.suffix == ".md":
            rendered = render_file(path.read_text(), str(path.relative_to(ROOT)))
            assert anchor in [one.anchor for one in rendered.headings], link


@pytest.mark.parametrize("url", ["/docs", "/docs/readme", "/docs/reference", "/docs/reference/jobs"])
async def test_a_page_needs_no_script_and_nothing_from_elsewhere(sluice: Installation, url: str) -> None:
    response = await sluice.client.get(url)

    page = Page(await response.text())
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert not page.tags & {"script", "iframe", "form", "style", "object"}
    assert all(link.startswith("/docs/") for link in page.loaded)


async def test_the_style_sheet_and_drawings_are_files_of_their_own(sluice: Installation) -> None:
    style = await sluice.client.get("/docs/docs.css")

    assert (style.status, style.content_type) == (200, "text/css")
    assert "light dark" in await style.text()


@pytest.mark.parametrize("url", ["/docs", "/docs/reference"])
async def test_a_page_is_found_with_a_slash_behind_it(sluice: Installation, url: str) -> None:
    answer = await sluice.client.get(f"{url}/", allow_redirects=False)

    assert (answer.status, answer.headers["Location"]) == (308, url)
    assert (await sluice.client.get(f"{url}/")).content_type == "text/html"


@pytest.mark.parametrize("url", ["/docs/nothing", "/docs/..%2f..%2fpyproject.toml", "/docs/reference/nothing"])
async def test_what_is_no_page_is_not_found(sluice: Installation, url: str) -> None:
    response = await sluice.client.get(URL(url, encoded=True))

    assert response.status == 404


async def test_the_reference_shows_every_operation_with_its_errors_and_types(sluice: Installation) -> None:
    reference = await reference_of(sluice)
    overview = await page_at(sluice, "/docs/reference")
    pages = {link.partition("#")[0] for link in overview.links if link.startswith("/docs/reference/")}
    shown = {url: await page_at(sluice, url) for url in pages}

    ids = {anchor for page in shown.values() for anchor in page.ids}
    text = "".join(page.text for page in shown.values())
    for path, _, operation in operations(reference):
        assert operation["operationId"] in ids, path
        for status, response in operation["responses"].items():
            for code in re.findall(r"`(\w+)`:", response["description"]) if int(status) >= 400 else ():
                assert code in text, (path, code)
    create_job = shown["/docs/reference/jobs"]
    assert "type-CreateJobRequest" in create_job.ids
    assert "on_worker_lost" in create_job.text


def test_html_in_a_file_is_shown_as_text() -> None:
    text = "# A <b>title</b>\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) ![y](data:text/html,z) `<i>`\n"

    html = render_file(text, "README.md").html

    assert "<script" not in html
    assert "<b>" not in html
    assert 'href="javascript' not in html
    assert 'src="data' not in html


async def test_the_page_that_webhooks_name_is_there(sluice: Installation) -> None:
    assert "webhook-id" in (await page_at(sluice, "/docs/webhooks")).text
