"""An api process of which a part is broken does not go on without it."""

from sqlmodel import col, update

from shared.database import Database
from shared.revision import raise_revision
from shared.routers.tables import RouterRow
from tests.faults.processes import Processes
from tests.waiting import eventually


async def write_voices(processes: Processes, voices: str | None) -> None:
    """Change all routers behind the back of every process, which then read them anew."""
    database = Database(processes.database_url)
    try:
        async with database.transaction() as session:
            await session.exec(update(RouterRow).where(col(RouterRow.id) > 0).values(voices=voices))
            await raise_revision(session)
    finally:
        await database.close()


async def test_an_api_whose_background_task_fails_ends_and_is_started_again(processes: Processes) -> None:
    first = processes.children("-m api")

    await write_voices(processes, "no JSON")
    await eventually(lambda: not set(first) & set(processes.children("-m api")), within_s=30)
    await write_voices(processes, None)
    await eventually(processes.serves, within_s=30)

    lines = processes.output.read_text().splitlines()
    assert any("background_task_failed" in line for line in lines)
    for pid in first:
        (ended,) = [line for line in lines if "process_ended" in line and str(pid) in line]
        assert "status=1" in ended.replace('"status": 1', "status=1"), ended
