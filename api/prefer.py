"""The `Prefer` header (RFC 7240): how long a caller waits for an inference request, and how exactly it is taken."""

import re
from typing import Final

from msgspec import Struct

MAX_WAIT_S: Final = 600.0
STRICT: Final = "handling=strict"
_WAIT: Final = re.compile(r"wait\s*=\s*\"?([0-9]+)\"?", re.IGNORECASE)

_STRICT: Final = re.compile(r"handling\s*=\s*(strict|\"strict\")")


class Prefer(Struct, frozen=True, kw_only=True):
    """What the caller prefers; nothing of it can be wrong, what is not understood is ignored."""

    respond_async: bool = False
    """Answer 202 instead of waiting, or after `wait_s`."""
    wait_s: float | None = None
    """Longest wait; None is until the job is over."""
    is_strict: bool = False
    """Refuse parameters that a provider cannot take instead of dropping them."""

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
        return ", ".join([*parts, *self._handling])

    @property
    def deferred(self) -> str:
        """Return the value of `Preference-Applied` for who did not wait, or not long enough."""
        return ", ".join(["respond-async", *self._handling])

    @property
    def _handling(self) -> list[str]:
        return [STRICT] if self.is_strict else []


NO_PREFERENCE: Final = Prefer()


def parse_prefer(values: list[str]) -> Prefer:
    """Return what the `Prefer` headers of a request ask for."""
    respond_async, wait_s, is_strict = False, None, False
    for token in ",".join(values).split(","):
        word = token.strip()
        lower = word.partition(";")[0].strip().lower()
        if lower == "respond-async":
            respond_async = True
        elif _STRICT.fullmatch(lower):
            is_strict = True
        elif match := _WAIT.fullmatch(lower):
            wait_s = min(float(match[1]), MAX_WAIT_S)
    return Prefer(respond_async=respond_async, wait_s=wait_s, is_strict=is_strict)
