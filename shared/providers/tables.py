"""Table `providers`: upstream servers of routers.  `key_sealed` is encrypted, see `shared.secrets`."""

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from shared.columns import NEVER_REUSE_IDS, bigint


class ProviderRow(SQLModel, table=True):
    __tablename__ = "providers"
    __table_args__ = (UniqueConstraint("router_id", "url", "model_name"), NEVER_REUSE_IDS)

    id: int | None = Field(default=None, primary_key=True)
    router_id: int = Field(foreign_key="routers.id", ondelete="CASCADE", index=True)
    user_id: int = 0
    type: str
    url: str
    key_sealed: bytes | None = None
    key_masked: str | None = None
    timeout_s: int = 300
    model_name: str
    model_hosting_zone: str = "WOR"
    model_total_params: float = 0.0
    """Billions; 0 is unknown."""
    model_active_params: float = 0.0
    quantization_bits: int | None = None
    gpu_count: int | None = None
    gpu_memory_gb: float | None = None
    batch_size: int | None = None
    pue: float | None = None
    wue: float | None = None
    joules_per_output_token: float | None = None
    qos_metric: str | None = None
    qos_limit: float | None = None
    weight: float = 1.0
    native_responses: bool = False
    max_batch: int | None = None
    """Inputs of one call of an embedding or a reranking; null: it is found out."""
    parameter_set: str | None = None
    """Null: the usual one of its type."""
    denied_params: str | None = None
    """JSON list of parameters of requests that it must not get."""
    max_context_length: int | None = None
    vector_size: int | None = None
    created_ms: int = bigint()
    updated_ms: int = bigint()
