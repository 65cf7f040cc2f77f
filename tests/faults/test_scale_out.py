"""Many processes and machines are one installation: whatever begins in one of them goes on in any other."""

import asyncio
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import ClientSession
from msgspec import Struct
from sqlmodel import select

from shared.database import Database
from shared.jobs.schemas import COMPLETED
from shared.providers.tables import ProviderRow
from shared.request_logs.tables import RequestLogRow
from shared.routers.tables import RouterRow
from shared.settings import Settings
from shared.users.tables import UserRow
from tests.databases import new_postgres_database
from tests.events import Event, parse_events
from tests.faults.invariants import check_attempts, check_jobs, check_outcomes, check_texts, left_in_redis, read_ledger
from tests.faults.processes import Processes, rows, submit, until_all_over
from tests.faults.traffic import Traffic, random_calls, text_of
from tests.installation import FIRST_MODELS
from tests.providers import ScriptedProvider, hangs, says
from tests.servers import RedisServer
from tests.waiting import eventually
from worker.bootstrap import prepare

pytestmark = pytest.mark.timeout(150)  # the first test of a cluster waits for six or seven processes to start
SLOTS = 8
WORKERS = 3
CALLS = 25
ENCRYPTION_KEY = "encryption-key-of-the-tests-0123456789"
PATIENT = {"worker_slots": SLOTS, "lease_s": 15, "accept_patience_s": 10}
"""On a busy machine, no lease is lost and no caller refused."""
CALLERS = 8
"""New connections per door: the kernel gives each to any of the api processes that share the port."""


class Cluster(Struct):
    """One installation with two api and three worker processes, on one machine or on two."""

    machines: list[Processes]

    @property
    def first(self) -> Processes:
        return self.machines[0]

    @property
    def last(self) -> Processes:
        """Another machine, if there is one; else the same, where each new connection may reach another process."""
        return self.machines[-1]

    def doors(self) -> list[str]:
        """Return the addresses to connect to, so often that every api process is reached."""
        return [machine.url for machine in self.machines for _ in range(CALLERS)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "two machines"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """All tests of this module use the same processes, which are slow to start and survive them."""
    with tempfile.TemporaryDirectory() as name:
        folder, settings, redis = Path(name), dict(PATIENT), None
        if request.param != "sqlite":
            redis = start_redis(folder)
            database = new_postgres_database(request.getfixturevalue("postgres_url"), f"c{abs(hash(name))}")
            settings |= {"database_url": database, "redis_url": redis.url, "encryption_key": ENCRYPTION_KEY}
        shares = [(1, 2), (1, 1)] if request.param == "two machines" else [(2, WORKERS)]
        running = Cluster([new_machine(folder, place, *share, settings) for place, share in enumerate(shares)])
        try:
            for machine in running.machines:
                asyncio.run(start(machine))
            yield running
        finally:
            for machine in running.machines:
                asyncio.run(machine.close())
            if redis is not None:
                redis.kill()


async def start(machine: Processes) -> None:
    """Start a machine and return when each of its processes is ready."""
    with suppress(AssertionError):  # on a busy machine it may take longer
        await machine.start()
    await eventually(machine.serves, within_s=60)
    apis, workers = (int(machine.environ[f"SLUICE_{name}"]) for name in ("API_PROCESSES", "WORKERS"))
    await eventually(lambda: said(machine, "api_ready") >= apis and said(machine, "worker_ready") >= workers)


def said(machine: Processes, event: str) -> int:
    return machine.output.read_text().count(event)


def start_redis(folder: Path) -> RedisServer:
    (folder / "redis").mkdir()
    server = RedisServer(folder / "redis")
    server.start()
    return server


def new_machine(folder: Path, place: int, apis: int, workers: int, settings: Mapping[str, Any]) -> Processes:
    own = folder / f"m{place}"
    own.mkdir(mode=0o700)
    return Processes(own, api_processes=apis, workers=workers, **settings)


async def call(url: str, key: str, path: str, body: Any = None, **options: Any) -> tuple[int, bytes]:
    """Make one call on a new connection; returns status and body."""
    headers = {"Authorization": f"Bearer {key}"} | options.pop("headers", {})
    method = "GET" if body is None else "POST"
    async with ClientSession(url, headers=headers) as http, http.request(method, path, json=body, **options) as answer:
        return answer.status, await answer.read()


async def through_all(cluster: Cluster, path: str, body: Any = None, key: str = "", **options: Any) -> Any:
    """Make the same call through every door at once; returns pairs of status and body."""
    key = key or admin_key(cluster)
    return await asyncio.gather(*(call(url, key, path, body, **options) for url in cluster.doors()))


def admin_key(cluster: Cluster) -> str:
    return cluster.first.environ["SLUICE_ADMIN_KEY"]


def chat_body(model: str = "simulator", **members: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}]} | members


