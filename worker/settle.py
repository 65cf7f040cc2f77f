"""Store how attempts and jobs end.

One unit of the group-commit writer is one transaction:

    a job ends:      state · result · attempt · usage record · charge · terminal event · webhooks · budgets
    it runs again:   state · attempt · usage record · webhooks · carbon budgets

Each unit begins with a compare-and-set on the attempt, so a run that was overtaken changes nothing.
"""

import asyncio
from typing import Any, Final

import structlog
from msgspec import Struct, json
from redis.exceptions import RedisError

from shared import fault_points
from shared.admission.gate import Released
from shared.admission.records import CARBON, MONEY, Admission
from shared.admission.statements import emit, spend
from shared.carbon.method import METHOD
from shared.carbon.zones import FACTORS_VERSION
from shared.clock import now_ms
from shared.errors import StoredError
from shared.group_commit.units import (
    Result,
    StaleError,
    Statement,
    StoreUnavailableError,
    Unit,
    WriterBusyError,
)
from shared.group_commit.writer import GroupCommit
from shared.ids import new_ulid
from shared.jobs.ending import JobEnd, end_unit, note_job
from shared.jobs.messages import JobMessage
from shared.jobs.statements import retry_job
from shared.request_logs.statements import EndedAttempt, end_attempt
from shared.usage.statements import NewUsageRecord, insert_usage_record
from shared.webhooks.events import JOB_RETRY_SCHEDULED
from shared.webhooks.job_events import tell_change
from shared.webhooks.queue import enqueue_deliveries
from shared.webhooks.statements import deliveries_of
from worker.context import Runtime
from worker.figures import note_attempt
from worker.metering import Meter

log = structlog.get_logger()
_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0


class AttemptEnd(Struct, kw_only=True):
    """How one attempt ended."""

    number: int
    log_id: str
    """Of its row in the request log."""
    status: str
    """succeeded | failed | cancelled | lost"""
    meter: Meter
    provider_id: int | None
    provider_model: str | None
    provider_request_id: str | None = None
    http_status: int | None = None
    latency_ms: int | None = None
    ttft_ms: int | None = None
    error: StoredError | None = None
    provider_error: StoredError | None = None
    """In the words of the provider; the attempt shows it instead of `error`."""
    retry_reason: str | None = None


def job_end_unit(
    message: JobMessage, attempt_number: int, end: JobEnd, attempt: AttemptEnd | None, public_url: str
) -> Unit:
    """Return the transaction that ends a job; `attempt` is None if none was running."""
    now = now_ms()
    return (
        *end_unit(message, attempt_number, end, now, public_url),
        *(() if attempt is None else _attempt_statements(message, attempt, now)),
        *_account_statements(message, end, attempt),
    )


def retry_unit(
    message: JobMessage, attempt: AttemptEnd, next_attempt_ms: int, public_url: str, *, does_count: bool = True
) -> Unit:
    """Return the transaction that ends an attempt and plans the next one."""
    return (
        retry_job(message.job_id, attempt.number, next_attempt_ms, does_count=does_count),
        *_attempt_statements(message, attempt, now_ms()),
        *tell_change(message, JOB_RETRY_SCHEDULED, public_url),
        *_account_statements(message, None, attempt),
    )


def _attempt_statements(message: JobMessage, attempt: AttemptEnd, now: int) -> list[Statement]:
    meter, shown = attempt.meter, attempt.provider_error or attempt.error
    ended = EndedAttempt(
        log_id=attempt.log_id,
        status=attempt.status,
        completed_ms=now,
        http_status=attempt.http_status,
        provider_request_id=attempt.provider_request_id,
        latency_ms=attempt.latency_ms,
        ttft_ms=attempt.ttft_ms,
        prompt_tokens=meter.tokens.prompt,
        completion_tokens=meter.tokens.completion,
        is_estimated=meter.tokens.is_estimated,
        cost_micros=meter.cost_micros,
        error=None if shown is None else json.encode(shown).decode(),
        error_code=None if attempt.error is None else attempt.error.code,
        retry_reason=attempt.retry_reason,
    )
    return [end_attempt(ended), insert_usage_record(to_usage_record(message, attempt, now))]


def to_usage_record(message: JobMessage, attempt: AttemptEnd, now: int) -> NewUsageRecord:
    """Return the ledger's record of an attempt."""
    meter, found = attempt.meter, attempt.meter.footprint
    return NewUsageRecord(
        id=new_ulid(),
        job_id=message.job_id,
        attempt=attempt.number,
        status=attempt.status,
        created_ms=now,
        user_id=message.user_id,
        organization_id=message.organization_id,
        key_id=message.key_id,
        router_id=message.router_id,
        provider_id=attempt.provider_id,
        router_name=message.router_name,
        provider_model=attempt.provider_model,
        endpoint=message.endpoint,
        http_status=attempt.http_status,
        prompt_tokens=meter.tokens.prompt,
        completion_tokens=meter.tokens.completion,
        cached_tokens=meter.tokens.cached,
        reasoning_tokens=meter.tokens.reasoning,
        is_estimated=meter.tokens.is_estimated,
        latency_ms=attempt.latency_ms,
        ttft_ms=attempt.ttft_ms,
        cost_micros=meter.cost_micros,
        energy_nwh=meter.energy_nwh,
        energy_low_nwh=meter.energy_low_nwh,
        energy_high_nwh=meter.energy_high_nwh,
        operational_ng=meter.operational_ng,
        embodied_ng=meter.embodied_ng,
        carbon_low_ng=meter.carbon_low_ng,
        carbon_high_ng=meter.carbon_high_ng,
        water_nl=meter.water_nl,
        prefill_nwh=meter.prefill_nwh,
        zone=None if found is None else found.zone,
        zone_effective=None if found is None else found.zone_effective,
        intensity_kg_per_kwh=None if found is None else found.intensity_kg_per_kwh,
        pue=None if found is None else found.pue,
        source="none" if found is None else found.source,
        method=METHOD,
        factors=FACTORS_VERSION,
        footprint_status="unknown_params" if found is None else found.status,
        deployment=meter.deployment,
    )


