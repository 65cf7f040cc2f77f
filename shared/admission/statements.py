"""What the end of a job changes in the accounts of its caller; part of the transaction that ends the job."""

from typing import Final

from shared.admission.records import CARBON, MONEY
from shared.group_commit.units import Statement

_SPEND: Final = """
UPDATE {table} SET budget_micros = CASE WHEN budget_micros > $2 THEN budget_micros - $2 ELSE 0 END,
    budget_version = budget_version + 1
WHERE id = $1 AND budget_micros IS NOT NULL
RETURNING budget_micros, budget_version
"""
_SPEND_OF: Final = {"u": _SPEND.format(table="users"), "o": _SPEND.format(table="organizations")}
_EMIT: Final = """
INSERT INTO carbon_accounts (name, emitted_ug, version) VALUES ($1, $2, 1)
ON CONFLICT (name) DO UPDATE SET emitted_ug = carbon_accounts.emitted_ug + excluded.emitted_ug,
    version = carbon_accounts.version + 1
RETURNING emitted_ug, version
"""


def spend(account: str, micros: int) -> Statement:
    """Take money from a budget, which never goes below 0; returns (left, version), nothing if it has no limit now."""
    kind, owner = account.split(":")
    if kind != MONEY:
        raise ValueError(account)
    return Statement(_SPEND_OF[owner[0]], (int(owner[1:]), micros), is_shared=True)


def emit(account: str, ug: int) -> Statement:
    """Add emissions to a month; returns (emitted, version)."""
    if not account.startswith(CARBON):
        raise ValueError(account)
    return Statement(_EMIT, (account, ug), is_shared=True)
