"""What a batch emitted by the operator's hourly intensities, and what it would have, had it run at once."""

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.batches.items import item_span
from shared.batches.tables import BatchRow
from shared.carbon.intensity import HOUR_MS, Intensities
from shared.usage.newest import IS_NEWEST
from shared.usage.tables import UsageRecordRow


async def batch_carbon(
    session: AsyncSession, intensities: Intensities | None, row: BatchRow
) -> tuple[int | None, int | None]:
    """Return operational emissions in ng, if run at once and as run; None if the file does not know all hours."""
    if intensities is None:
        return None, None
    low, high = item_span(row.id)
    hour = (UsageRecordRow.created_ms // HOUR_MS).label("hour")  # type: ignore[attr-defined]  # a column
    statement = (
        select(UsageRecordRow.zone_effective, hour, func.sum(UsageRecordRow.energy_nwh))
        .where(col(UsageRecordRow.job_id).between(low, high), UsageRecordRow.energy_nwh > 0, IS_NEWEST)
        .group_by(col(UsageRecordRow.zone_effective), hour)
    )
    baseline, actual = 0, 0
    for zone, hour_number, energy in (await session.exec(statement)).all():
        at_once = intensities.grams_ng(zone or "", row.created_ms, int(energy))
        as_run = intensities.grams_ng(zone or "", int(hour_number) * HOUR_MS, int(energy))
        if at_once is None or as_run is None:
            return None, None
        baseline, actual = baseline + at_once, actual + as_run
    return baseline, actual
