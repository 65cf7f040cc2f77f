"""Where a queued job stands, and when it may begin."""

from typing import Final

from msgspec import Struct
from redis.exceptions import RedisError

from api.state import State, queue_of
from shared.clock import now_ms
from shared.jobs.schemas import QUEUED
from shared.jobs.tables import JobRow
from shared.queue.pace import read_pace


class Waiting(Struct, frozen=True):
    """Position within the band, from 1, and Unix seconds; None if that cannot be told."""

    position: int | None = None
    starts_at: int | None = None


NOT_WAITING: Final = Waiting()


async def waiting_of(state: State, row: JobRow) -> Waiting:
    """Return where a job stands; the estimate follows from the starts of the last minutes."""
    if row.status != QUEUED or row.held:
        return NOT_WAITING
    due_ms = max(row.next_attempt_ms or 0, row.not_before_ms or 0)
    if due_ms > now_ms():
        return Waiting(None, -(-due_ms // 1000))
    try:
        position = await queue_of(state, row.kind).position(row.id, row.band)
        per_minute = sum((await read_pace(state.redis)).values())
    except (RedisError, OSError):
        return NOT_WAITING
    if position is None or not per_minute:
        return Waiting(position)
    return Waiting(position, now_ms() // 1000 + int(position / per_minute * 60))
