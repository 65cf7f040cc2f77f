"""/v2/inference: subscriptions of Vultr's API.

A subscription is a key of its creator with a label, the dialect `vultr` and a usage of its own.  Its secret is stored
twice: as a hash, by which calls are recognized, and encrypted, since the API shows it.  Each look at it is audited.
"""

import datetime as dt
import re
from decimal import Decimal
from typing import Final
from uuid import uuid4

from cryptography.exceptions import InvalidTag
from msgspec import json

from api.audit import audit
from api.call import Call
from api.http import Routes
from api.new_keys import new_key_row, to_token
from api.once import keep_answer
from api.trim import trimmed
from shared.clock import month_start_ms, now_ms
from shared.dialects import VULTR
from shared.errors import InvalidCursorError, NotFoundError
from shared.keys.queries import insert_key
from shared.keys.schemas import SUBSCRIPTION_KEY
from shared.keys.tables import KeyRow
from shared.subscriptions.queries import SubscriptionNotFoundError, delete_key_and_belongings, get_subscription
from shared.subscriptions.queries import list_subscriptions as query_subscriptions
from shared.subscriptions.schemas import (
    AudioUsage,
    ChatUsage,
    ImageUsage,
    ListSubscriptionsQuery,
    ModelTokens,
    MonthsByModel,
    PageLinks,
    PageMeta,
    Subscription,
    SubscriptionPage,
    SubscriptionReply,
    SubscriptionRequest,
    SubscriptionUsage,
    SubscriptionUsageReply,
)
from shared.usage.queries import get_month_usage
from shared.usage.schemas import MICRO, MonthUsage
from shared.users.queries import get_user

routes = Routes("Vultr: subscriptions", VULTR)
_PATH: Final = "/v2/inference"
_ONE: Final = _PATH + "/{subscription_id}"
_SCOPES: Final = json.encode(["collections", "inference", "jobs"]).decode()
"""Everything but the account and the administration."""
_CURSOR: Final = re.compile(r"(next|prev)__([0-9]{1,18})")


@routes.get(_PATH, raises=(InvalidCursorError,))
async def list_subscriptions(call: Call, query: ListSubscriptionsQuery) -> SubscriptionPage:
    """List one's subscriptions, oldest first; an administrator sees all."""
    found = _CURSOR.fullmatch(query.cursor or "next__0")
    if found is None:
        raise InvalidCursorError("The cursor is none of this list.", param="cursor")
    place = {"after": int(found[2])} if found[1] == "next" else {"before": int(found[2])}
    async with call.state.database.transaction() as session:
        rows, total, has_older, has_newer = await query_subscriptions(
            session, _owner(call), query.label, limit=query.per_page, **place
        )
        is_masked = call.state.settings.mask_subscription_keys
        for row in () if is_masked else rows:
            audit(session, call, "subscription.show", "subscription", row.id or 0, None, None)
        shown = [_to_subscription(call, row, is_masked=is_masked) for row in rows]
        links = PageLinks(
            next=f"next__{rows[-1].id}" if rows and has_newer else "",
            prev=f"prev__{rows[0].id}" if rows and has_older else "",
        )
    return SubscriptionPage(subscriptions=shown, meta=PageMeta(total=total, links=links))


def _owner(call: Call) -> int | None:
    return None if call.caller.is_admin else call.caller.user_id