async def test_every_api_process_gets_connections(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        for url in cluster.doors() * 4:
            http = await stack.enter_async_context(ClientSession(url))
            assert (await http.get("/health")).status == 200

        ports = {machine.port for machine in cluster.machines}
        pids = [pid for machine in cluster.machines for pid in machine.children("-m api")]
        busy = [pid for pid in pids if has_callers(pid, ports)]

    assert len(pids) == 2
    assert busy == pids


def has_callers(pid: int, ports: set[int]) -> bool:
    connections = psutil.Process(pid).net_connections("tcp4")
    return any(found.status == psutil.CONN_ESTABLISHED and found.laddr.port in ports for found in connections)


async def test_all_workers_work_and_jobs_are_cancelled_from_anywhere(cluster: Cluster) -> None:
    async with ClientSession() as http:
        accepted = await submit(http, cluster.first, SLOTS * WORKERS, delay_ms=60_000)

    workers = await eventually(lambda: running_workers(cluster, set(accepted), WORKERS))
    for job_id in accepted:
        status, _ = await call(cluster.last.url, admin_key(cluster), f"/v1/jobs/{job_id}/cancel", {})
        assert status == 200
    jobs = {job.id: job for job in await until_all_over(cluster.first)}

    assert {token.split(":")[1] for token in workers} == {str(machine.pid) for machine in cluster.machines}
    assert {jobs[job_id.removeprefix("job_")].status for job_id in accepted} == {"cancelled"}


async def running_workers(cluster: Cluster, job_ids: set[str], count: int) -> set[str]:
    """Return the workers that run these jobs, if there are so many."""
    logs = await rows(cluster.first, RequestLogRow)
    found = {str(log.worker) for log in logs if f"job_{log.job_id}" in job_ids and log.status == "in_progress"}
    return found if len(found) == count else set()


async def test_calls_of_all_sorts_through_all_doors_are_answered_once(cluster: Cluster) -> None:
    await cluster.first.add_model("priced")
    traffics = [Traffic(machine, "priced") for machine in (cluster.last, cluster.first)]

    await asyncio.gather(
        *(traffic.run(random_calls(random.Random(place), CALLS), callers=8) for place, traffic in enumerate(traffics))
    )

    ledger = await read_ledger(cluster.first)
    accepted = set().union(*(traffic.accepted for traffic in traffics))
    assert len(accepted) == 2 * CALLS
    check_jobs(ledger, accepted)
    check_attempts(ledger)
    await check_outcomes(cluster.first, ledger)
    for traffic in traffics:
        check_texts(ledger, traffic.streamed, traffic.answered)
    mine = [job for job in ledger.jobs.values() if f"job_{job.id}" in accepted]
    assert Counter((job.status, job.attempt) for job in mine) == {(COMPLETED, 1): 2 * CALLS}
    await eventually(lambda: not left_in_redis(cluster.first))


async def test_a_stream_that_was_cut_goes_on_exactly_there_through_any_other_process(cluster: Cluster) -> None:
    body = chat_body(stream=True, simulator={"tokens": 40, "chunk_delay_ms": 20})
    async with ClientSession(cluster.first.url, headers=cluster.first.headers) as http:
        response = await http.post("/v1/chat/completions", json=body)
        seen = parse_events((b"".join([await response.content.readuntil(b"\n\n") for _ in range(5)])).decode())
        job_id = response.headers["x-job-id"]
        response.close()

    resumed = await through_all(cluster, f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": seen[-1].id})
    again = await through_all(cluster, f"/v1/jobs/{job_id}/events")
    results = await through_all(cluster, f"/v1/jobs/{job_id}/result")

    assert {status for status, _ in resumed + again + results} == {200}
    rests = [parse_events(text.decode()) for _, text in resumed]
    wholes = [parse_events(text.decode()) for _, text in again]
    assert all(rest == rests[0] for rest in rests)
    assert all(whole == wholes[0] for whole in wholes)
    assert rests[0][-1].event == "job.completed"
    assert output_of(seen + rests[0]) == output_of(wholes[0])
    assert len({result for _, result in results}) == 1
    stored = json.loads(results[0][1])["choices"][0]["message"]["content"]
    assert text_of(seen + rests[0]) == stored
    assert len(stored.split()) == 40


def output_of(events: list[Event]) -> list[Event]:
    return [event for event in events if event.event is None and event.data != "[DONE]"]


async def test_a_running_job_is_cancelled_at_its_provider_through_another_process(
    cluster: Cluster, provider: ScriptedProvider
) -> None:
    provider.default = hangs()
    await cluster.first.add_model("hanging", provider.url)
    waiting = asyncio.ensure_future(
        call(cluster.first.url, admin_key(cluster), "/v1/chat/completions", chat_body("hanging"))
    )
    await eventually(lambda: provider.running == 1)
    job = next(job for job in await unfinished(cluster) if job["model"] == "hanging")

    answers = await asyncio.gather(
        *(call(cluster.last.url, admin_key(cluster), f"/v1/jobs/{job['id']}/cancel", {}) for _ in range(CALLERS))
    )
    status, body = await waiting

    assert {status for status, _ in answers} == {200}
    assert (status, json.loads(body)["error"]["code"]) == (409, "job_cancelled")
    await eventually(lambda: provider.aborted == 1)
    assert (provider.running, len(provider.requests)) == (0, 1)


async def unfinished(cluster: Cluster) -> list[Any]:
    _, body = await call(cluster.last.url, admin_key(cluster), "/v1/jobs?status=in_progress")
    found: list[Any] = json.loads(body)["data"]
    return found


async def test_a_deleted_key_is_refused_by_every_process(cluster: Cluster) -> None:
    token = {"name": "to be deleted", "user": 2}
    status, body = await call(cluster.first.url, admin_key(cluster), "/v1/admin/tokens", token)
    made = json.loads(body)
    assert status == 201
    accepted = await through_all(cluster, "/v1/chat/completions", chat_body(), key=made["key"])
    assert {status for status, _ in accepted} == {200}

    async with ClientSession(cluster.first.url, headers=cluster.first.headers) as http:
        assert (await http.delete(f"/v1/admin/tokens/{made['id']}")).status == 204

    await eventually(lambda: is_refused_everywhere(cluster, made["key"]))


async def is_refused_everywhere(cluster: Cluster, key: str) -> bool:
    answers = await through_all(cluster, "/v1/chat/completions", chat_body(), key=key)
    return {status for status, _ in answers} == {401}


async def test_a_new_model_is_usable_at_once_in_every_process(cluster: Cluster, provider: ScriptedProvider) -> None:
    provider.default = says("ok", delay_s=0.2)
    await cluster.first.add_model("new", provider.url, key="sk-of-the-provider")

    answers = await through_all(cluster, "/v1/chat/completions", chat_body("new"))

    assert [status for status, _ in answers] == [200] * len(answers)
    assert {json.loads(body)["choices"][0]["message"]["content"] for _, body in answers} == {"ok"}
    assert {headers["Authorization"] for headers in provider.headers} == {"Bearer sk-of-the-provider"}


async def test_a_deleted_model_is_unknown_in_every_process(cluster: Cluster) -> None:
    await cluster.first.add_model("short-lived")
    accepted = await through_all(cluster, "/v1/chat/completions", chat_body("short-lived"))
    assert {status for status, _ in accepted} == {200}
    _, body = await call(cluster.last.url, admin_key(cluster), "/v1/admin/routers?limit=100")
    router = next(found for found in json.loads(body)["data"] if found["name"] == "short-lived")

    async with ClientSession(cluster.last.url, headers=cluster.last.headers) as http:
        assert (await http.delete(f"/v1/admin/routers/{router['id']}")).status == 200

    await eventually(lambda: is_unknown_everywhere(cluster, "short-lived"))


async def is_unknown_everywhere(cluster: Cluster, model: str) -> bool:
    answers = await through_all(cluster, f"/v1/models/{model}")
    return {status for status, _ in answers} == {404}


async def test_machines_may_start_at_once_on_an_empty_database(empty_postgres_url: str) -> None:
    settings = [Settings(database_url=empty_postgres_url, data_dir=f"unused-{place}") for place in range(4)]

    await asyncio.gather(*(prepare(each) for each in settings))

    database = Database(empty_postgres_url)
    async with database.read() as session:
        counts = [len((await session.exec(select(table))).all()) for table in (UserRow, RouterRow, ProviderRow)]
    await database.close()
    assert counts == [2, len(FIRST_MODELS), len(FIRST_MODELS)]


@pytest.fixture
def empty_postgres_url(postgres_url: str, tmp_path: Path) -> str:
    return new_postgres_database(postgres_url, f"e{abs(hash(str(tmp_path)))}")
