"""Stock clients that call all the time and note everything that goes wrong."""

import asyncio
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from openai import APIError, AsyncOpenAI

from tests.faults.processes import Processes
from tests.waiting import eventually


class Callers:
    """Some callers of each sort: plain answers, streams, and jobs that are polled.  A failure is not tried again."""

    def __init__(self, processes: Processes, model: str, *, retries: int = 0, streams: bool = True) -> None:
        self.failures: list[str] = []
        self.counts = {"plain": 0, "stream": 0, "job": 0}
        self.accepted: set[str] = set()
        self._processes, self._model, self._streams = processes, model, streams
        key = processes.headers["Authorization"].removeprefix("Bearer ")
        self._openai = AsyncOpenAI(base_url=processes.url + "/v1", api_key=key, max_retries=retries, timeout=60)
        self._is_over = False

    async def run(self, during: Any) -> None:
        """Call until `during` is done."""
        sorts = [self._plain, self._plain, self._job, self._job]
        if self._streams:
            sorts += [self._stream, self._stream]
        timeout = ClientTimeout(total=60)
        async with (
            self._openai,
            ClientSession(self._processes.url, headers=self._processes.headers, timeout=timeout) as http,
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
            try:
                await sort(http, f"{name} {id(sort)} {number}")
                self.counts[name] += 1
            except (APIError, ClientError, OSError, TimeoutError) as error:
                self.failures.append(f"{name}: {error!r}")
                await asyncio.sleep(0.1)

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
        )
        reasons = [choice.finish_reason async for chunk in stream for choice in chunk.choices]
        if reasons[-1] != "stop":
            raise OSError(f"the stream ended early: {reasons[-1]}")

    async def _job(self, http: ClientSession, text: str) -> None:
        body = {"model": self._model, "messages": [{"role": "user", "content": text}], "simulator": {"tokens": 5}}
        async with http.post("/v1/chat/completions", json=body, headers={"Prefer": "respond-async"}) as response:
            if response.status != 202:
                raise OSError(await response.text())
            job_id = (await response.json())["id"]
        self.accepted.add(job_id)
        async with http.get(f"/v1/jobs/{job_id}/result", params={"wait": "30"}) as response:
            if response.status != 200:
                raise OSError(await response.text())
