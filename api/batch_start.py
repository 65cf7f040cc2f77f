"""When a batch that can wait begins: in the hours of its window in which electricity is cleanest."""

from typing import Final

from api.batch_lines import LineChecker
from api.state import State
from shared.batches.tables import BatchRow
from shared.carbon.intensity import read_intensities
from shared.clock import now_ms

_SHARE_KEPT: Final = 0.25
"""Of the window, kept for the work whatever the estimate says."""


async def best_start(state: State, row: BatchRow, checker: LineChecker) -> int | None:
    """Return the instant to begin, in ms; None to begin at once.

    It leaves twice the time that the work is expected to take, and a quarter of the window at least.
    """
    path = state.settings.intensity_file
    if path is None:
        return None
    intensities = await read_intensities(path)
    takes_ms = int(checker.count / state.settings.batch_lines_per_s * 1000)
    kept_ms = max(2 * takes_ms, int((row.expires_ms - row.created_ms) * _SHARE_KEPT))
    zones = {provider.profile.used.code for router in checker.routers.values() for provider in router.providers}
    now = now_ms()
    start = intensities.best_start(zones, now, row.expires_ms - kept_ms, takes_ms)
    return start if start is not None and start > now else None
