"""Whether the settings have every shard that is in use, and each Redis is the shard it is named as."""

from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError
from sqlalchemy import func
from sqlmodel import col, select

from shared.batches.tables import BatchRow
from shared.database import Database
from shared.jobs.tables import JobRow
from shared.organizations.tables import OrganizationRow
from shared.settings import Settings, SettingsError

_MARK: Final = "sluice:shard"


async def check_shards(database: Database, settings: Settings) -> None:
    """Raise `SettingsError` if an organization, or anything unfinished, is in a shard that the settings do not have."""
    count = len(settings.redis_urls())
    async with database.read() as session:
        found = [
            (await session.exec(select(func.max(table.shard)).where(*conditions))).one()
            for table, conditions in (
                (OrganizationRow, ()),
                (JobRow, (col(JobRow.finished_ms).is_(None), JobRow.shard >= count)),
                (BatchRow, (col(BatchRow.finished_ms).is_(None), BatchRow.shard >= count)),
            )
        ]
    last = max(shard or 0 for shard in found)
    if last >= count:
        raise SettingsError(f"SLUICE_SHARD_REDIS_URLS: shard {last} is in use, but there are {count} shards.")


async def mark_shard(redis: Any, shard: int) -> None:
    """Note in a Redis which shard it is; raises `SettingsError` if it has been another one: its jobs would run twice.

    One that is away is asked when the next process starts.
    """
    with suppress(RedisError, OSError):
        await redis.set(_MARK, shard, nx=True)
        if (found := await redis.get(_MARK)) is not None and int(found) != shard:
            raise SettingsError(
                f"SLUICE_SHARD_REDIS_URLS: the Redis named as shard {shard} is shard {int(found)}; the order must stay."
                f" If nothing in it is needed, delete its key {_MARK}."
            )
