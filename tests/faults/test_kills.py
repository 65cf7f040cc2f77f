"""Processes are killed while they work; what was accepted is done once.  Read from the database."""

import asyncio
import json
from contextlib import suppress
from typing import Any

from aiohttp import ClientError, ClientSession
from redis import Redis

from shared.jobs.tables import JobResultRow
from shared.replies.frames import decode_frames
from shared.request_logs.tables import RequestLogRow
from shared.usage.tables import ChargeRow
from tests.events import parse_events
from tests.faults.invariants import check_ledger, piece
from tests.faults.processes import Processes, rows, submit, until_all_over
from tests.waiting import eventually


async def test_killed_workers_lose_no_job(processes: Processes) -> None:
    async with ClientSession() as http:
        accepted = await submit(http, processes, 60, delay_ms=1000)
        await eventually(lambda: _some_run(processes))

        for _ in range(3):
            processes.kill("-m worker")
            await asyncio.sleep(0.4)
            accepted += await submit(http, processes, 5, delay_ms=100)

    await check_ledger(processes, accepted)
    assert "lost" in {attempt.status for attempt in await rows(processes, RequestLogRow)}


async def _some_run(processes: Processes) -> bool:
    return "in_progress" in {attempt.status for attempt in await rows(processes, RequestLogRow)}


async def test_a_waiting_caller_gets_the_answer_of_the_next_worker(processes: Processes) -> None:
    async with ClientSession() as http:
        call = asyncio.ensure_future(chat(http, processes, delay_ms=1500, text="survived"))
        await eventually(lambda: has_attempts(processes))

        processes.kill("-m worker")
        answer = await call

    assert answer["choices"][0]["message"]["content"] == "survived"
    await check_ledger(processes)


async def has_attempts(processes: Processes) -> bool:
    return bool(await rows(processes, RequestLogRow))


async def chat(http: ClientSession, processes: Processes, **simulator: Any) -> Any:
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Hi"}], "simulator": simulator}
    async with http.post(processes.url + "/v1/chat/completions", json=body, headers=processes.headers) as response:
        return await response.json()


async def test_a_worker_that_dies_before_it_stores_the_result_repeats_the_job(processes: Processes) -> None:
    processes.arm("before_finish")
    async with ClientSession() as http:
        answer = await chat(http, processes, text="again")

    assert answer["choices"][0]["message"]["content"] == "again"
    assert not processes.is_armed("before_finish")
    await check_ledger(processes)
    assert [attempt.status for attempt in await rows(processes, RequestLogRow)] == ["lost", "succeeded"]


async def test_a_worker_that_dies_after_it_stored_the_result_does_not_repeat_the_job(processes: Processes) -> None:
    processes.arm("after_finish")
    async with ClientSession() as http:
        answer = await chat(http, processes, text="once")

    assert answer["choices"][0]["message"]["content"] == "once"
    assert not processes.is_armed("after_finish")
    await check_ledger(processes)
    assert [attempt.status for attempt in await rows(processes, RequestLogRow)] == ["succeeded"]


async def test_an_api_process_that_dies_before_it_queues_the_job_loses_nothing(processes: Processes) -> None:
    processes.arm("after_accept")
    async with ClientSession() as http:
        accepted = await submit(http, processes, 1)
        assert accepted == []
        await eventually(processes.serves)
        accepted += await submit(http, processes, 3)

    assert not processes.is_armed("after_accept")
    await check_ledger(processes, accepted)
    assert len(await rows(processes, ChargeRow)) == 4


