"""Instants after which something is not valid any more."""

from shared.clock import now_ms
from shared.errors import InvalidFieldError


def to_expires_ms(expires: int | None) -> int | None:
    """Return the member `expires` of a body in Unix ms; raises `InvalidFieldError` if it is past."""
    if expires is None:
        return None
    if not now_ms() < expires * 1000 < 2**62:
        raise InvalidFieldError(["body", "expires"], "Wrong timestamp, must be in the future.")
    return expires * 1000
