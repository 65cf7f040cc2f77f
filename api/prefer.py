"""The `Prefer` header (RFC 7240): how long a caller waits for an inference request."""

import re
from typing import Final

from msgspec import Struct

MAX_WAIT_S: Final = 600.0
_WAIT: Final = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?", re.IGNORECASE)


class Prefer(Struct, frozen=True, kw_only=True):
    """What the caller prefers; nothing of it can be wrong, what is not understood is ignored."""

    respond_async: bool = False
    """Answer 202 instead of waiting, or after `wait_s`."""
    wait_s: float | None = None
    """Longest wait; None is until the job is over."""

    is_strict: bool = False
    """What cannot be done as asked is refused, not ignored."""

    @property
    def waits(self) -> bool:
        """Return whether the caller waits at all."""
        return not self.respond_async or (self.wait_s or 0) > 0

    @property
    def applied(self) -> str:
        """Return the value of `Preference-Applied`; empty if nothing was asked for."""
        parts = ["respond-async"] if self.respond_async and not self.wait_s else []
        if self.wait_s is not None:
            parts.append(f"wait={self.wait_s:.0f}")
        return ", ".join(parts)


NO_PREFERENCE: Final = Prefer()


def parse_prefer(values: list[str]) -> Prefer:
    """Return what the `Prefer` headers of a request ask for."""
    respond_async, is_strict, wait_s = False, False, None
    for token in ",".join(values).split(","):
        word = token.strip()
        lower = word.partition(";")[0].strip().lower()
        if lower == "respond-async":
            respond_async = True
        elif lower.replace(" ", "").replace('"', "") == "handling=strict":
            is_strict = True
        elif match := _WAIT.fullmatch(lower):
            wait_s = min(float(match[1]), MAX_WAIT_S)
    return Prefer(respond_async=respond_async, wait_s=wait_s, is_strict=is_strict)
