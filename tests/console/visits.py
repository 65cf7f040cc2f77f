"""A visit of the console: a page of the browser, what it complained about, and the usual ways through it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, Request, expect

from tests.installation import Installation

WITHIN_MS = 15_000
_NO_FAULTS = (
    "Failed to load resource: the server responded with a status of 4",
    "Failed to load resource: net::ERR_INCOMPLETE_CHUNKED_ENCODING",
    "Failed to load resource: net::ERR_CONNECTION_RESET",
)
"""What a browser says of refusals, and of a connection that a test has cut."""
expect.set_options(timeout=WITHIN_MS)


class Visit:
    """`complaints` are errors of scripts and of the policy, and requests to anybody else."""

    def __init__(self, page: Page, sluice: Installation, name: str) -> None:
        self.page = page
        self.sluice = sluice
        self.url = sluice.url
        self.name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[-60:]
        self.complaints: list[str] = []
        self.headers: dict[str, str] = {}
        self.user_id = 0
        page.set_default_timeout(WITHIN_MS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_NO_FAULTS):
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.url + "/", "blob:" + self.url)):
            self.complaints.append(f"external request: {request.url}")

    async def open(self, place: str = "") -> None:
        """Go to a page, such as `jobs`, and wait until it is there; lists on it may still be read."""
        await self.page.goto(f"{self.url}/console/" + (f"#/{place}" if place else ""))
        await expect(self.page.locator("h1")).to_be_visible()
        await expect(self.page.locator("main[aria-busy=true]")).to_have_count(0)

    async def sign_in(self, key: str) -> None:
        await self.open()
        await self.key_field().fill(key)
        await self.page.get_by_role("form", name="With a key").get_by_role("button", name="Sign in").click()
        await expect(self.heading("Playground")).to_be_visible()

    def key_field(self) -> Locator:
        return self.page.get_by_role("textbox", name="Key")

    def heading(self, name: str) -> Locator:
        return self.page.get_by_role("heading", name=name, exact=True, level=1)

    def row(self, text: str) -> Locator:
        """Return the row of a table that holds a text."""
        return self.page.locator("tbody tr").filter(has_text=text)

    async def get(self, path: str, **query: Any) -> Any:
        """Return what the API says to this user."""
        answer = await self.sluice.client.get(path, params=query, headers=self.headers)
        assert answer.status == 200, await answer.text()
        return await answer.json()

    async def post(self, path: str, body: Any, **headers: str) -> Any:
        answer = await self.sluice.client.post(path, json=body, headers=self.headers | headers)
        assert answer.status < 300, await answer.text()
        return await answer.json()


@asynccontextmanager
async def open_visit(browser: Browser, sluice: Installation, name: str, **options: Any) -> AsyncIterator[Visit]:
    """Yield a visit with cookies and storage of its own; `options` are those of a browser context."""
    context = await browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    await context.add_init_script("window.showSaveFilePicker = undefined")  # nobody answers its dialog
    yield Visit(await context.new_page(), sluice, name)
    await context.close()
