"""Table `keys`: API keys.  The secret itself is not kept, only its SHA-256; it has 256 random bits."""

from sqlmodel import Field, SQLModel

from shared.columns import NEVER_REUSE_IDS, bigint


class KeyRow(SQLModel, table=True):
    __tablename__ = "keys"
    __table_args__ = (NEVER_REUSE_IDS,)

    id: int | None = Field(default=None, primary_key=True)
    name: str
    user_id: int = Field(foreign_key="users.id", index=True)
    hash: str = Field(unique=True)
    masked: str
    kind: str = "api"
    """`login` is the one key that a login replaces; `subscription` has the two members below."""
    scopes: str | None = None
    """JSON list of what the key reaches; null is everything."""
    dialect: str | None = None
    """Of requests with this key that name none by their path, see `shared.dialects`."""
    subscription_id: str | None = Field(default=None, unique=True, index=True)
    sealed: bytes | None = None
    """The secret, encrypted: a subscription is shown with it."""
    expires_ms: int | None = bigint(default=None)
    created_ms: int = bigint()
    last_used_ms: int | None = bigint(default=None)
    """Exact to a minute."""
