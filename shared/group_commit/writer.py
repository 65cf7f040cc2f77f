"""One writer for all callers of the process.

A commit costs one fsync, whatever it contains.  While one is under way, callers queue up; the next transaction takes
all of them.  A few callers wait for nothing but their commit.  Once there are many, the writer lingers for a moment
before it takes them: everything that follows a commit happens for its whole batch at once, which saves a quarter of the
CPU time of a request (scripts/bench/RESULTS.md).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from shared.group_commit.units import (
    CommitError,
    Parameter,
    RefusedError,
    Result,
    Statement,
    Store,
    StoreUnavailableError,
    Unit,
    WriterBusyError,
    WriterClosedError,
)

MAX_BATCH: Final = 128
"""Units; bounds how long a process keeps the write lock of SQLite."""
MAX_WAITING: Final = 10_000
_LINGER_S: Final = 0.001
_LATE_S: Final = 0.01
"""An alarm that rings later than this says more about this process than about the database."""
_MAX_EXCUSES: Final = 3
_LINGER_FROM: Final = 5
"""Units in the previous batch from which on the writer lingers."""


class _Waiting:
    """One unit and its caller."""

    __slots__ = ("durable", "results", "unit")

    def __init__(self, unit: Unit, results: asyncio.Future[list[Result]], *, durable: bool) -> None:
        self.unit = unit
        self.results = results
        self.durable = durable

    def resolve(self, results: list[Result]) -> None:
        if not self.results.done():  # the caller may have been cancelled; its unit is written all the same
            self.results.set_result(results)

    def fail(self, error: Exception) -> None:
        if not self.results.done():
            self.results.set_exception(error)


class GroupCommit:
    """Writes units, those of one shape in the order of the calls; a call returns when its unit is durable.

    Each unit is a transaction of its own as far as its caller can tell: one that fails takes no other with it.

    Args:
        store: the database.
        max_batch: most units of one transaction.
        max_waiting: units; above, calls are refused.
        patience_s: no call waits much longer than this.  As many may wait as are written in that time; once a commit
            takes longer, all who wait are sent away, those of the commit with `StoreUnavailableError`, and so are new
            calls until it ends.  None: all wait, which is for processes that have nobody to send away.

    """

    def __init__(
        self,
        store: Store,
        *,
        max_batch: int = MAX_BATCH,
        max_waiting: int = MAX_WAITING,
        patience_s: float | None = None,
    ) -> None:
        self._store = store
        self._patience_s = patience_s
        self._is_stalled = False
        self._alarm: asyncio.TimerHandle | None = None
        self._excuses = 0
        """How often in a row the alarm was late, because this process itself was busy."""
        self._took_s = 0.0
        """By the last commit."""
        self._under_way: list[_Waiting] = []
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[_Waiting] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._last_count = 0
        self._is_closed = False
        self.on_commit: Callable[[int, float], None] | None = None
        """Told the units and the seconds of each commit."""

    async def execute(self, sql: str, parameters: Sequence[Parameter] = ()) -> Result:
        """Write one statement; raises the error of the database, or a `CommitError`."""
        return (await self.execute_many([Statement(sql, tuple(parameters))]))[0]

    async def execute_many(self, statements: Sequence[Statement], *, durable: bool = True) -> list[Result]:
        """Write the statements as one unit, in order, all or none; results in the same order.

        What is not `durable` survives the end of the process, but maybe not a loss of power: it costs no sync.
        """
        if self._is_closed:
            raise WriterClosedError("The writer is closed.")
        if self._is_stalled or len(self._waiting) >= self._room():
            raise WriterBusyError("The database does not keep up.")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(tuple(statements), loop.create_future(), durable=durable)
        self._waiting.append(waiting)
        if self._writer is None:
            self._writer = loop.create_task(self._write_all())
        return await waiting.results

    async def close(self) -> None:
        """Refuse new units, write those that wait, close the database."""
        self._is_closed = True
        if self._writer is not None:
            await self._writer
        await self._store.close()

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                if self._last_count >= _LINGER_FROM:
                    await asyncio.sleep(_LINGER_S)
                count = self._last_count = min(len(self._waiting), self._max_batch)
                batch = [self._waiting.popleft() for _ in range(count)]
                await self._write_in_time(batch)
        finally:
            self._writer = None

    def _room(self) -> int:
        """Return how many may wait."""
        if self._patience_s is None or not self._took_s:
            return self._max_waiting
        return min(self._max_waiting, int(self._max_batch * max(1.0, self._patience_s / self._took_s)))

    async def _write_in_time(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        begun, self._under_way, self._excuses = loop.time(), list(batch), 0
        self._set_alarm()
        await self._write(batch)
        self._took_s, self._is_stalled = loop.time() - begun, False
        if self.on_commit is not None:
            self.on_commit(len(self._under_way), self._took_s)
        if self._alarm is not None:
            self._alarm.cancel()

    def _set_alarm(self) -> None:
        if self._patience_s is not None:
            self._alarm = asyncio.get_running_loop().call_later(self._patience_s, self._stall)

    def _stall(self) -> None:
        """Send away who waits: the commit takes too long."""
        late_s = 0.0 if self._alarm is None else asyncio.get_running_loop().time() - self._alarm.when()
        if late_s > _LATE_S and self._excuses < _MAX_EXCUSES:
            self._excuses += 1  # this process was busy itself; the commit may be over
            self._set_alarm()
            return
        self._is_stalled = True
        while self._waiting:
            self._waiting.popleft().fail(WriterBusyError("The database does not keep up."))
        for waiting in self._under_way:
            waiting.fail(StoreUnavailableError("The database does not answer."))

    async def _write(self, batch: list[_Waiting]) -> None:
        """Commit the batch; a unit at fault fails alone."""
        try:
            durable = any(waiting.durable for waiting in batch)
            results = await self._store.commit([waiting.unit for waiting in batch], durable=durable)
        except RefusedError as refused:
            await self._write_others(batch, refused)
        except CommitError as error:
            for waiting in batch:
                waiting.fail(error)
        except Exception as error:  # noqa: BLE001  # a bug in a store must not leave callers waiting for ever
            for waiting in batch:
                waiting.fail(StoreUnavailableError(repr(error)))
        else:
            for waiting, result in zip(batch, results, strict=True):
                waiting.resolve(result)

    async def _write_others(self, batch: list[_Waiting], refused: RefusedError) -> None:
        """Write the batch without the unit at fault; halve it if the store could not tell which one that is."""
        index = 0 if len(batch) == 1 else refused.index
        if index is not None:
            batch.pop(index).fail(refused.cause)
            if batch:
                await self._write(batch)
            return
        middle = len(batch) // 2
        await self._write(batch[:middle])
        await self._write(batch[middle:])
