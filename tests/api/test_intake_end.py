"""How the work on batches ends with its process."""

import asyncio
from typing import Any

from api.batch_intake import BatchIntake
from shared.batches.tables import BatchRow
from tests.installation import Installation
from tests.waiting import eventually


class LateIntake(BatchIntake):
    """Finds a batch at the very moment in which it is ended, as if a library had swallowed the cancellation."""

    is_asked = False
    works = 0

    async def _lease(self, state: Any) -> list[BatchRow]:
        is_first, self.is_asked = not self.is_asked, True
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if not is_first:
                raise
        return [BatchRow(id="late", endpoint="/v1/chat/completions")]

    async def _take(self, state: Any, endpoint: Any, row: BatchRow) -> None:
        self.works += 1
        try:
            await asyncio.sleep(60)
        finally:
            self.works -= 1


async def test_a_batch_that_is_found_at_the_end_is_left_again(sluice: Installation) -> None:
    intake = LateIntake(sluice.state, {"/v1/chat/completions": None})  # type: ignore[dict-item]  # never looked at
    await eventually(lambda: intake.is_asked)

    await intake.close()
    await asyncio.sleep(0.1)

    assert intake.works == 0
