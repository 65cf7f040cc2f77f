"""Stock clients that call all the time and note everything that goes wrong."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from openai import APIError, AsyncOpenAI

from tests.faults.processes import Processes
from tests.waiting import eventually

_PATIENCE_S = 45


class Callers:
    """Some callers of each sort: plain answers, streams, and jobs that are polled.

    A failure is not tried again, unless they are patient: then plain ones leave it to the library, and the others
    repeat themselves with the same `Idempotency-Key`, until an answer is complete.
    """

    def __init__(
        self, processes: Processes, model: str, *, headers: dict[str, str] | None = None, is_patient: bool = False
    ) -> None:
        self.failures: list[str] = []
        self.counts = {"plain": 0, "stream": 0, "job": 0}
        self.accepted: set[str] = set()
        self._url, self._model, self._is_patient = processes.url, model, is_patient
        self._headers = headers or processes.headers
        key, retries = self._headers["Authorization"].removeprefix("Bearer "), 8 if is_patient else 0
        self._openai = AsyncOpenAI(base_url=self._url + "/v1", api_key=key, max_retries=retries, timeout=60)
        self._is_over = False

    async def run(self, during: Any) -> None:
        """Call until `during` is done."""
        sorts = [self._plain, self._plain, self._job, self._job, self._stream, self._stream]
        timeout = ClientTimeout(total=60)
        async with (
            self._openai,
            ClientSession(self._url, headers=self._headers, timeout=timeout) as http,
            asyncio.TaskGroup() as group,
        ):
            for sort in sorts:
                group.create_task(self._repeat(sort, http))
            try:
                await during
                await eventually(lambda: self.failures or all(self.counts[one.__name__.strip("_")] for one in sorts))
            finally:
                self._is_over = True

    async def _repeat(self, sort: Any, http: ClientSession) -> None:
        name, number = sort.__name__.strip("_"), 0
        while not self._is_over:
            number += 1
            until = time.monotonic() + (_PATIENCE_S if self._is_patient and name != "plain" else 0)
            while error := await _failure_of(sort(http, f"{name}-{id(sort)}-{number}")):
                if time.monotonic() > until:
                    self.failures.append(f"{name}: {error!r}")
                    break
                await asyncio.sleep(0.2)
            else:
                self.counts[name] += 1

    async def _plain(self, _http: ClientSession, text: str) -> None:
        made = await self._openai.chat.completions.create(
            model=self._model,
            messages=[{"role": "user", "content": text}],
            extra_body={"simulator": {"tokens": 5, "delay_ms": 100}},
        )
        self.accepted.add(made.id.replace("chatcmpl-", "job_"))

    async def _stream(self, _http: ClientSession, text: str) -> None:
        stream = await self._openai.chat.completions.create(
            model=self._model,
            messages=[{"role": "user", "content": text}],
            stream=True,
            extra_body={"simulator": {"tokens": 20, "chunk_delay_ms": 30}},
            extra_headers={"Idempotency-Key": text},
        )
        reasons = [choice.finish_reason async for chunk in stream for choice in chunk.choices]
        if reasons[-1] != "stop":
            raise OSError(f"the stream ended early: {reasons[-1]}")

    async def _job(self, http: ClientSession, text: str) -> None:
        body = {"model": self._model, "messages": [{"role": "user", "content": text}], "simulator": {"tokens": 5}}
        headers = {"Prefer": "respond-async", "Idempotency-Key": text}
        async with http.post("/v1/chat/completions", json=body, headers=headers) as response:
            if response.status != 202:
                raise OSError(f"{response.status} {await response.text()}")
            job_id = (await response.json())["id"]
        self.accepted.add(job_id)
        async with http.get(f"/v1/jobs/{job_id}/result", params={"wait": "30"}) as response:
            if response.status != 200:
                raise OSError(f"{response.status} {await response.text()}")


async def _failure_of(call: Awaitable[None]) -> Exception | None:
    try:
        await call
    except (APIError, ClientError, OSError, TimeoutError) as error:
        return error
    return None
