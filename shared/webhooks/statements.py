"""Hot writes of webhooks, for the group-commit writer.

Who is told is decided by `notify`, which an object is given when it is accepted:

    *            every standing endpoint of its user that subscribes to the event
    ID,ID        of these, the named ones
    ..+ID        besides, the endpoint that was made for this object alone

The statements of an event belong into the transaction that makes it true: `deliver_event` returns them, and
`deliveries_of` reads from their results what can be enqueued at once.  Whatever is not enqueued is found by the
reconciler.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from shared.group_commit.units import Result, Statement, insert_sql

LEASE_MS: Final = 25_000
"""Longer than a try can take."""
EVERYBODY: Final = "*"


class NewEvent(Struct, frozen=True, kw_only=True):
    """Something that happened to an object."""

    id: str
    """Bare ULID."""
    type: str
    user_id: int
    """Owner of the object."""
    object_id: str
    """Bare id."""
    data: str
    """`data` of the event, as JSON."""
    created_ms: int
    kind: str | None = None
    """Of the job; endpoints may ask for some kinds only.  None: for all endpoints."""
    traceparent: str | None = None
    tracestate: str | None = None


class Delivery(Struct, frozen=True):
    """One delivery that has just been made and can be enqueued."""

    id: str
    endpoint_id: str
    user_id: int


class NewWebhookEndpoint(Struct, kw_only=True):
    """An endpoint to insert; fields are named as their columns."""

    id: str
    user_id: int
    object_id: str | None
    name: str
    description: str | None
    url: str
    event_types: str
    kinds: str | None
    headers_sealed: bytes | None
    include_result: bool
    secrets_sealed: bytes
    secret_hint: str
    created_ms: int
    updated_ms: int
    status: str = "enabled"
    streak: int = 0
    recent: int = 0
    recent_count: int = 0
    pause_s: int = 0


class NewAttempt(Struct, kw_only=True):
    """A try to insert; fields are named as their columns."""

    delivery_id: str
    number: int
    origin: str
    started_ms: int
    latency_ms: int
    status_code: int | None
    error_class: str | None
    error: str | None
    remote_address: str | None
    response_snippet: str | None


class TriedDelivery(Struct, kw_only=True):
    """What a try made of its delivery."""

    id: str
    lease: str
    """Of the try; the change is refused if another one has begun."""
    status: str
    due_ms: int | None
    attempts: int
    delivered_ms: int | None


# The id of a delivery sorts by the time of its event and is made of both ids, hence the same event never goes to one
# endpoint twice.
_INSERT_DELIVERIES: Final = """
INSERT INTO webhook_deliveries (id, endpoint_id, user_id, event_id, event_type, object_id, data, is_test, traceparent,
    tracestate, created_ms, status, origin, due_ms, attempts, step)
SELECT substr(CAST($1 AS TEXT), 1, 18) || substr(e.id, 19, 8), e.id, e.user_id, CAST($1 AS TEXT), CAST($2 AS TEXT),
    CAST($3 AS TEXT), CAST($4 AS TEXT), FALSE, CAST($5 AS TEXT), CAST($9 AS TEXT),
    CAST($6 AS BIGINT), CASE WHEN e.status = 'enabled' THEN 'pending' ELSE 'paused' END, 'scheduled',
    CASE WHEN e.status = 'enabled' THEN CAST($6 AS BIGINT) END, 0, 0
FROM webhook_endpoints e
WHERE e.event_types LIKE CAST($7 AS TEXT) AND (e.kinds IS NULL OR e.kinds LIKE CAST($8 AS TEXT))
"""
_RETURNING: Final = "RETURNING id, endpoint_id, user_id, status"
_TO_STANDING: Final = f"""{_INSERT_DELIVERIES}
    AND e.user_id = $10 AND e.object_id IS NULL AND e.id <> CAST($11 AS TEXT)
    AND (CAST($12 AS TEXT) = '*' OR CAST($12 AS TEXT) LIKE '%' || e.id || '%')
{_RETURNING}"""
_TO_OWN: Final = f"""{_INSERT_DELIVERIES}
    AND e.id = CAST($10 AS TEXT)
{_RETURNING}"""
_INSERT_ENDPOINT: Final = insert_sql("webhook_endpoints", NewWebhookEndpoint.__struct_fields__)
_INSERT_ATTEMPT: Final = insert_sql("webhook_attempts", NewAttempt.__struct_fields__)

_CLAIMED: Final = """
RETURNING endpoint_id, user_id, event_id, event_type, object_id, data, is_test, traceparent, tracestate, created_ms,
    origin, attempts, step
