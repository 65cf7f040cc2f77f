"""Users who pay, and what they buy: a model that costs one micro-unit per token."""

from typing import Any

from shared.usage.tables import ChargeRow
from shared.users.tables import UserRow
from tests.installation import Installation
from tests.people import add_user, key_of

PRICES = (1, 1)


async def payer(
    installation: Installation, micros: int | None, email: str = "payer@example.com", **members: Any
) -> Any:
    """Return id and headers of a user with this budget."""
    budget = None if micros is None else micros / 10**6
    user = await add_user(installation, email, budget=budget, **members)
    return user["id"], await key_of(installation, user["id"])


async def buy(installation: Installation, me: dict[str, str], tokens: int = 10, **members: Any) -> Any:
    """Send a chat that costs its prompt and so many tokens."""
    return await installation.chat(model="paid", max_tokens=tokens, simulator={"tokens": tokens}, headers=me, **members)


async def left(installation: Installation, user_id: int) -> int | None:
    row = (await installation.rows(UserRow, UserRow.id == user_id))[0]
    return row.budget_micros


async def spent(installation: Installation) -> int:
    return sum(row.amount_micros for row in await installation.rows(ChargeRow))


async def holds(installation: Installation, account: str) -> dict[bytes, bytes]:
    """Return the open holds of an account."""
    found = await installation.state.redis.hgetall(f"sluice:holds:{account}")
    return {job: amount for job, amount in found.items() if job not in (b"=", b"*", b"#")}
