"""Traces, as a collector gets them."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from msgspec import Struct

from shared.jobs.tables import JobRow
from shared.request_logs.tables import RequestLogRow
from tests.batches import chat_line, ended, make_batch
from tests.collector import Collector, Span, serve_collector
from tests.conftest import make_settings
from tests.faults.processes import free_port
from tests.installation import Installation, open_installation
from tests.providers import ScriptedProvider
from tests.receivers import Receiver
from tests.servers import RedisServer
from tests.webhooks import LOOPBACK, add_endpoint, until

TRACE = "a3c1d4e2f5b60718293a4b5c6d7e8f90"
CALLER = "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=opaque"}
SERVER, SEND, PROCESS = "POST /v1/chat/completions", "send sluice:inference", "process sluice:inference"


class Traced(Struct, frozen=True):
    """An installation and the collector of its spans."""

    sluice: Installation
    collector: Collector


@pytest_asyncio.fixture
async def traced(tmp_path: Path, redis_server: RedisServer, prepared_url: str) -> AsyncIterator[Traced]:
    async with serve_collector() as collector:
        settings = make_settings(
            tmp_path, redis_server, database_url=prepared_url, trace_url=collector.url, trace_providers=True,
            trace_headers="x-key=secret of the collector", **LOOPBACK,
        )  # fmt: skip
        async with open_installation(settings) as sluice:
            yield Traced(sluice, collector)


def one(spans: list[Span], name: str) -> Span:
    (found,) = [span for span in spans if span.name == name]
    return found


async def test_a_refused_request_is_logged_with_its_trace(traced: Traced, sluice: Installation) -> None:
    for installation, name in ((traced.sluice, "nobody"), (sluice, "nobody")):
        await installation.chat(model=name, headers=HEADERS)
        await installation.chat(model=name)

    server, *_ = await traced.collector.until(SERVER, trace=TRACE)

    known, new = [row.trace_id for row in await traced.sluice.rows(RequestLogRow)]
    assert (server.trace, known) == (TRACE, TRACE)
    assert new not in (None, TRACE)
    assert [row.trace_id for row in await sluice.rows(RequestLogRow)] == [TRACE, None]


async def test_a_chat_is_one_tree_in_the_trace_of_its_caller(
    traced: Traced, provider: ScriptedProvider, receiver: Receiver
) -> None:
    sluice = traced.sluice
    await sluice.add_model("known", provider.url)
    endpoint = await add_endpoint(sluice, receiver)

    answer = await sluice.chat(model="known", headers=HEADERS)
    await until(sluice, endpoint, "delivered")
    spans = await traced.collector.until(SERVER, SEND, PROCESS, "chat upstream-model", "POST webhook", trace=TRACE)

    server, send, process = one(spans, SERVER), one(spans, SEND), one(spans, PROCESS)
    call, webhook = one(spans, "chat upstream-model"), one(spans, "POST webhook")
    assert [span.parent for span in (server, send, process, call, webhook)] == [
        CALLER, server.id, send.id, process.id, send.id,
    ]  # fmt: skip
    assert [span.kind for span in (server, send, process, call, webhook)] == [
        "server", "producer", "consumer", "client", "client",
    ]  # fmt: skip
    assert [span.service for span in (server, send, process)] == ["sluice-api", "sluice-api", "sluice-worker"]
    assert {span.state for span in spans} == {"vendor=opaque"}
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["http.route"] == "/v1/chat/completions"
    assert process.attributes["messaging.message.id"] == answer.headers["x-job-id"]
    assert (process.attributes["sluice.attempt"], process.attributes["sluice.attempt.status"]) == (1, "succeeded")
    assert receiver.received[0].headers["traceparent"] == f"00-{TRACE}-{webhook.id}-01"
    assert provider.headers[-1]["traceparent"] == f"00-{TRACE}-{call.id}-01"
    assert provider.headers[-1]["tracestate"] == "vendor=opaque"
    assert traced.collector.headers[0]["x-key"] == "secret of the collector"
    job = await sluice.job(answer.headers["x-job-id"])
    assert job["trace_id"] == TRACE


async def test_a_call_of_a_provider_has_the_attributes_of_the_conventions(
    traced: Traced, provider: ScriptedProvider
) -> None:
    await traced.sluice.add_model("known", provider.url)

    answer = await (await traced.sluice.chat(model="known")).json()
    streamed = await traced.sluice.chat(model="known", stream=True)
    await streamed.read()
    spans = await traced.collector.until("chat upstream-model", "chat upstream-model")

    whole, stream = sorted(
        (span for span in spans if span.name == "chat upstream-model"),
        key=lambda span: "gen_ai.request.stream" in span.attributes,
    )
    assert whole.attributes["gen_ai.operation.name"] == "chat"
    assert whole.attributes["gen_ai.provider.name"] == "openai"
    assert whole.attributes["gen_ai.request.model"] == "upstream-model"
    assert whole.attributes["gen_ai.response.model"]
    assert whole.attributes["gen_ai.response.finish_reasons"] == [answer["choices"][0]["finish_reason"]]
    assert whole.attributes["gen_ai.usage.input_tokens"] == answer["usage"]["prompt_tokens"]
    assert whole.attributes["gen_ai.usage.output_tokens"] == answer["usage"]["completion_tokens"]
    assert whole.attributes["server.address"] == "127.0.0.1"
    assert stream.attributes["gen_ai.request.stream"] is True
    assert stream.attributes["gen_ai.response.time_to_first_chunk"] >= 0
    assert stream.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert stream.attributes["gen_ai.usage.output_tokens"] > 0
    assert not whole.failed
    assert whole.parent


async def test_attempts_that_fail_are_in_the_same_trace_and_say_why(traced: Traced) -> None:
    answer = await traced.sluice.chat(simulator={"fail": "500", "fail_attempts": 1}, headers=HEADERS)
    spans = await traced.collector.until(SERVER, PROCESS, PROCESS, trace=TRACE)

    assert answer.status == 200
    attempts = {span.attributes["sluice.attempt"]: span for span in spans if span.name == PROCESS}
    assert {number: span.failed for number, span in attempts.items()} == {1: True, 2: False}
    assert attempts[1].parent == attempts[2].parent == one(spans, SEND).id
    calls = {span.parent: span for span in spans if span.name == "chat simulator"}
    assert calls[attempts[1].id].attributes["error.type"] == "500"
    assert "error.type" not in calls[attempts[2].id].attributes


async def test_refusals_and_errors_are_told(traced: Traced) -> None:
    await traced.sluice.chat(model="nobody's", headers=HEADERS)
    await traced.sluice.chat(simulator={"fail": "400"})
    spans = await traced.collector.until(SERVER, SERVER, PROCESS)

    refused = one(traced.collector.of_trace(TRACE), SERVER)
    assert (refused.attributes["http.response.status_code"], refused.failed) == (404, False)
    assert one(spans, PROCESS).failed
    assert one(spans, "chat simulator").attributes["error.type"] == "400"


async def test_nothing_of_prompts_and_answers_is_told(traced: Traced) -> None:
    for stream in (False, True):
        answer = await traced.sluice.chat("zebra-in-prompt", stream=stream, simulator={"text": "zebra-in-answer"})
        assert "zebra-in-answer" in await answer.text()
    await traced.sluice.chat("zebra-in-prompt", simulator={"fail": "400"})
    spans = await traced.collector.until(PROCESS, PROCESS, PROCESS, "chat simulator", "chat simulator")

    assert not [span for span in spans if "zebra" in span.raw]


async def test_items_of_a_batch_have_traces_that_are_linked_to_its_own(traced: Traced, receiver: Receiver) -> None:
    endpoint = await add_endpoint(traced.sluice, receiver, "batch.completed")
    batch = await make_batch(traced.sluice, chat_line("a"), chat_line("b"), headers=HEADERS)
    await ended(traced.sluice, batch["id"])
    await until(traced.sluice, endpoint, "delivered")
    spans = await traced.collector.until(SEND, SEND, PROCESS, PROCESS, "chat simulator", "chat simulator")

    sent = [span for span in spans if span.name == SEND]
    assert [span.links for span in sent] == [[TRACE], [TRACE]]
    assert [span.parent for span in sent] == ["", ""]
    assert {span.attributes["sluice.batch.id"] for span in sent} == {batch["id"]}
    run = {span.trace: span.parent for span in spans if span.name == PROCESS}
    assert run == {span.trace: span.id for span in sent}
    assert {row.trace_id for row in await traced.sluice.rows(JobRow)} == set(run)
    assert len(run) == 2
    webhooks = await traced.collector.until("POST webhook", trace=TRACE)
    assert one(webhooks, "POST webhook").parent == one(webhooks, "POST /v1/batches").id


async def test_a_job_that_is_sent_again_is_linked_to_the_first_one(traced: Traced) -> None:
    failed = await traced.sluice.chat(simulator={"fail": "400"}, headers=HEADERS)
    await traced.sluice.post(f"/v1/jobs/{failed.headers['x-job-id']}/retry")
    spans = await traced.collector.until(SEND, SEND)

    again = next(span for span in spans if span.name == SEND and span.trace != TRACE)
    assert again.links == [TRACE]


async def test_the_caller_decides_whether_its_trace_is_kept(traced: Traced) -> None:
    answer = await traced.sluice.chat(headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
    await traced.sluice.chat(headers={"traceparent": "what is this"})
    spans = await traced.collector.until(SERVER, SEND, PROCESS)

    assert (await traced.sluice.job(answer.headers["x-job-id"]))["trace_id"] == TRACE
    assert TRACE not in {span.trace for span in spans}


async def test_probes_are_not_traced(traced: Traced) -> None:
    await traced.sluice.get("/health")
    await traced.sluice.get("/metrics")
    await traced.sluice.get("/nowhere")
    spans = await traced.collector.until("GET")

    assert [span.name for span in spans] == ["GET"]


async def test_providers_are_told_of_a_trace_only_if_the_settings_say_so(
    tmp_path: Path, redis_server: RedisServer, provider: ScriptedProvider
) -> None:
    async with serve_collector() as collector:
        settings = make_settings(tmp_path, redis_server, trace_url=collector.url)
        async with open_installation(settings) as sluice:
            await sluice.add_model("known", provider.url)
            await sluice.chat(model="known", headers=HEADERS)
            await collector.until(PROCESS, trace=TRACE)

    assert "traceparent" not in provider.headers[-1]
    assert "tracestate" not in provider.headers[-1]


async def test_a_share_of_the_traces_that_begin_here_is_kept(tmp_path: Path, redis_server: RedisServer) -> None:
    async with serve_collector() as collector:
        settings = make_settings(tmp_path, redis_server, trace_url=collector.url, trace_sample_ratio=0.0)
        async with open_installation(settings) as sluice:
            await sluice.chat()
            await sluice.chat(headers=HEADERS)
            await collector.until(SERVER, SEND, PROCESS)

    assert {span.trace for span in collector.spans} == {TRACE}


async def test_a_collector_that_is_away_harms_no_request(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = make_settings(tmp_path, redis_server, trace_url=f"http://127.0.0.1:{free_port()}/v1/traces")
    async with open_installation(settings) as sluice:
        answers = [await sluice.chat() for _ in range(5)]

    assert [answer.status for answer in answers] == [200] * 5


async def test_without_the_setting_nothing_is_told_to_anybody(
    told: Installation, provider: ScriptedProvider, receiver: Receiver
) -> None:
    await told.add_model("known", provider.url)
    endpoint = await add_endpoint(told, receiver)

    answer = await told.chat(model="known", headers=HEADERS)
    await until(told, endpoint, "delivered")

    assert (told.state.tracer, told.runtime and told.runtime.tracer) == (None, None)
    assert "traceparent" not in provider.headers[-1]
    assert "traceparent" not in receiver.received[0].headers
    job = await told.job(answer.headers["x-job-id"])
    assert job["trace_id"] == TRACE
    (row,) = await told.rows(JobRow)
    assert (row.traceparent, row.tracestate) == (HEADERS["traceparent"], HEADERS["tracestate"])


def test_without_the_setting_nothing_of_opentelemetry_is_imported() -> None:
    program = (
        "import asyncio, sys, api.__main__, worker.__main__\n"
        "from shared.settings import Settings\n"
        "from shared.tracing import open_tracer\n"
        "assert asyncio.run(open_tracer(Settings(), 'api').__aenter__()) is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
