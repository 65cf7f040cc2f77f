"""Named places where a process can be made to die, for tests of the promises in README.

With `SLUICE_FAULT_POINTS=true` a process that reaches a point ends like after `kill -9` if the file `fault-<name>` is
in the data folder; the file is removed first, so one file kills one process once.
"""

import os
import signal
from contextlib import suppress
from typing import Literal

from shared.settings import Settings

FaultPoint = Literal[
    "before_accept",
    "after_accept",
    "after_made",
    "before_finish",
    "before_release",
    "after_finish",
    "before_webhook_recorded",
]
"""Between admission and commit; between that and enqueueing; between the commit of what is no job and its answer;
between the provider's answer and its transaction; between that and the release of what was held; between that and the
reply; between a webhook's try and its transaction."""


def reach(settings: Settings, point: FaultPoint) -> None:
    """Die here if a test asked for it."""
    if settings.fault_points:
        with suppress(FileNotFoundError):
            (settings.data_path / f"fault-{point}").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
