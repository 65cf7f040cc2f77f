"""One browser and one installation for all tests of the console; each test has a visit of its own.

The browser is chromium.  Without one the tests are skipped, but fail in `.ci/run`.
"""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.conftest import make_settings
from tests.console.visits import Visit, open_visit
from tests.installation import FIRST_MODELS, Installation, open_installation
from tests.people import ROLES, add_user, create, key_of
from tests.receivers import Receiver, serve_receiver
from tests.servers import RedisServer
from tests.webhooks import LOOPBACK

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_ADMIN_ROLE: Final = 1


@pytest.fixture(scope="package")
def browser_path() -> str:
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        assert "CI" not in os.environ, "chromium is missing"
        pytest.skip("no browser: install chromium (apt-get install chromium) to test the console")
    return found


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser(browser_path: str) -> AsyncIterator[Browser]:
    """A headless browser; /dev/shm is small in containers, and root has no sandbox."""
    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=browser_path, args=arguments)
        yield running
        await running.close()


@pytest.fixture(scope="package")
def console_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of its own, since other tests empty the shared one."""
    server = RedisServer(tmp_path_factory.mktemp("console-redis"))
    server.start()
    yield server
    server.kill()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def sluice(tmp_path_factory: pytest.TempPathFactory, console_redis: RedisServer) -> AsyncIterator[Installation]:
    """A running installation on SQLite, with a model that costs and emits something."""
    folder: Path = tmp_path_factory.mktemp("console")
    async with open_installation(make_settings(folder, console_redis, **LOOPBACK)) as installation:
        await installation.add_model(
            "priced", prices=(1000, 2000), model_total_params=70, model_active_params=70, model_hosting_zone="FRA"
        )
        yield installation


@pytest_asyncio.fixture(loop_scope="package")
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of webhooks in the loop of the other fixtures."""
    async with serve_receiver() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package")
async def visit(browser: Browser, sluice: Installation, request: pytest.FixtureRequest) -> AsyncIterator[Visit]:
    """A visitor who has not signed in; ends with looking for complaints of the browser."""
    async with open_visit(browser, sluice, request.node.name) as opened:
        yield opened
        assert opened.complaints == []


@pytest_asyncio.fixture(loop_scope="package")
async def user(visit: Visit, sluice: Installation) -> Visit:
    """A visitor who has signed in with the key of a new ordinary user."""
    return await _signed_in(visit, sluice)


@pytest_asyncio.fixture(loop_scope="package")
async def admin(visit: Visit, sluice: Installation) -> Visit:
    """A visitor who has signed in with the key of a new administrator."""
    return await _signed_in(visit, sluice, role=_ADMIN_ROLE)


@pytest_asyncio.fixture(loop_scope="package")
async def reader(visit: Visit, sluice: Installation) -> Visit:
    """A visitor who has signed in with the key of a new user who may read the usage of the organization."""
    limits = [{"router": len(FIRST_MODELS) + 1, "type": "rpm"}]
    role = await create(sluice, ROLES, name=visit.name, permissions=["read_organization_usage"], limits=limits)
    return await _signed_in(visit, sluice, role=role["id"])


async def _signed_in(visit: Visit, sluice: Installation, **members: int) -> Visit:
    email = f"{visit.name}@example.com"
    created = await add_user(sluice, email, organization=1, **members)
    visit.headers = await key_of(sluice, created["id"])
    visit.user_id = created["id"]
    await visit.sign_in(visit.headers["Authorization"].removeprefix("Bearer "))
    return visit
