"""Headers that tell how much is left: `x-ratelimit-*` as OpenAI spells them, `RateLimit` of the IETF draft, budgets.

Source: draft-ietf-httpapi-ratelimit-headers-10 (2025): `q` quota, `w` window in seconds, `r` left, `t` seconds to the
reset.
"""

from collections.abc import Sequence
from math import ceil
from typing import Final

from shared.admission.gate import DIMENSIONS, Decision, Demand, Limits
from shared.admission.records import CARBON, MONEY

_WINDOW_S: Final = {"rpm": 60, "rpd": 86_400, "tpm": 60, "tpd": 86_400}
_UNITS: Final = {"requests": ("rpm", "rpd"), "tokens": ("tpm", "tpd")}
_MICROS: Final = 10**6
_UG_PER_G: Final = 10**6


def set_limit_headers(headers: dict[str, str], limits: Limits, decision: Decision) -> None:
    """Add the headers of the limited dimensions; of minute and day the one with the smaller share left."""
    found = {
        name: (limit, max(limit - use.used, 0), use.reset_ms)
        for name, limit, use in zip(DIMENSIONS, limits.values, decision.uses, strict=False)
        if limit is not None
    }
    for unit, names in _UNITS.items():
        shown = [found[name] for name in names if name in found]
        if shown:
            limit, left, reset_ms = min(shown, key=lambda one: one[1] / one[0])
            for spelling in (unit, unit[:-1]):
                headers[f"x-ratelimit-limit-{spelling}"] = str(limit)
                headers[f"x-ratelimit-remaining-{spelling}"] = str(left)
                headers[f"x-ratelimit-reset-{spelling}"] = to_go_duration(reset_ms)
    if found:
        headers["RateLimit-Policy"] = ", ".join(f'"{name}";q={found[name][0]};w={_WINDOW_S[name]}' for name in found)
        headers["RateLimit"] = ", ".join(
            f'"{name}";r={left};t={ceil(reset_ms / 1000)}' for name, (_, left, reset_ms) in found.items()
        )


def to_go_duration(milliseconds: int) -> str:
    """Return `1h2m3s`, `6m0s`, `120ms`, `0s`."""
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = max(ceil(milliseconds / 1000), 0)
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def set_budget_headers(headers: dict[str, str], demands: Sequence[Demand], decision: Decision) -> None:
    """Add what is left beside all holds, of the tighter of user and organization: money, and CO2e in grams."""
    for kind, name, parts in (
        (MONEY, "x-budget-remaining", _MICROS),
        (CARBON, "x-carbon-budget-remaining", _UG_PER_G),
    ):
        left = [left for demand, left in zip(demands, decision.left, strict=True) if demand.kind == kind]
        if left:
            headers[name] = f"{max(min(left), 0) / parts:.6f}"
