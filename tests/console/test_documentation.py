"""The documentation in a browser: narrow and wide screens, both themes, nothing from elsewhere."""

import pytest
from axe_playwright_python.async_playwright import Axe

from tests.api.test_documentation import FILES
from tests.console.test_pages import _OPTIONS
from tests.console.visits import Visit

pytestmark = pytest.mark.asyncio(loop_scope="package")
PLACES = ["", "/readme", *(f"/{name}" for name in FILES), "/reference", "/reference/jobs", "/reference/admin-routers"]

DARK = ("", "/readme", "/concepts", "/reference/jobs")
"""Pages that have everything there is, which are looked at in the dark theme, too: all have one style sheet."""


@pytest.mark.timeout(180)
async def test_every_page_fits_narrow_and_wide_screens_and_axe_finds_nothing(visit: Visit) -> None:
    found = []
    for place in PLACES:
        await visit.page.goto(f"{visit.sluice.url}/docs{place}")
        for width in (400, 1280):
            await visit.page.set_viewport_size({"width": width, "height": 900})
            if await visit.page.evaluate("document.documentElement.scrollWidth") > width:
                found.append(f"{place} is wider than {width}")
        await visit.page.evaluate(Axe().axe_script)
        for theme in ("light", "dark") if place in DARK else ("light",):
            await visit.page.emulate_media(color_scheme=theme)
            results = await visit.page.evaluate("options => axe.run(options)", _OPTIONS[theme])
            found += [f"{place}, {theme}: {one['id']}: {one['nodes'][0]['html']}" for one in results["violations"]]

    assert "\n".join(found) == ""


async def test_the_drawing_is_shown(visit: Visit) -> None:
    await visit.page.goto(f"{visit.sluice.url}/docs/concepts")

    sizes = await visit.page.evaluate("[...document.images].map(one => [one.naturalWidth > 0, one.alt.length > 20])")

    assert sizes == [[True, True]]


async def test_pages_are_reached_from_the_start_page(visit: Visit) -> None:
    await visit.page.goto(f"{visit.sluice.url}/")

    await visit.page.get_by_role("link", name="Documentation").click()
    await visit.page.get_by_role("navigation", name="All pages").get_by_role("link", name="Webhooks").click()

    assert visit.page.url == f"{visit.sluice.url}/docs/webhooks"
    assert await visit.page.get_by_role("heading", level=1).inner_text() == "Webhooks"
