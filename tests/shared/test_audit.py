"""The audit of `scripts/check`: it fails for a known vulnerability, and says if nobody could be asked."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

AUDIT: Final = Path(__file__).parents[2] / "scripts/audit.py"
LOCK: Final = "# Versions\ngood==1.0\nbad==3.0\nbad==2.0 ; sys_platform == 'nowhere'\n"
NOTHING: Final = "WARNING: NOTHING WAS AUDITED"
Answer = Callable[[web.Request], Awaitable[web.Response]]


async def run(folder: Path, url: str, lock: str = LOCK, **environ: str) -> tuple[int, str]:
    """Return the exit code and what was said."""
    (folder / "requirements.lock").write_text(lock)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(AUDIT), str(folder / "requirements.lock"), url, env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


@asynccontextmanager
async def service(answer: Answer) -> AsyncIterator[str]:
    """Yield the URL of a service of vulnerabilities, as OSV's."""
    app = web.Application()
    app.router.add_post("/v1/query", answer)
    server = TestServer(app)
    await server.start_server()
    yield str(server.make_url("/v1/query"))
    await server.close()


async def knows_one(request: web.Request) -> web.Response:
    asked = json.loads(await request.read())
    if (asked["package"]["name"], asked["version"]) != ("bad", "2.0"):
        return web.json_response({})
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.1"}]}]
    affected = [{"package": {"name": "bad", "ecosystem": "PyPI"}, "ranges": ranges}]
    issue = {"id": "OSV-1", "summary": "It is bad.", "affected": affected, "published": "2026-01-01T00:00:00Z"}
    return web.json_response({"vulns": [issue]})


async def knows_nothing(_request: web.Request) -> web.Response:
    return web.json_response({})


async def is_broken(_request: web.Request) -> web.Response:
    return web.Response(status=502)


async def is_a_portal(_request: web.Request) -> web.Response:
    return web.Response(text="<html>Log in first</html>", content_type="text/html")


async def test_a_known_vulnerability_fails_whatever_platform_it_is_for(tmp_path: Path) -> None:
    async with service(knows_one) as url:
        code, said = await run(tmp_path, url)

    assert code == 1
    assert "bad 2.0: OSV-1, fixed in 2.1" in said
    assert NOTHING not in said


async def test_without_one_it_passes_and_says_how_much_was_looked_up(tmp_path: Path) -> None:
    async with service(knows_nothing) as url:
        code, said = await run(tmp_path, url, SLUICE_AUDIT="required")

    assert (code, said.strip()) == (0, "3 packages have no known vulnerability.")


@pytest.mark.parametrize("answer", [is_broken, is_a_portal])
async def test_a_service_that_does_not_answer_is_told(tmp_path: Path, answer: Answer) -> None:
    async with service(answer) as url:
        code, said = await run(tmp_path, url)

    assert code == 0
    assert NOTHING in said


async def test_a_service_that_is_not_there_fails_only_if_it_is_required(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}/v1/query"

    code, said = await run(tmp_path, url)
    required, _ = await run(tmp_path, url, SLUICE_AUDIT="required")

    assert (code, required) == (0, 1)
    assert NOTHING in said


async def test_an_audit_that_is_out_of_order_fails(tmp_path: Path) -> None:
    code, said = await run(tmp_path, "http://127.0.0.1:9/", lock="good>=1.0\n")

    assert code == 1
    assert "The audit is out of order" in said
