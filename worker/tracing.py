"""Spans of attempts; used only if there is a tracer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.errors import StoredError
from shared.jobs.schemas import public_id
from shared.queue.lanes import lane_of
from shared.tracing.headers import headers_of
from worker.context import JobContext

if TYPE_CHECKING:
    from shared.tracing.tracer import Tracer


@contextmanager
def attempt_span(tracer: "Tracer", ctx: JobContext) -> Iterator[None]:
    """Make a span of an attempt, in the trace that is kept with its job: all attempts are in it, wherever they run."""
    message, lane = ctx.message, lane_of(ctx.message.kind)
    attributes: dict[str, str | int | bool] = {
        "messaging.system": "sluice", "messaging.operation.name": "process", "messaging.operation.type": "process",
        "messaging.destination.name": lane, "messaging.message.id": public_id(message.job_id),
        "sluice.job.kind": message.kind, "sluice.attempt": ctx.attempt, "sluice.router": message.router_name,
        "sluice.provider.id": ctx.provider.id, "sluice.request.id": message.request_id,
        "sluice.answer.kept": ctx.kept is not None,
    }  # fmt: skip
    parent = headers_of(message.traceparent, message.tracestate)
    with tracer.span(f"process {lane}", "consumer", attributes, parent=parent):
        yield


def note_end(tracer: "Tracer", status: str, error: StoredError | None) -> None:
    """Say with the span of the attempt how that ended."""
    span = tracer.current()
    span.set_attribute("sluice.attempt.status", status)
    if error is not None:
        tracer.fail(span, error.code or error.type)
