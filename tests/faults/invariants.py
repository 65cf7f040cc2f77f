"""The promises of README, read from the database and from Redis: whatever was killed, this holds afterwards."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from aiohttp import ClientSession
from msgspec import Struct
from redis import Redis

from shared.clock import month_start_ms, now_ms
from shared.jobs.schemas import CANCELLED, TERMINAL
from shared.jobs.tables import JobEventRow, JobResultRow, JobRow
from shared.replies.entries import Kind
from shared.replies.frames import decode_frames
from shared.request_logs.tables import RequestLogRow
from shared.usage.schemas import MICRO, NANO_PER_UNIT
from shared.usage.tables import ChargeRow, UsageRecordRow
from tests.faults.processes import Processes, rows, until_all_over
from tests.waiting import eventually


class Ledger(Struct, frozen=True):
    """All rows of the installation, once every job is over."""

    jobs: dict[str, JobRow]
    charges: dict[str, ChargeRow]
    results: dict[str, JobResultRow]
    attempts: dict[str, list[RequestLogRow]]
    """Of each job, in order."""
    records: dict[str, list[UsageRecordRow]]


async def check_ledger(
    processes: Processes,
    accepted: Iterable[str] = (),
    streamed: Mapping[str, str] | None = None,
    answered: Mapping[str, bytes] | None = None,
) -> Ledger:
    """Wait until all jobs are over, check every promise, and return the rows.

    Args:
        processes: a running installation.
        accepted: ids that callers were given.
        streamed: the text of each stream that came to its end.
        answered: the body of each plain answer.

    """
    ledger = await read_ledger(processes)
    check_jobs(ledger, accepted)
    check_attempts(ledger)
    await check_outcomes(processes, ledger)
    check_texts(ledger, streamed or {}, answered or {})
    await check_report(processes, ledger)
    await eventually(lambda: not left_in_redis(processes))
    return ledger


async def read_ledger(processes: Processes) -> Ledger:
    """Return all rows, as soon as every job is over."""
    jobs = await until_all_over(processes)
    charges = await rows(processes, ChargeRow)
    assert Counter(charge.job_id for charge in charges) == Counter(job.id for job in jobs)
    attempts, records = defaultdict(list), defaultdict(list)
    for row in sorted(await rows(processes, RequestLogRow), key=lambda row: row.attempt):
        if row.job_id is not None:  # else a refused request
            attempts[row.job_id].append(row)
    for record in sorted(await rows(processes, UsageRecordRow), key=lambda record: record.attempt):
        records[record.job_id].append(record)
    return Ledger(
        {job.id: job for job in jobs},
        {charge.job_id: charge for charge in charges},
        {result.job_id: result for result in await rows(processes, JobResultRow)},
        attempts,
        records,
    )


def statuses_of(ledger: Ledger, accepted: Iterable[str]) -> set[str]:
    """Return how the jobs ended, but for those that were withdrawn: their callers were told 503."""
    ids = {bare(job_id) for job_id in accepted}
    return {job.status for job_id, job in ledger.jobs.items() if job_id in ids or job.status != CANCELLED}


def check_jobs(ledger: Ledger, accepted: Iterable[str]) -> None:
    """No job that was given out is missing, each is over, and none was tried too often."""
    assert {bare(job_id) for job_id in accepted} <= ledger.jobs.keys()
    for job in ledger.jobs.values():
        assert job.status in TERMINAL, job
        assert job.attempt <= job.max_attempts, job


def check_attempts(ledger: Ledger) -> None:
    """Every attempt has begun, ended and been recorded once."""
    for job_id, job in ledger.jobs.items():
        attempts, records = ledger.attempts[job_id], ledger.records[job_id]
        assert [attempt.attempt for attempt in attempts] == list(range(1, job.attempt + 1)), job
        assert [(record.attempt, record.status) for record in records] == [
            (attempt.attempt, attempt.status) for attempt in attempts
        ], job
        assert all(attempt.status != "in_progress" and attempt.completed_ms is not None for attempt in attempts), job
        succeeded = [attempt.attempt for attempt in attempts if attempt.status == "succeeded"]
        assert succeeded == ([job.attempt] if job.status == "completed" else []), job


async def check_outcomes(processes: Processes, ledger: Ledger) -> None:
    """Result, event and charge are those of the state, and the charge is the cost of the attempt that counts."""
    events = await rows(processes, JobEventRow)
    assert Counter((event.job_id, event.type) for event in events) == Counter(
        (job.id, f"job.{job.status}") for job in ledger.jobs.values()
    )
    for job_id, job in ledger.jobs.items():
        charge, result = ledger.charges[job_id], ledger.results.get(job_id)
        assert charge.status == job.status, job
        assert (result is not None and result.body != b"") == (job.status == "completed"), job
        billed = [r.cost_micros for r in ledger.records[job_id] if r.status == "succeeded"]
        if job.status == "cancelled":
            billed = [r.cost_micros for r in ledger.records[job_id] if r.attempt == job.attempt]
        assert charge.amount_micros == sum(billed), job
        assert Decimal(str(json.loads(job.usage or "{}")["cost"])) * MICRO == charge.amount_micros, job


def check_texts(ledger: Ledger, streamed: Mapping[str, str], answered: Mapping[str, bytes]) -> None:
    """What callers have seen is what is stored, and the log of a stream says the same as its result."""
    for job_id, body in answered.items():
        assert (job_id, ledger.results[bare(job_id)].body) == (job_id, body)
    for job_id, text in streamed.items():
        assert (job_id, stored_text(ledger.results[bare(job_id)].body)) == (job_id, text)
    for job_id, result in ledger.results.items():
        if ledger.jobs[job_id].status == "completed" and result.frames is not None:
            entries = [entry for entry in decode_frames(result.frames) if entry.kind is Kind.CHUNK]
            last = [entry for entry in entries if entry.id.partition("-")[0] == str(ledger.jobs[job_id].attempt)]
            assert "".join(piece(entry.data) for entry in last) == stored_text(result.body), job_id


async def check_report(processes: Processes, ledger: Ledger) -> None:
    """The report of this month is the sum of the ledger, to the last digit."""
    this_month = month_start_ms(now_ms())
    async with ClientSession(processes.url, headers=processes.headers) as http, http.get("/v1/usage") as response:
        assert response.status == 200
        report = (await response.json())["current_month"]
    charges = [charge for charge in ledger.charges.values() if charge.created_ms >= this_month]
    records = [r for found in ledger.records.values() for r in found if r.created_ms >= this_month]
    users = {charge.user_id for charge in charges} | {record.user_id for record in records}
    assert len(users) == 1, "the report is of one user: the administrator, who makes all calls here"
    assert report["requests"] == len(charges)
    assert report["chat"] == sum(charge.prompt_tokens + charge.completion_tokens for charge in charges)
    assert report["cost"] == sum(charge.amount_micros for charge in charges) / MICRO
    assert report["impacts"]["kWh"] == sum(record.energy_nwh for record in records) / NANO_PER_UNIT
    carbon_ng = sum(record.operational_ng + record.embodied_ng for record in records)
    assert report["impacts"]["kgCO2eq"] == carbon_ng / NANO_PER_UNIT


def left_in_redis(processes: Processes) -> list[str]:
    """Return what a job has left behind: a place in the queue, a lease, a slot, a payload, a reply without an end.

    Cron jobs come and go, hence their keys do not count: ids of jobs begin with the digits of the time.
    """
    return [one for url in processes.redis_urls for one in _left_in(url)]


def _left_in(url: str) -> list[str]:
    with Redis.from_url(url) as redis:
        left = [f"queue: {job_id!r}" for job_id in redis.zrange("sluice:inference", 0, -1)]
        left += [f"tenant: {job_id!r}" for job_id in redis.hkeys("sluice:inference:tenants")]
        for pattern in ("arq:job:0*", "arq:in-progress:0*", "arq:retry:0*", "sluice:inference:running:*"):
            left += [key.decode() for key in redis.keys(pattern)]
        left += [key.decode() for key in redis.keys("sluice:reply:*") if redis.ttl(key) == -1]
        marks: Any = redis.zrange("arq:abort", 0, -1)
        return left + [f"abort: {job_id!r}" for job_id in marks if job_id.startswith(b"0")]


def bare(job_id: str) -> str:
    """Return the id without its prefix."""
    return job_id.rpartition("_")[2].rpartition("-")[2]


def stored_text(body: bytes) -> str:
    """Return the text of a chat completion, or of a response."""
    answer = json.loads(body)
    if answer["object"] == "response":
        return str(answer["output"][0]["content"][0]["text"])
    return str(answer["choices"][0]["message"]["content"])


def piece(chunk: str | bytes) -> str:
    """Return the text of one chunk of a streamed chat completion, or of one event of a response."""
    document = json.loads(chunk)
    if "choices" not in document:
        return str(document["delta"]) if document["type"] == "response.output_text.delta" else ""
    choices = document["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""
