"""Workers are killed while they make responses: what was sent stays, and the stream goes on."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientSession
from openai import AsyncOpenAI

from shared.request_logs.tables import RequestLogRow
from tests.events import parse_events
from tests.faults.invariants import check_ledger
from tests.faults.processes import Processes, rows
from tests.installation import ADMIN_KEY

WORDS = " ".join(f"word{number}" for number in range(60))
BODY = {"model": "simulator", "input": "Hi", "stream": True, "simulator": {"text": WORDS, "chunk_delay_ms": 30}}


@pytest.mark.parametrize("background", [False, True])
async def test_a_stream_goes_on_after_its_worker_was_killed(processes: Processes, background: bool) -> None:
    seen = b""
    async with ClientSession() as http:
        url = processes.url + "/v1/responses"
        response = await http.post(url, json=BODY | {"background": background}, headers=processes.headers)
        while seen.count(b"output_text.delta\n") < 10:
            seen += await response.content.readuntil(b"\n\n")
        processes.kill("-m worker")
        events = documents(seen + await response.read())

        response_id = events[0]["response"]["id"]
        async with http.get(f"{url}/{response_id}?stream=true", headers=processes.headers) as again:
            log = documents(await again.read())
        async with http.get(f"{url}/{response_id}?stream=true&starting_after=9", headers=processes.headers) as again:
            rest = documents(await again.read())

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (log, rest) == (events, events[10:])
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [(event["output_index"], event["item"]["status"]) for event in done] == [(0, "incomplete"), (1, "completed")]
    assert WORDS.startswith(done[0]["item"]["content"][0]["text"])
    assert text_of(events, 0) == done[0]["item"]["content"][0]["text"]
    assert text_of(events, 1) == WORDS
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["output"] == [done[1]["item"]]
    await check_ledger(processes, [response_id])
    assert [attempt.status for attempt in await rows(processes, RequestLogRow)] == ["lost", "succeeded"]


def documents(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in parse_events(raw.decode())]


def text_of(events: list[dict[str, Any]], place: int) -> str:
    return "".join(event.get("delta", "") for event in events if event.get("output_index") == place)


async def test_the_stock_client_reads_what_two_attempts_sent(processes: Processes) -> None:
    async with AsyncOpenAI(base_url=f"{processes.url}/v1", api_key=ADMIN_KEY) as client:
        extra = {"simulator": BODY["simulator"]}
        async with client.responses.stream(model="simulator", input="Hi", background=True, extra_body=extra) as stream:
            count = 0
            async for event in stream:
                count += event.type == "response.output_text.delta"
                if count == 10:
                    processes.kill("-m worker")
                    count += 1
            final = await stream.get_final_response()
        async with client.responses.stream(response_id=final.id) as again:
            replayed = await again.get_final_response()

    assert final.output_text == replayed.output_text == WORDS


async def test_responses_in_the_background_outlive_workers(processes: Processes) -> None:
    async with ClientSession() as http:

        async def submit(number: int) -> str:
            body = {"model": "simulator", "input": f"Number {number}", "background": True}
            body |= {"simulator": {"tokens": 10, "chunk_delay_ms": 60}}
            async with http.post(processes.url + "/v1/responses", json=body, headers=processes.headers) as response:
                return str((await response.json())["id"])

        accepted = list(await asyncio.gather(*(submit(number) for number in range(40))))
        await asyncio.sleep(0.3)
        processes.kill("-m worker")

    ledger = await check_ledger(processes, accepted)
    assert {job.status for job in ledger.jobs.values()} == {"completed"}


async def test_a_flushed_redis_takes_no_event(processes: Processes) -> None:
    seen = b""
    async with ClientSession() as http:
        url = processes.url + "/v1/responses"
        response = await http.post(url, json=BODY | {"background": True}, headers=processes.headers)
        while seen.count(b"output_text.delta\n") < 10:
            seen += await response.content.readuntil(b"\n\n")
        with processes.redis() as redis:
            redis.flushall()
        events = documents(seen + await response.read())

        async with http.get(f"{url}/{events[0]['response']['id']}?stream=true", headers=processes.headers) as again:
            log = documents(await again.read())

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert log == events
    assert events[-1]["response"]["output"][-1]["content"][0]["text"] == WORDS
    await check_ledger(processes)


async def test_a_reader_whose_events_were_lost_is_told_the_end(processes: Processes) -> None:
    seen = b""
    async with ClientSession() as http:
        url = processes.url + "/v1/responses"
        response = await http.post(url, json=BODY | {"background": True}, headers=processes.headers)
        while seen.count(b"output_text.delta\n") < 10:
            seen += await response.content.readuntil(b"\n\n")
        processes.kill("-m worker")
        with processes.redis() as redis:
            redis.flushall()
        events = documents(seen + await response.read())

        async with http.get(f"{url}/{events[0]['response']['id']}?stream=true", headers=processes.headers) as again:
            log = documents(await again.read())

    for found in (events, log):
        assert [event["sequence_number"] for event in found] == list(range(len(found)))
        assert found[-1]["response"]["output"][-1]["content"][0]["text"] == WORDS
    await check_ledger(processes)
