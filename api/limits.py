"""Whether a request may become a job: budgets, rate limits and room in the queue, decided in one round trip.

Refusals in the order of their checks: 400 `insufficient_budget`, 429 `carbon_budget_exceeded`, 429
`rate_limit_exceeded`, 429 `queue_full`.  A refused request uses nothing.  Callers without any of these cost no round
trip.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING
from functools import lru_cache
from math import ceil
from typing import Final

from msgspec import Struct

from api.call import Draft
from api.keys import Caller
from api.limit_headers import set_budget_headers, set_limit_headers
from shared.admission.errors import CarbonBudgetExceededError, InsufficientBudgetError, QueueFullError
from shared.admission.gate import Decision, Demand, Limits
from shared.admission.records import (
    CARBON,
    MONEY,
    QUEUE,
    Admission,
    carbon_account,
    money_account,
    organization_of,
    queue_account,
    user_of,
    windows_key,
)
from shared.carbon.footprint import Profile, compute_footprint
from shared.clock import now_ms
from shared.directory import Router
from shared.errors import ApiError, RateLimitError
from shared.metrics import ADMISSIONS
from shared.settings import Settings

REFUSALS: Final = (InsufficientBudgetError, CarbonBudgetExceededError, RateLimitError, QueueFullError)
"""Of `admit`, beside 503."""
_TEMPLATE_TOKENS: Final = 1024
"""What a chat template may add to the text of a request."""
_UG_PER_KG: Final = 10**9
_RULES: Final = {
    "rpm": "{limit} requests per minute exceeded (remaining: {left}).",
    "rpd": "{limit} requests per day exceeded (remaining: {left}).",
    "tpm": "{limit} input tokens per minute exceeded (remaining: {left}).",
    "tpd": "{limit} input tokens per day exceeded (remaining: {left}).",
}
_NO_LIMITS: Final = Limits(windows="", tokens=0, values=(None, None, None, None))


class Estimate(Struct, frozen=True, kw_only=True):
    """What a request may use."""

    prompt_tokens: int
    """About."""
    output_tokens: int
    """At most, over all answers; 0 if the caller sets no maximum."""
    answers: int = 1
    """0 if there is no output to pay for."""
    prompts: int = 1
    """How many there are; each may fill the model's context."""
    repeated_bytes: int = 0
    """Of the request, which the model reads again."""
    file_tokens: int = 0
    """What a file may add to the prompt, at most about; providers decide, and holds have to cover it."""


async def admit(draft: Draft, router: Router, estimate: Estimate, job_id: str) -> Admission | None:
    """Count the request and hold what it may cost; None if nothing limits the caller.

    Raises:
        InsufficientBudgetError: no money is left.
        CarbonBudgetExceededError: the request may emit more than is left of the month's budget.
        RateLimitError: a limit of the caller's role on this router is reached.
        QueueFullError: the tenant has too many unfinished jobs.
        QueueUnavailableError: Redis is away.
        StorageUnavailableError: Redis does not know a budget, and the database is away.

    """
    if is_unlimited(draft.caller, draft.state.settings, router):
        return None
    limits, demands = _limits(draft, router, estimate), _demands(draft, router, estimate)
    decision = await draft.state.admissions.decide(job_id, limits, demands)
    draft.state.metrics.count(ADMISSIONS, decision.verdict)
    set_limit_headers(draft.headers, limits, decision)
    set_budget_headers(draft.headers, demands, decision)
    if decision.verdict != "ok":
        raise _refusal(decision, limits, demands)
    return Admission(
        admitted_ms=decision.at_ms,
        windows=limits.windows,
        tokens=estimate.prompt_tokens,
        accounts=tuple(demand.account for demand in demands),
        held_micros=decision.held_micros if any(demand.kind == MONEY for demand in demands) else None,
        held_ug=next((demand.amount for demand in demands if demand.kind == CARBON), 0),
    )


def is_unlimited(caller: Caller, settings: Settings, router: Router) -> bool:
    """Return whether nothing limits this caller on this router, whatever he asks for."""
    found, budgets = caller.limits.get(router.id), caller.budgets
    has_money = budgets.user_has_money or budgets.organization_has_money
    has_carbon = budgets.user_carbon_ug is not None or budgets.organization_carbon_ug is not None
    is_capped = not caller.is_master and bool(settings.tenant_max_jobs or settings.tenant_max_tokens)
    is_open = caller.is_master or (found is not None and found.is_open)
    return is_open and not (has_money and not router.is_free) and not has_carbon and not is_capped


