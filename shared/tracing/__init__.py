"""Tracing by OpenTelemetry, if `SLUICE_TRACE_URL` says where spans go.

Without it there is no tracer: nothing of OpenTelemetry is imported, and whoever would make a span finds None.
"""

from typing import TYPE_CHECKING

from shared.settings import Settings

if TYPE_CHECKING:
    from shared.tracing.tracer import Tracer


def open_tracer(settings: Settings, process: str) -> "Tracer | None":
    """Return the tracer of this process (`api` or `worker`), to be closed by the caller; None if tracing is off."""
    if settings.trace_url is None:
        return None
    from shared.tracing.tracer import Tracer  # noqa: PLC0415  # only whoever traces pays for it

    return Tracer(settings, process)