async def finish(runtime: Runtime, message: JobMessage, number: int, end: JobEnd, attempt: AttemptEnd | None) -> bool:
    """Store how a job ended and release what it held; returns False if somebody else ended it first."""
    unit = job_end_unit(message, number, end, attempt, runtime.settings.effective_public_url())
    results = await commit(runtime.writer, unit)
    if results is None:
        return False
    note_job(runtime.metrics, message, end.status, end.charge_micros)
    if attempt is not None:
        _note(runtime, message, attempt)
    enqueue_deliveries(runtime.deliveries, deliveries_of(unit, results))
    fault_points.reach(runtime.settings, "before_release")
    if message.admission is not None:
        accounts = _changed_accounts(message.admission, end, attempt)
        rows = [result.rows for result in results[len(results) - len(accounts) :]]
        used = end.usage.total_tokens if number or message.admission.is_counted else message.admission.tokens
        await release(runtime, message, _released(message.admission, accounts, rows), used)
    return True


async def retry(
    runtime: Runtime, message: JobMessage, attempt: AttemptEnd, next_attempt_ms: int, *, does_count: bool = True
) -> bool:
    """Store that a job runs again; it keeps what it holds.  Returns False if somebody else changed it first."""
    public_url = runtime.settings.effective_public_url()
    unit = retry_unit(message, attempt, next_attempt_ms, public_url, does_count=does_count)
    results = await commit(runtime.writer, unit)
    if results is None:
        return False
    _note(runtime, message, attempt)
    enqueue_deliveries(runtime.deliveries, deliveries_of(unit, results))
    if message.admission is not None and (accounts := _changed_accounts(message.admission, None, attempt)):
        try:
            await runtime.gate.forget(accounts)
        except (RedisError, OSError) as error:
            log.warning("emissions_known_later", job_id=message.job_id, error=repr(error))
    return True


def _note(runtime: Runtime, message: JobMessage, attempt: AttemptEnd) -> None:
    note_attempt(runtime.metrics, message, attempt.status, attempt.provider_id, attempt.ttft_ms, attempt.meter)


def _changed_accounts(admission: Admission, end: JobEnd | None, attempt: AttemptEnd | None) -> list[str]:
    """Return the accounts that the transaction changes."""
    accounts = [] if end is None or not end.charge_micros else admission.names(MONEY)
    return accounts + ([] if attempt is None or not attempt.meter.carbon_ug else admission.names(CARBON))


def _account_statements(message: JobMessage, end: JobEnd | None, attempt: AttemptEnd | None) -> list[Statement]:
    """Return the statements on the accounts; they come last in their unit."""
    if message.admission is None:
        return []
    micros, ug = 0 if end is None else end.charge_micros, 0 if attempt is None else attempt.meter.carbon_ug
    accounts = _changed_accounts(message.admission, end, attempt)
    return [spend(name, micros) if name.startswith(MONEY) else emit(name, ug) for name in accounts]


def _released(admission: Admission, accounts: list[str], rows: list[list[tuple[Any, ...]]]) -> list[Released]:
    """Return what became of all accounts of a job, given the rows that the changed ones returned."""
    changed = {name: found[0] for name, found in zip(accounts, rows, strict=True) if found}
    return [Released(name, *changed.get(name, ())) for name in admission.accounts]


async def release(runtime: Runtime, message: JobMessage, released: list[Released], total_tokens: int) -> None:
    """Tell the admission that a job is over; what does not arrive is mended when the accounts are read again."""
    admission = message.admission
    if admission is None:
        return
    try:
        await runtime.gate.settle(message.job_id, admission, released, tokens=total_tokens - admission.tokens)
    except (RedisError, OSError) as error:
        log.warning("holds_released_later", job_id=message.job_id, error=repr(error))


async def release_again(runtime: Runtime, message: JobMessage) -> None:
    """Release what a job held that is over already: whoever ended it may have died before he told what it cost."""
    if message.admission is not None:
        released = [Released(name, is_known=False) for name in message.admission.accounts]
        await release(runtime, message, released, message.admission.tokens)


async def count_unseen(runtime: Runtime, message: JobMessage, admission: Admission) -> None:
    """Count a job that was accepted while Redis was away."""
    try:
        await runtime.gate.settle(message.job_id, admission, [], requests=1, tokens=admission.tokens)
    except (RedisError, OSError) as error:
        log.warning("job_not_counted", job_id=message.job_id, error=repr(error))


async def commit(writer: GroupCommit, unit: Unit, *, durable: bool = True) -> list[Result] | None:
    """Write the unit however long the database is away; returns None if somebody else changed the job first.

    After an outage it is not known whether the unit was written; then its compare-and-set finds itself beaten by its
    own first try, which the caller learns from the row.
    """
    pause_s = _PAUSE_S
    while True:
        try:
            return await writer.execute_many(unit, durable=durable)
        except StaleError:
            return None
        except (StoreUnavailableError, WriterBusyError) as error:
            log.warning("database_away", error=repr(error))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