def admit_unseen(draft: Draft, router: Router, estimate: Estimate) -> Admission | None:
    """Return the admission of a job that is accepted while Redis is away; it is counted when it starts."""
    limits = _limits(draft, router, estimate)
    if not limits.windows:
        return None
    return Admission(admitted_ms=now_ms(), windows=limits.windows, tokens=limits.tokens, is_counted=False)


def _limits(draft: Draft, router: Router, estimate: Estimate) -> Limits:
    found = draft.caller.limits.get(router.id)
    if found is None or found.is_open:
        return _NO_LIMITS
    return Limits(
        windows=windows_key(draft.caller.user_id, router.id),
        tokens=estimate.prompt_tokens,
        values=(found.rpm, found.rpd, found.tpm, found.tpd),
    )


def _demands(draft: Draft, router: Router, estimate: Estimate) -> list[Demand]:
    caller, settings, demands = draft.caller, draft.state.settings, list[Demand]()
    budgets = caller.budgets
    owners = [(user_of(caller.user_id), budgets.user_has_money, budgets.user_carbon_ug)]
    if caller.organization_id is not None:
        owner = organization_of(caller.organization_id)
        owners.append((owner, budgets.organization_has_money, budgets.organization_carbon_ug))
    if not router.is_free and any(has_money for _, has_money, _ in owners):
        micros = most_micros(draft, router, estimate)
        paying = [money_account(owner) for owner, has_money, _ in owners if has_money]
        demands += [Demand(account=account, kind=MONEY, amount=micros) for account in paying]
    if any(carbon_ug is not None for *_, carbon_ug in owners):
        emitted_ug, now = most_ug(draft, router, estimate), now_ms()
        demands += [
            Demand(account=carbon_account(owner, now), kind=CARBON, amount=emitted_ug, limit=carbon_ug)
            for owner, _, carbon_ug in owners
            if carbon_ug is not None
        ]
    if not caller.is_master and (settings.tenant_max_jobs or settings.tenant_max_tokens):
        demands.append(
            Demand(
                account=queue_account(owners[-1][0]),
                kind=QUEUE,
                amount=estimate.prompt_tokens + estimate.output_tokens,
                limit=settings.tenant_max_jobs,
                other_limit=settings.tenant_max_tokens,
            )
        )
    return demands


def most_micros(draft: Draft, router: Router, estimate: Estimate) -> int:
    """Return the most a request can cost: no token is shorter than a byte."""
    prompt = len(draft.body) + estimate.repeated_bytes + estimate.file_tokens + _TEMPLATE_TOKENS
    if router.max_context_length is not None:
        prompt = min(prompt, router.max_context_length * estimate.prompts)
    exact = prompt * router.price_prompt + _most_output_tokens(draft, router, estimate) * router.price_completion
    return int(exact.to_integral_value(ROUND_CEILING))


def most_ug(draft: Draft, router: Router, estimate: Estimate) -> int:
    """Return the most CO2e a request is estimated to cause, in µg, at the worst of the router's providers."""
    tokens = _most_output_tokens(draft, router, estimate)
    return max(_ug_of(provider.profile, tokens) for provider in router.providers)


@lru_cache(maxsize=10_000)
def _ug_of(profile: Profile, tokens: int) -> int:
    found = compute_footprint(profile, tokens, None)
    return ceil((found.operational_kg + found.embodied_kg) * _UG_PER_KG)


def _most_output_tokens(draft: Draft, router: Router, estimate: Estimate) -> int:
    if estimate.output_tokens:
        return estimate.output_tokens
    return (router.max_context_length or draft.state.settings.assumed_output_tokens) * estimate.answers


def _refusal(decision: Decision, limits: Limits, demands: Sequence[Demand]) -> ApiError:
    if decision.verdict == "budget":
        return InsufficientBudgetError()
    if decision.verdict == "carbon":
        asked = next(
            (demand, left)
            for demand, left in zip(demands, decision.left, strict=True)
            if demand.kind == CARBON and demand.amount > left
        )
        return CarbonBudgetExceededError(
            left_ug=asked[1], asked_ug=asked[0].amount, retry_after_s=_seconds_to_next_month(now_ms())
        )
    if decision.verdict == "queue":
        return QueueFullError()
    index = list(_RULES).index(decision.verdict)
    limit, use = limits.values[index] or 0, decision.uses[index]
    text = _RULES[decision.verdict].format(limit=limit, left=max(limit - use.used, 0))
    return RateLimitError(text, retry_after_s=ceil(use.reset_ms / 1000))


def _seconds_to_next_month(at_ms: int) -> int:
    now = datetime.fromtimestamp(at_ms / 1000, UTC)
    next_month = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    return ceil((next_month - now).total_seconds())