def _to_subscription(call: Call, row: KeyRow, *, is_masked: bool = False) -> Subscription:
    """Return a subscription with its secret, or without it if that was encrypted with another one."""
    secret = row.masked
    if not is_masked and row.sealed is not None:
        try:
            secret = call.state.box.open(row.sealed)
        except InvalidTag:
            secret = row.masked
    created = dt.datetime.fromtimestamp(row.created_ms // 1000, dt.UTC).isoformat()
    return Subscription(id=row.subscription_id or "", date_created=created, label=row.name, api_key=secret)


@routes.post(_PATH, status=201, raises=(NotFoundError,))
async def create_subscription(call: Call, body: SubscriptionRequest) -> SubscriptionReply:
    """Create a subscription: a key with the rights, limits and budget of its creator."""
    row, secret = new_key_row(
        call.caller.user_id, trimmed(body.label, "label"), expires_ms=None, scopes=_SCOPES, kind=SUBSCRIPTION_KEY,
        dialect=VULTR,
    )  # fmt: skip
    row.subscription_id, row.sealed = str(uuid4()), call.state.box.seal(secret)
    async with call.state.database.transaction() as session:
        await get_user(session, call.caller.user_id)  # the master has none
        await insert_key(session, row)
        audit(session, call, "subscription.create", "subscription", row.id or 0, None, to_token(row))
        return await keep_answer(session, call, SubscriptionReply(subscription=_to_subscription(call, row)))


@routes.get(_ONE, raises=(SubscriptionNotFoundError,))
async def get_subscription_with_key(call: Call, subscription_id: str) -> SubscriptionReply:
    """Get a subscription with its key."""
    async with call.state.database.transaction() as session:
        row = await get_subscription(session, subscription_id, _owner(call))
        audit(session, call, "subscription.show", "subscription", row.id or 0, None, None)
        return SubscriptionReply(subscription=_to_subscription(call, row))


@routes.patch(_ONE, raises=(SubscriptionNotFoundError,))
async def update_subscription(call: Call, subscription_id: str, body: SubscriptionRequest) -> SubscriptionReply:
    """Give a subscription another label."""
    label = trimmed(body.label, "label")
    async with call.state.database.transaction() as session:
        row = await get_subscription(session, subscription_id, _owner(call))
        before, row.name = to_token(row), label
        session.add(row)
        audit(session, call, "subscription.update", "subscription", row.id or 0, before, to_token(row))
        return SubscriptionReply(subscription=_to_subscription(call, row))


@routes.delete(_ONE, status=204, raises=(SubscriptionNotFoundError,))
async def delete_subscription(call: Call, subscription_id: str) -> None:
    """Delete a subscription with its vector stores and conversations; its key stops working within a second."""
    async with call.state.database.transaction() as session:
        row = await get_subscription(session, subscription_id, _owner(call))
        audit(session, call, "subscription.delete", "subscription", row.id or 0, to_token(row), None)
        await delete_key_and_belongings(session, row)
    await call.state.directory.refresh()


@routes.get(_ONE + "/usage", raises=(SubscriptionNotFoundError,))
async def get_subscription_usage(call: Call, subscription_id: str) -> SubscriptionUsageReply:
    """Get what a subscription has used this month and in the previous one (UTC)."""
    now = now_ms()
    this, previous = month_start_ms(now), month_start_ms(now, months_back=1)
    async with call.state.database.read() as session:
        row = await get_subscription(session, subscription_id, _owner(call))
        current = await get_month_usage(session, row.user_id, this, now + 1, row.id)
        last = await get_month_usage(session, row.user_id, previous, this, row.id)
    return SubscriptionUsageReply(usage=_to_usage(call, current, last))


def _to_usage(call: Call, current: MonthUsage, last: MonthUsage) -> SubscriptionUsage:
    models = [one for one in current.by_model if one.input_tokens or one.output_tokens]
    input_cost = Decimal(0)
    for one in models:  # at most what the ledger has, so that both parts add up to it
        input_cost += min(_prices(call, one.model)[0] * one.input_tokens / MICRO, Decimal(str(one.cost)))
    total = sum((Decimal(str(one.cost)) for one in models), Decimal(0))
    return SubscriptionUsage(
        chat_by_model=MonthsByModel(current_month=_by_model(call, current), previous_month=_by_model(call, last)),
        audio=AudioUsage(tts_characters=current.tts, tts_sm_characters=current.tts_sm),
        image=ImageUsage(megapixels=0.0, sm_megapixels=0.0),
        chat=ChatUsage(
            completion_tokens=sum(one.output_tokens for one in models),
            cost=float(round(total - input_cost, 6)),
            input_tokens=sum(one.input_tokens for one in models),
            input_cost=float(round(input_cost, 6)),
            current_tokens=0, monthly_allotment=0, overage=0,
        ),
    )  # fmt: skip


def _by_model(call: Call, month: MonthUsage) -> list[ModelTokens]:
    found = []
    for one in month.by_model:
        if one.input_tokens or one.output_tokens:
            prompt, completion = _prices(call, one.model)
            tokens = ModelTokens(
                model=one.model, tokens=one.output_tokens, input_tokens=one.input_tokens,
                output_price=round(completion), input_price=round(prompt),
            )  # fmt: skip
            found.append(tokens)
    return found


def _prices(call: Call, model: str) -> tuple[Decimal, Decimal]:
    """Return the prices of a model per million tokens; 0 once it is gone."""
    router = call.state.directory.peek(model)
    return (Decimal(0), Decimal(0)) if router is None else (router.price_prompt, router.price_completion)
