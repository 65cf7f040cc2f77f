"""Processes are kept alive, whatever becomes of the starts of one of them."""

import asyncio
import sys
from pathlib import Path

from tests.waiting import eventually
from worker.supervisor import Child, Group

ENDS = [sys.executable, "-c", ""]
STAYS = [sys.executable, "-c", "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"]


async def test_a_process_that_once_cannot_be_started_is_started_later(tmp_path: Path) -> None:
    tokens: list[str] = []
    ended: list[str] = []
    commands = iter([ENDS, [str(tmp_path / "missing")], [*STAYS, str(tmp_path / "runs")]])

    def command(token: str) -> list[str]:
        tokens.append(token)
        return next(commands)

    async def note(token: str) -> None:
        ended.append(token)

    group = Group([Child(name="it", command=command, ended=lambda token: asyncio.ensure_future(note(token)))], stop_s=5)
    group.start()
    await eventually((tmp_path / "runs").exists)
    await group.stop()

    assert ended == [tokens[0], tokens[2]]


async def test_a_process_that_is_not_kept_any_more_keeps_no_other_from_being_stopped(tmp_path: Path) -> None:
    ended: list[str] = []

    async def fail(_token: str) -> None:
        ended.append("one")
        raise LookupError

    async def note(_token: str) -> None:
        ended.append("other")

    one = Child(name="one", command=lambda _: ENDS, ended=lambda token: asyncio.ensure_future(fail(token)))
    other = Child(
        name="other",
        command=lambda _: [*STAYS, str(tmp_path / "runs")],
        ended=lambda token: asyncio.ensure_future(note(token)),
    )
    group = Group([one, other], stop_s=5)
    group.start()
    await eventually(lambda: ended == ["one"] and (tmp_path / "runs").exists())
    await group.stop()

    assert ended == ["one", "other"]
