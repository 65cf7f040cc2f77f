"""What a job keeps of its trace: the headers of W3C Trace Context."""


def headers_of(traceparent: str | None, tracestate: str | None) -> dict[str, str]:
    """Return what is kept of a context as headers."""
    kept = {"traceparent": traceparent, "tracestate": tracestate}
    return {name: value for name, value in kept.items() if value is not None}
