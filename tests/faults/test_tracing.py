"""Traces of processes that are killed, and of a collector that does not answer."""

import asyncio
import socket
from pathlib import Path

from aiohttp import ClientSession

from tests.collector import Collector, Span, serve_collector
from tests.faults.processes import Processes
from tests.faults.test_kills import has_attempts
from tests.waiting import eventually

TRACE = "a3c1d4e2f5b60718293a4b5c6d7e8f90"
CALLER = "00f067aa0ba902b7"
SERVER, SEND, PROCESS = "POST /v1/chat/completions", "send sluice:inference", "process sluice:inference"


async def chat(http: ClientSession, processes: Processes, **simulator: object) -> int:
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Hi"}], "simulator": simulator}
    headers = processes.headers | {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    async with http.post(processes.url + "/v1/chat/completions", json=body, headers=headers) as response:
        await response.read()
        return response.status


def check_tree(spans: list[Span]) -> None:
    """Check that there is one tree below the caller's span."""
    ids = {span.id for span in spans}
    assert [span.name for span in spans if span.parent == CALLER] == [SERVER]
    assert not [span for span in spans if span.parent not in ids | {CALLER}]


async def tree(collector: Collector) -> list[Span]:
    spans = await collector.until(SERVER, SEND, PROCESS, "chat simulator", trace=TRACE)
    check_tree(spans)
    return spans


async def test_a_job_whose_worker_is_killed_stays_in_its_trace(folder: Path) -> None:
    async with serve_collector() as collector:
        processes = Processes(folder, trace_url=collector.url)
        try:
            await processes.start()
            async with ClientSession() as http:
                call = asyncio.ensure_future(chat(http, processes, delay_ms=1500))
                await eventually(lambda: has_attempts(processes))
                processes.kill("-m worker")
                assert await call == 200
            spans = await tree(collector)
        finally:
            await processes.close()

    (attempt,) = [span for span in spans if span.name == PROCESS]
    assert attempt.attributes["sluice.attempt"] == 2
    assert attempt.service == "sluice-worker"
    assert {span.service for span in spans} == {"sluice-api", "sluice-worker"}


async def test_spans_that_are_left_are_sent_at_the_end(folder: Path) -> None:
    async with serve_collector() as collector:
        processes = Processes(folder, trace_url=collector.url)
        try:
            await processes.start()
            async with ClientSession() as http:
                assert await chat(http, processes) == 200
            assert await asyncio.to_thread(processes.stop) == 0
            await tree(collector)
        finally:
            await processes.close()


async def test_a_collector_that_never_answers_keeps_nobody_waiting(folder: Path) -> None:
    with socket.socket() as deaf:  # takes connections and says nothing
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        processes = Processes(folder, trace_url=f"http://127.0.0.1:{deaf.getsockname()[1]}/v1/traces")
        try:
            await processes.start()
            async with ClientSession() as http:
                answers = [await chat(http, processes) for _ in range(5)]
            code = await asyncio.to_thread(processes.stop)
        finally:
            await processes.close()

    assert answers == [200] * 5
    assert code == 0
