"""Which stream jobs have a reader: `sluice:readers` holds job ids by the instant from which they count as unread.

An api process moves the instant ahead as long as it has a reader; a process that dies stops doing so.
"""

from collections.abc import Awaitable, Iterable
from typing import Final, cast

from redis.asyncio import Redis

_KEY: Final = "sluice:readers"
_TAKE: Final = """
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1])
if #ids > 0 then redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1]) end
return ids
"""
_KEEP: Final = """
local deadline = redis.call('TIME')[1] + ARGV[1]
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], deadline, ARGV[i]) end
return 0
"""


async def keep_read(redis: Redis, job_ids: Iterable[str], grace_s: float) -> None:
    """Say that these jobs have a reader now; they count as unread `grace_s` from now unless this is said again."""
    await cast(Awaitable[int], redis.eval(_KEEP, 1, _KEY, str(max(int(grace_s), 1)), *job_ids))


async def take_unread(redis: Redis) -> list[str]:
    """Return jobs that nobody has read in time, each one once."""
    return [job_id.decode() for job_id in await cast(Awaitable[list[bytes]], redis.eval(_TAKE, 1, _KEY))]
