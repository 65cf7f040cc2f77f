"""Callers of all sorts at once, who behave as good clients do and note everything they were promised.

Who is refused tries again, who loses a stream resumes it, and nobody is left waiting: that would fail the test.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Literal

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from msgspec import Struct

from tests.events import Event, parse_events
from tests.faults.invariants import piece
from tests.faults.processes import Processes

_PAUSE_S: Final = 0.1
_LONGEST_CALL_S: Final = 40.0


class Call(Struct, frozen=True):
    """One chat and what the simulator shall do with it."""

    number: int
    kind: Literal["plain", "async", "stream"]
    simulator: dict[str, Any]


def random_calls(dice: random.Random, count: int, *, failing: float = 0.0) -> list[Call]:
    """Return a mix of chats that the dice decide; that share of them fails at first."""
    calls = []
    for number in range(count):
        kind = dice.choice(("plain", "async", "stream"))
        simulator: dict[str, Any] = {"tokens": dice.randint(3, 25), "delay_ms": dice.choice((0, 20, 200, 600))}
        if kind == "stream":
            simulator["chunk_delay_ms"] = dice.choice((0, 10, 40))
        if dice.random() < failing:
            simulator |= {"fail": "500", "fail_attempts": 1}
        calls.append(Call(number, kind, simulator))
    return calls


class Traffic:
    """Callers of one model and what they have seen."""

    def __init__(self, processes: Processes, model: str) -> None:
        self.accepted: set[str] = set()
        self.answered: dict[str, bytes] = {}
        """Job → body of a plain answer."""
        self.streamed: dict[str, str] = {}
        """Job → text of a stream that came to its end, resumed or not."""
        self.refusals: list[tuple[int, str]] = []
        """Status and code of each refusal before a job existed."""
        self._processes = processes
        self._model = model

    async def run(self, calls: Sequence[Call], *, callers: int) -> None:
        """Make the calls, so many at the same time."""
        waiting = list(reversed(calls))
        timeout = ClientTimeout(total=_LONGEST_CALL_S)
        async with ClientSession(self._processes.url, headers=self._processes.headers, timeout=timeout) as http:

            async def caller() -> None:
                while waiting:
                    await self._insist(http, waiting.pop())

            async with asyncio.TaskGroup() as group:
                for _ in range(callers):
                    group.create_task(caller())

    async def _insist(self, http: ClientSession, call: Call) -> None:
        """Make the call until a job has come of it."""
        while not await self._make(http, call):
            await asyncio.sleep(_PAUSE_S)

    async def _make(self, http: ClientSession, call: Call) -> bool:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": f"number {call.number}"}],
            "stream": call.kind == "stream",
            "simulator": call.simulator,
        }
        headers = {"Prefer": "respond-async"} if call.kind == "async" else {}
        try:
            async with http.post("/v1/chat/completions", json=body, headers=headers) as response:
                return await self._read(http, call, response)
        except TimeoutError as error:
            raise AssertionError(f"{call} was left waiting") from error
        except (ClientError, OSError):
            return False  # no id was given out; there may be a job all the same

    async def _read(self, http: ClientSession, call: Call, response: ClientResponse) -> bool:
        """Take the answer; returns whether there is a job."""
        job_id = response.headers.get("x-job-id")
        if job_id is None:
            error = (await response.json())["error"]
            assert response.status == 503, error
            assert int(response.headers["retry-after"]) >= 1
            self.refusals.append((response.status, error["code"]))
            return False
        self.accepted.add(job_id)
        if call.kind == "stream" and response.status == 200:
            await self._read_stream(http, job_id, response)
        elif call.kind == "plain" and response.status == 200:
            with suppress(ClientError):
                self.answered[job_id] = await response.read()
        return True

    async def _read_stream(self, http: ClientSession, job_id: str, response: ClientResponse) -> None:
        """Read a plain stream; if it is cut, go on with the events of the job."""
        seen = b""
        with suppress(ClientError):
            async for data in response.content.iter_any():
                seen += data
        events = whole_events(seen)
        if not events or (events[-1].data != "[DONE]" and "error" not in json.loads(events[-1].data)):
            events = await self._resume(http, job_id, events)
        if events[-1].data == "[DONE]" or events[-1].event == "job.completed":
            self.streamed[job_id] = text_of(events)

    async def _resume(self, http: ClientSession, job_id: str, events: list[Event]) -> list[Event]:
        """Return all events of the job behind those that were seen, too."""
        while not events or not (events[-1].event or "").startswith(("job.comp", "job.fail", "job.canc", "job.exp")):
            headers = {"Last-Event-ID": events[-1].id or ""} if events else {}
            seen = b""
            with suppress(ClientError, OSError):
                async with http.get(f"/v1/jobs/{job_id}/events", headers=headers) as response:
                    assert response.status in (200, 503), await response.text()
                    async for data in response.content.iter_any():
                        seen += data
            events = events + whole_events(seen)
            await asyncio.sleep(_PAUSE_S)
        return events


def whole_events(seen: bytes) -> list[Event]:
    """Return the events that came whole."""
    return parse_events(seen.rpartition(b"\n\n")[0].decode() + "\n\n")


def text_of(events: Sequence[Event]) -> str:
    """Return the text of the last attempt."""
    pieces: list[str] = []
    for event in events:
        if event.event == "job.restarted":
            pieces.clear()
        elif event.event is None and event.data != "[DONE]":
            pieces.append(piece(event.data))
    return "".join(pieces)


async def chat(http: ClientSession, processes: Processes, *, model: str = "simulator", **simulator: Any) -> Any:
    """Return the answer to a plain chat."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "simulator": simulator}
    async with http.post(processes.url + "/v1/chat/completions", json=body, headers=processes.headers) as response:
        return await response.json()


async def open_stream(
    http: ClientSession, processes: Processes, *, model: str = "simulator", **simulator: Any
) -> ClientResponse:
    """Return a streamed chat as soon as its headers are there."""
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": model, "stream": True, "messages": messages, "simulator": simulator}
    return await http.post(processes.url + "/v1/chat/completions", json=body, headers=processes.headers)


async def refusal(processes: Processes) -> tuple[int, str]:
    """Return status and code of the answer to a chat that is to be refused."""
    _, refused = await try_to_submit(processes)
    assert refused is not None
    return refused


async def try_to_submit(processes: Processes) -> tuple[str | None, tuple[int, str] | None]:
    """Post an asynchronous chat; returns the id, or status and code of a refusal, which says when to come back."""
    body = {"model": "simulator", "messages": [{"role": "user", "content": "Hi"}]}
    headers = processes.headers | {"Prefer": "respond-async"}
    timeout = ClientTimeout(total=_LONGEST_CALL_S)
    async with (
        ClientSession(processes.url, headers=headers, timeout=timeout) as http,
        http.post("/v1/chat/completions", json=body) as response,
    ):
        answer = await response.json()
        if response.status == 202:
            return answer["id"], None
        assert int(response.headers["retry-after"]) >= 1
        assert "x-job-id" not in response.headers
        return None, (response.status, answer["error"]["code"])
