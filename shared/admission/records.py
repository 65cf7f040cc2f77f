"""What was admitted, as the job keeps it, and the names of accounts."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from msgspec import Struct, json

MONEY: Final = "money"
CARBON: Final = "carbon"
QUEUE: Final = "queue"
_MINUTE_MS: Final = 60_000


class Admission(Struct, array_like=True, frozen=True, kw_only=True):
    """What one request may use; what has not been used is given back when its job has ended."""

    admitted_ms: int
    """By the clock of Redis, if it was counted."""
    windows: str = ""
    """Key of the counters its request and tokens were counted in; empty if the caller has no limits."""
    tokens: int = 0
    """Counted so far."""
    accounts: tuple[str, ...] = ()
    """Where something is held."""
    is_counted: bool = True
    """False while Redis was away: it is counted when it starts."""
    held_micros: int | None = None
    """Money: the charge is never more; None is no limit."""
    held_ug: int = 0
    """CO2e, µg."""

    def names(self, kind: str) -> list[str]:
        """Return the accounts of one kind."""
        return [name for name in self.accounts if name.startswith(kind)]

    def encode(self) -> str:
        """Return the form of the column `jobs.admission`."""
        return json.encode(self).decode()


def decode_admission(text: str | None) -> Admission | None:
    """Return what the column `jobs.admission` says."""
    return None if text is None else json.decode(text, type=Admission)


def windows_key(user_id: int, router_id: int) -> str:
    """Return the key of the counters of a user on a router."""
    return f"sluice:limits:{user_id}:{router_id}"


def user_of(user_id: int) -> str:
    """Return the owner part of an account's name."""
    return f"u{user_id}"


def organization_of(organization_id: int) -> str:
    """Return the owner part of an account's name."""
    return f"o{organization_id}"


def money_account(owner: str) -> str:
    """Return the name of the account that the owner's jobs are charged to."""
    return f"{MONEY}:{owner}"


def carbon_account(owner: str, now_ms: int) -> str:
    """Return the name of the account of the owner's emissions in this month, UTC."""
    return f"{CARBON}:{owner}:{_month(now_ms // _MINUTE_MS)}"


@lru_cache(maxsize=10)
def _month(minute: int) -> str:
    return f"{datetime.fromtimestamp(minute * 60, UTC):%Y-%m}"


def queue_account(owner: str) -> str:
    """Return the name of the account of the owner's unfinished jobs."""
    return f"{QUEUE}:{owner}"
