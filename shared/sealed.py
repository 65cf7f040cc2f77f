"""What the database has encrypted."""

from typing import Any, Final

from cryptography.exceptions import InvalidTag
from sqlalchemy import select
from sqlmodel import SQLModel

from shared.database import Database
from shared.idempotency.tables import IdempotencyKeyRow
from shared.keys.tables import KeyRow
from shared.providers.tables import ProviderRow
from shared.secrets import SecretBox
from shared.settings import SettingsError
from shared.webhooks.tables import WebhookEndpointRow

SEALED: Final[tuple[tuple[type[SQLModel], str], ...]] = (
    (ProviderRow, "key_sealed"),
    (KeyRow, "sealed"),
    (WebhookEndpointRow, "secrets_sealed"),
    (WebhookEndpointRow, "headers_sealed"),
    (IdempotencyKeyRow, "body"),
)
"""Every column with encrypted texts."""


async def check_secrets(database: Database, box: SecretBox) -> None:
    """Raise `SettingsError` if there are secrets and none of those looked at, one of each sort, can be read."""
    found: list[bytes] = []
    async with database.read() as session:
        connection = await session.connection()
        for table, name in SEALED:
            rows: Any = table.__table__  # type: ignore[attr-defined]  # SQLModel's types do not know it
            newest = next(iter(rows.primary_key)).desc()
            wanted = select(rows.c[name]).where(rows.c[name].is_not(None)).order_by(newest).limit(1)
            found += (await connection.execute(wanted)).scalars().all()
    if found and not any(_can_open(box, sealed) for sealed in found):
        raise SettingsError("SLUICE_ENCRYPTION_KEY is not the key that the secrets in the database are encrypted with.")


def _can_open(box: SecretBox, sealed: bytes) -> bool:
    try:
        box.open(sealed)
    except InvalidTag:
        return False
    return True
