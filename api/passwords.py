"""Passwords: argon2id in threads, few at a time, and an end to guessing.

Failures are counted in Redis, per email and per client address, so that the count holds over all api processes.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final, cast

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import OverloadedError, QueueUnavailableError, RateLimitError

MAX_FAILURES: Final = 10
_WINDOW_S: Final = 15 * 60
_AT_ONCE: Final = 2
_MAX_WAITING: Final = 100
_NOBODY: Final = "$argon2id$v=19$m=19456,t=2,p=1$JcnoKkzzoUnUDjtyPxTVsw$pOjFv4sD5tKu8N/lG1VQJxr6MdBeemyjVwCmK6j1SP0"
"""Checked when there is no account or no password, so that the answer takes as long."""
_TAKE: Final = """
local wait = 0
for _, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or '0') >= tonumber(ARGV[1]) then
    wait = math.max(wait, redis.call('TTL', key), 1)
  end
end
if wait > 0 then return wait end
for _, key in ipairs(KEYS) do
  if redis.call('INCR', key) == 1 then redis.call('EXPIRE', key, ARGV[2]) end
end
return 0
"""
_GIVE_BACK: Final = """
for _, key in ipairs(KEYS) do
  local count = tonumber(redis.call('GET', key) or '0')
  if count == 1 then redis.call('DEL', key) elseif count > 1 then redis.call('DECR', key) end
end
return 0
"""


class Passwords:
    """Hashes and checks passwords; one per process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._argon2 = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)  # OWASP, 2024
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Return what is stored of a password; raises `OverloadedError`."""
        async with self._slot():
            return await asyncio.to_thread(self._argon2.hash, _bytes(password))

    @asynccontextmanager
    async def attempt(self, email: str, address: str | None) -> AsyncIterator[None]:
        """Count a failure unless the block ends without an error.

        Raises:
            RateLimitError: 10 failures within 15 minutes for this email or from this address.
            QueueUnavailableError: Redis is away, hence nobody can count.
            OverloadedError: too many wait for their turn.

        """
        of = (("email", email.lower()), ("from", address or ""))
        keys = [f"sluice:logins:{kind}:{_digest(text)}" for kind, text in of]
        async with self._slot():  # counted inside: whoever waits for a turn is no failure yet
            if wait_s := await self._run(_TAKE, keys, MAX_FAILURES, _WINDOW_S):
                raise RateLimitError("Too many failed logins, please try again later.", retry_after_s=wait_s)
            yield
            await self._run(_GIVE_BACK, keys)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Return whether the password is right; takes as long if there is none.  Only within `attempt`."""
        is_right = await asyncio.to_thread(self._verify, password_hash or _NOBODY, _bytes(password))
        return is_right and password_hash is not None

    def _verify(self, password_hash: str, password: bytes) -> bool:
        try:
            return self._argon2.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= _MAX_WAITING:
            raise OverloadedError
        self._waiting += 1
        try:
            async with self._slots:
                yield
        finally:
            self._waiting -= 1

    async def _run(self, script: str, keys: list[str], *arguments: int) -> int:
        try:
            return int(await cast(Awaitable[int], self._redis.eval(script, len(keys), *keys, *map(str, arguments))))
        except (RedisError, OSError) as error:
            raise QueueUnavailableError from error


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


def _digest(text: str) -> str:
    return hashlib.sha256(_bytes(text)).hexdigest()[:32]