"""
_CLAIM_IF: Final = """
UPDATE webhook_deliveries SET status = 'delivering', due_ms = $3, lease = $4, attempts = attempts + 1
WHERE id = $1 AND due_ms <= $2 AND EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.id = endpoint_id
    AND e.status = 'enabled' AND """
_CLAIM: Final = _CLAIM_IF + "e.pause_s = 0)" + _CLAIMED
_CLAIM_PROBE: Final = _CLAIM_IF + "e.pause_s > 0 AND (e.open_until_ms <= $2 OR $5 = 1))" + _CLAIMED
_BEGIN_PROBE: Final = """
UPDATE webhook_endpoints SET probe_until_ms = $3,
    open_until_ms = CASE WHEN open_until_ms > $2 THEN $2 ELSE open_until_ms END
WHERE id = $1 AND pause_s > 0 AND (probe_until_ms IS NULL OR probe_until_ms <= $2)
"""
_READ_ENDPOINT: Final = """
SELECT e.url, e.headers_sealed, e.secrets_sealed, e.include_result FROM webhook_endpoints e
JOIN webhook_deliveries d ON d.endpoint_id = e.id WHERE d.id = $1
"""
_POSTPONE: Final = """
UPDATE webhook_deliveries SET due_ms = $3 WHERE id = $1 AND due_ms <= $2 AND status IN ('pending', 'failed')
"""
_PAUSE: Final = """
UPDATE webhook_deliveries SET status = 'paused', due_ms = NULL WHERE id = $1 AND due_ms <= $2
    AND EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.id = endpoint_id AND e.status <> 'enabled')
"""
_ABANDON: Final = """
UPDATE webhook_deliveries SET status = 'aborted', due_ms = NULL WHERE id = $1
    AND NOT EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.id = endpoint_id)
"""
# a try that a worker's end cut off is made again without a step of the schedule, hence the step is counted here
_RECORD: Final = """
UPDATE webhook_deliveries SET status = $3, due_ms = $4, attempts = $5, delivered_ms = $6, lease = NULL, step = step + 1
WHERE id = $1 AND lease = $2 AND status = 'delivering'
"""
_SUCCEED: Final = """
UPDATE webhook_endpoints SET streak = 0, failing_since_ms = NULL, probe_until_ms = NULL, open_until_ms = NULL,
    recent = CASE WHEN pause_s > 0 THEN 0 ELSE (recent * 2) & 1048575 END,
    recent_count = CASE WHEN pause_s > 0 THEN 1 WHEN recent_count < 20 THEN recent_count + 1 ELSE 20 END, pause_s = 0
WHERE id = $1
"""
_FAIL: Final = """
UPDATE webhook_endpoints SET streak = streak + 1, failing_since_ms = COALESCE(failing_since_ms, $2),
    recent = ((recent * 2) | 1) & 1048575,
    recent_count = CASE WHEN recent_count < 20 THEN recent_count + 1 ELSE 20 END
