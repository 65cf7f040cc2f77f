"""What a job keeps of its trace: the headers of W3C Trace Context."""

from typing import Final

_TRACEPARENT_PARTS: Final = 4
_TRACE_ID_CHARACTERS: Final = 32


def headers_of(traceparent: str | None, tracestate: str | None) -> dict[str, str]:
    """Return what is kept of a context as headers."""
    kept = {"traceparent": traceparent, "tracestate": tracestate}
    return {name: value for name, value in kept.items() if value is not None}


def trace_id_of(traceparent: str | None) -> str | None:
    """Return the trace id of a W3C traceparent."""
    parts = traceparent.split("-") if traceparent else []
    return parts[1] if len(parts) >= _TRACEPARENT_PARTS and len(parts[1]) == _TRACE_ID_CHARACTERS else None
