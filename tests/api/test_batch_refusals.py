"""What is refused of a batch that is there."""

import pytest

from shared.batches.items import MAX_LINE
from tests.batches import BATCHES, chat_line, make_batch
from tests.installation import Installation


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
