"""Tracing by OpenTelemetry, if `SLUICE_TRACE_URL` says where spans go.

Without it there is no tracer: nothing of OpenTelemetry is imported, and whoever would make a span finds None.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.settings import Settings

if TYPE_CHECKING:
    from shared.tracing.tracer import Tracer


@asynccontextmanager
async def open_tracer(settings: Settings, process: str) -> "AsyncIterator[Tracer | None]":
    """Yield the tracer of this process (`api` or `worker`); None if tracing is off."""
    if settings.trace_url is None:
        yield None
        return
    from shared.tracing.tracer import Tracer  # noqa: PLC0415  # only whoever traces pays for it

    tracer = Tracer(settings, process)
    try:
        yield tracer
    finally:
        await tracer.close()