async def test_a_stream_is_resumed_after_its_api_process_was_killed(processes: Processes) -> None:
    body = {
        "model": "simulator",
        "stream": True,
        "messages": [{"role": "user", "content": "Hi"}],
        "simulator": {"tokens": 60, "chunk_delay_ms": 30},
    }
    seen = b""
    async with ClientSession() as http:
        response = await http.post(processes.url + "/v1/chat/completions", json=body, headers=processes.headers)
        path = f"{processes.url}/v1/jobs/{response.headers['x-job-id']}/events"
        while seen.count(b"\n\n") < 5:
            seen += await response.content.readuntil(b"\n\n")

        processes.kill("-m api")
        with suppress(ClientError):
            seen += await response.read()
        await eventually(processes.serves)

        known = parse_events(seen.rpartition(b"\n\n")[0].decode() + "\n\n")
        resume = processes.headers | {"Last-Event-ID": known[-1].id or ""}
        async with http.get(path, headers=resume) as resumed:
            rest = parse_events(await resumed.text())
        async with http.get(path, headers=processes.headers) as again:
            everything = parse_events(await again.text())

    output = [event for event in known + rest if event.event is None]
    assert output == [event for event in everything if event.event is None]
    assert rest[-1].event == "job.completed"
    await check_ledger(processes)
    result = (await rows(processes, JobResultRow))[0]
    streamed = "".join(piece(event.data) for event in output)
    assert json.loads(result.body)["choices"][0]["message"]["content"] == streamed
    stored = [entry for entry in decode_frames(result.frames) if entry.kind.value == "c"]
    assert [entry.data.decode() for entry in stored] == [event.data for event in output]


async def test_a_flushed_redis_loses_no_job(processes: Processes) -> None:
    async with ClientSession() as http:
        accepted = await submit(http, processes, 400, delay_ms=500)
        waiting = asyncio.ensure_future(chat(http, processes, delay_ms=1500, text="waited"))
        stream = asyncio.ensure_future(streamed_text(http, processes))
        await asyncio.sleep(0.4)

        with Redis(unix_socket_path=str(processes.folder / "redis.sock")) as redis:
            redis.flushall()
        accepted += await submit(http, processes, 20)

        assert (await waiting)["choices"][0]["message"]["content"] == "waited"
        text, error = await stream
        assert error == "stream_restarted" or len(text.split(" ")) == 40
    await check_ledger(processes, accepted)


async def streamed_text(http: ClientSession, processes: Processes) -> tuple[str, str | None]:
    """Return the text of a stream and the code of the error that ended it, if one did."""
    body = {
        "model": "simulator",
        "stream": True,
        "messages": [{"role": "user", "content": "Hi"}],
        "simulator": {"tokens": 40, "chunk_delay_ms": 30},
    }
    async with http.post(processes.url + "/v1/chat/completions", json=body, headers=processes.headers) as response:
        events = parse_events(await response.text())
    last = {} if events[-1].data == "[DONE]" else json.loads(events[-1].data)["error"]
    chunks = [json.loads(event.data) for event in events if event.data != "[DONE]"]
    text = "".join(piece(json.dumps(chunk)) for chunk in chunks if "error" not in chunk)
    return text, last.get("code")


async def test_a_killed_redis_comes_back_and_loses_no_job(processes: Processes) -> None:
    async with ClientSession() as http:
        accepted = await submit(http, processes, 100, delay_ms=300)

        processes.kill("redis-server")
        await eventually(lambda: processes.children("redis-server"))
        while len(accepted) < 120:  # each api process answers 503 until it has Redis back
            await asyncio.sleep(0.1)
            accepted += await submit(http, processes, 120 - len(accepted))

    await check_ledger(processes, accepted)


async def test_sigterm_under_load_loses_no_job_and_no_try(processes: Processes) -> None:
    async with ClientSession() as http:
        accepted = await submit(http, processes, 40, delay_ms=800)
    await asyncio.sleep(0.2)

    assert processes.stop() == 0
    await processes.start()

    await check_ledger(processes, accepted)
    jobs = await until_all_over(processes)
    assert {job.status for job in jobs} == {"completed"}


async def test_a_killed_supervisor_takes_its_children_along(processes: Processes) -> None:
    async with ClientSession() as http:
        accepted = await submit(http, processes, 20, delay_ms=500)
    await processes.close()
    await processes.start()

    await check_ledger(processes, accepted)