WHERE id = $1
RETURNING streak, recent, recent_count, failing_since_ms, pause_s, open_until_ms
"""
_OPEN: Final = """
UPDATE webhook_endpoints SET pause_s = $2, open_until_ms = $3, probe_until_ms = NULL
WHERE id = $1 AND pause_s = $4 AND (open_until_ms IS NULL OR open_until_ms <= $5)
"""
_DISABLE: Final = """
UPDATE webhook_endpoints SET status = 'disabled', disabled_reason = $2, updated_ms = $3
WHERE id = $1 AND status = 'enabled'
"""


def deliver_event(event: NewEvent, notify: str, *, but: str = "") -> list[Statement]:
    """Return the statements that make the deliveries of an event, for the transaction that makes it true.

    Args:
        event: what happened.
        notify: who is told.
        but: id of an endpoint that is not told.

    """
    names, _, own = notify.partition("+")
    parameters = (
        event.id, event.type, event.object_id, event.data, event.traceparent, event.created_ms,
        f'%"{event.type}"%', "%" if event.kind is None else f'%"{event.kind}"%', event.tracestate,
    )  # fmt: skip
    statements = [Statement(_TO_STANDING, (*parameters, event.user_id, but, names))] if names else []
    return statements + ([Statement(_TO_OWN, (*parameters, own))] if own else [])


def deliveries_of(unit: Iterable[Statement], results: Iterable[Result]) -> list[Delivery]:
    """Return the deliveries that the statements of a unit have made and that can be tried now."""
    made = [
        row
        for statement, result in zip(unit, results, strict=True)
        if statement.sql in (_TO_STANDING, _TO_OWN)
        for row in result.rows
    ]
    return [Delivery(*row[:3]) for row in made if row[3] == "pending"]


def insert_endpoint(endpoint: NewWebhookEndpoint) -> Statement:
    """Make an endpoint."""
    return Statement(_INSERT_ENDPOINT, tuple(getattr(endpoint, name) for name in endpoint.__struct_fields__))


def insert_attempt(attempt: NewAttempt) -> Statement:
    """Note a try that has ended."""
    return Statement(_INSERT_ATTEMPT, tuple(getattr(attempt, name) for name in attempt.__struct_fields__))


def claim(delivery_id: str, lease: str, now_ms: int) -> Sequence[Statement]:
    """Begin a try; refused unless the delivery is due, its endpoint is enabled and the breaker is closed."""
    return (
        Statement(_CLAIM, (delivery_id, now_ms, now_ms + LEASE_MS, lease), expects=1),
        Statement(_READ_ENDPOINT, (delivery_id,)),
    )


def claim_probe(
    delivery_id: str, endpoint_id: str, lease: str, now_ms: int, *, does_end_rest: bool
) -> Sequence[Statement]:
    """Begin the one try by which a breaker learns whether the receiver is back.

    Refused while it rests, unless this try ends the rest, and while there is another such try.
    """
    return (
        Statement(_CLAIM_PROBE, (delivery_id, now_ms, now_ms + LEASE_MS, lease, int(does_end_rest)), expects=1),
        Statement(_READ_ENDPOINT, (delivery_id,)),
        Statement(_BEGIN_PROBE, (endpoint_id, now_ms, now_ms + LEASE_MS), expects=1, is_shared=True),
    )


def postpone(delivery_id: str, now_ms: int, due_ms: int) -> Statement:
    """Look at a delivery later, since its endpoint takes none now."""
    return Statement(_POSTPONE, (delivery_id, now_ms, due_ms))


def pause(delivery_id: str, now_ms: int) -> Statement:
    """Let a delivery rest whose endpoint is disabled."""
    return Statement(_PAUSE, (delivery_id, now_ms))


def abandon(delivery_id: str) -> Statement:
    """End a delivery whose endpoint is gone."""
    return Statement(_ABANDON, (delivery_id,))


def record(tried: TriedDelivery) -> Statement:
    """Write down how a try ended."""
    parameters = (tried.id, tried.lease, tried.status, tried.due_ms, tried.attempts, tried.delivered_ms)
    return Statement(_RECORD, parameters, expects=1)


def succeed(endpoint_id: str) -> Statement:
    """Tell the breaker of a success; last in its unit."""
    return Statement(_SUCCEED, (endpoint_id,), is_shared=True)


def fail(endpoint_id: str, now_ms: int) -> Statement:
    """Tell the breaker of a failure; last in its unit.

    Returns (streak, recent, recent_count, failing_since_ms, pause_s, open_until_ms).
    """
    return Statement(_FAIL, (endpoint_id, now_ms), is_shared=True)


def open_breaker(endpoint_id: str, now_ms: int, *, pause_s: int, last_pause_s: int) -> Statement:
    """Pause the tries of an endpoint, unless somebody else did meanwhile."""
    parameters = (endpoint_id, pause_s, now_ms + pause_s * 1000, last_pause_s, now_ms)
    return Statement(_OPEN, parameters, is_shared=True)


def disable(endpoint_id: str, reason: str, now_ms: int) -> Statement:
    """Disable an endpoint; refused if it is already.  Last in its unit."""
    return Statement(_DISABLE, (endpoint_id, reason, now_ms), expects=1, is_shared=True)
