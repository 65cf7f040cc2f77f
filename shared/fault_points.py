"""Named places where a process can be made to die, for tests of the promises in README.

With `SLUICE_FAULT_POINTS=true` a process that reaches a point ends like after `kill -9` if the file `fault-<name>` is
in the data folder; the file is removed first, so one file kills one process once.
"""

import os
import signal
from contextlib import suppress
from typing import Literal

from shared.settings import Settings

FaultPoint = Literal["after_accept", "before_finish", "after_finish"]
"""Between commit and enqueueing; between the provider's answer and its transaction; between that and the reply."""


def reach(settings: Settings, point: FaultPoint) -> None:
    """Die here if a test asked for it."""
    if settings.fault_points:
        with suppress(FileNotFoundError):
            (settings.data_path / f"fault-{point}").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
