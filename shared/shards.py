"""Whether the settings have every shard that is in use."""

from sqlalchemy import func
from sqlmodel import col, select

from shared.batches.tables import BatchRow
from shared.database import Database
from shared.jobs.tables import JobRow
from shared.organizations.tables import OrganizationRow
from shared.settings import Settings, SettingsError


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
