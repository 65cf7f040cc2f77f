"""What is refused of a batch that is there."""

import pytest

from api.batch_intake import refuse
from shared.batches.items import MAX_LINE
from shared.batches.schemas import BatchError
from shared.batches.tables import BatchRow
from shared.jobs.tables import JobRow
from tests.batches import BATCHES, chat_line, ended, get_batch, make_batch
from tests.installation import Installation
from tests.waiting import eventually


@pytest.mark.parametrize("line", [0, MAX_LINE + 1, 10**30])
async def test_results_begin_at_a_line_that_there_can_be(idle: Installation, line: int) -> None:
    batch = await make_batch(idle, chat_line("a"))

    results = await idle.get(f"{BATCHES}/{batch['id']}/results?starting_line={line}")

    assert results.status == 422


async def test_a_batch_that_runs_is_not_retried(idle: Installation) -> None:
    batch = await make_batch(idle, chat_line("a"))

    refused = await idle.post(f"{BATCHES}/{batch['id']}/retry", {"statuses": ["failed"]})

    assert (refused.status, (await refused.json())["error"]["code"]) == (409, "batch_not_finished")
    assert refused.headers["x-should-retry"] == "false"


async def test_nothing_is_left_of_a_large_input_that_is_refused(both: Installation) -> None:
    batch = await make_batch(both, *(chat_line(f"r{n}") for n in range(1100)), "{broken")

    failed = await ended(both, batch["id"])

    assert (failed["status"], [error["line"] for error in failed["errors"]["data"]]) == ("failed", [1101])
    assert await both.rows(JobRow) == []


async def test_a_batch_is_not_refused_by_a_process_that_lost_it(idle: Installation) -> None:
    made = await make_batch(idle, chat_line("a"))
    await eventually(lambda: _is_read(idle))
    (batch,) = await idle.rows(BatchRow)

    gone = BatchError(code="file_not_found", message="The input file is gone.", param=None, line=None)
    await refuse(idle.state, batch, [gone])

    assert (await get_batch(idle, made["id"]))["status"] == "in_progress"
    assert len(await idle.rows(JobRow)) == 1


async def _is_read(installation: Installation) -> bool:
    (batch,) = await installation.rows(BatchRow)
    return batch.total is not None
