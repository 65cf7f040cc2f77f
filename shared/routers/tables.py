"""Tables `routers` and `router_names`: public models; names and aliases of all routers share one namespace."""

from sqlmodel import Field, SQLModel

from shared.columns import NEVER_REUSE_IDS, bigint


class RouterRow(SQLModel, table=True):
    __tablename__ = "routers"
    __table_args__ = (NEVER_REUSE_IDS,)

    id: int | None = Field(default=None, primary_key=True)
    name: str
    user_id: int = 0
    type: str
    load_balancing_strategy: str = "shuffle"
    cache_ttl_s: int | None = None
    """Exact answers are kept for so long; null is not at all."""
    cache_charge: str = "free"
    """What an answer from the cache costs: `free`, or `full`, as if the provider had been called."""
    fallback_id: int | None = Field(default=None, foreign_key="routers.id", ondelete="SET NULL")
    price_prompt: str = "0"
    """Decimal money per million tokens."""
    price_completion: str = "0"
    max_context_length: int | None = None
    voices: str | None = None
    """JSON list of `RouterVoice`; null: those that the provider is known to have."""
    accepts_token_ids: bool = True
    """False: a provider gets the text of the ids."""
    token_encoding: str | None = None
    """Vocabulary of the ids; null: that of the model, which is not known here, or the usual one if they are decoded."""
    default_parameters: str | None = None
    """JSON of `DefaultParameters`; null: none."""
    display_name: str | None = None
    description: str = ""
    tools: bool | None = None
    """Whether the model can call tools; null: not known."""
    is_small: bool = False
    """Counted apart in the usage of speech."""
    vector_size: int | None = None
    created_ms: int = bigint()
    updated_ms: int = bigint()


class RouterNameRow(SQLModel, table=True):
    __tablename__ = "router_names"

    name: str = Field(primary_key=True)
    router_id: int = Field(foreign_key="routers.id", ondelete="CASCADE", index=True)
    is_alias: bool
