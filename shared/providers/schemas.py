"""Wire types of /v1/admin/providers."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.chat.parameter_sets import ParameterSetName
from shared.lists import ListQuery, RowId
from shared.models.schemas import ProviderType

Metric = Literal["ttft", "latency", "inflight", "performance"]
Billions = Annotated[float, Meta(ge=0, le=1_000_000, description="Parameters in billions; 0 is unknown.")]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]
UpstreamKey = Annotated[str, Meta(min_length=1, max_length=4096)]
Timeout = Annotated[int, Meta(ge=1, le=3600, description="Seconds.")]
UpstreamModel = Annotated[str, Meta(min_length=1, max_length=255)]
Zone = Annotated[str, Meta(pattern="^[A-Z]{3}$", description="ISO 3166-1 alpha-3, or WOR.")]
Native = Annotated[bool, Meta(description="It has `/v1/responses`; otherwise responses are made of chats.")]
Weight = Annotated[float, Meta(gt=0, le=1_000_000, description="Share of the attempts with the strategy `weighted`.")]
MaxBatch = Annotated[
    int, Meta(ge=1, le=100_000, description="Inputs of one call of an embedding or a reranking; null: found out.")
]
SetName = Annotated[
    ParameterSetName | None,
    Meta(description="Which parameters of chats it takes; null: those of its type and URL."),
]
DeniedParams = Annotated[
    list[Annotated[str, Meta(pattern="^[A-Za-z0-9_.-]{1,64}$")]],
    Meta(max_length=100, description="Parameters of requests that it must not get: 403."),
]
Bits = Annotated[int, Meta(ge=1, le=64, description="Of one weight.")]
Gigabytes = Annotated[float, Meta(ge=1, le=1_000_000, description="Of one GPU.")]
Pue = Annotated[float, Meta(ge=1, le=100, description="Power usage effectiveness of its data centre.")]
Wue = Annotated[float, Meta(ge=0, le=10_000, description="Litres of water per kWh.")]
Joules = Annotated[float, Meta(ge=0, le=1_000_000, description="Measured; replaces the model of its energy.")]
QosLimit = Annotated[float, Meta(ge=0, le=1e12)]


class CreateProviderRequest(Struct, kw_only=True):
    """A new upstream server of a router (`router` or `router_id`)."""

    router: RowId | None = None
    router_id: RowId | None = None
    type: ProviderType
    url: Url | None = None
    key: UpstreamKey | None = None
    timeout: Timeout = 300
    model_name: UpstreamModel
    model_hosting_zone: Zone = "WOR"
    model_total_params: Billions = 0.0
    model_active_params: Billions = 0.0
    quantization_bits: Bits | None = None
    gpu_count: Count | None = None
    gpu_memory_gb: Gigabytes | None = None
    batch_size: Count | None = None
    pue: Pue | None = None
    wue: Wue | None = None
    joules_per_output_token: Joules | None = None
    qos_metric: Metric | None = None
    qos_limit: QosLimit | None = None
    weight: Weight = 1.0
    native_responses: Native = False
    max_batch: MaxBatch | None = None
    parameter_set: SetName = None
    denied_params: DeniedParams = []
    probe: Annotated[bool, Meta(description="False: add it without looking whether it answers.")] = True


class UpdateProviderRequest(Struct, kw_only=True):
    """What is absent stays; null clears what may be null, with `qos_metric` also `qos_limit`."""

    router: RowId | None = None
    router_id: RowId | None = None
    url: Url | None = None
    key: UpstreamKey | UnsetType | None = UNSET
    timeout: Timeout | None = None
    model_name: UpstreamModel | None = None
    model_hosting_zone: Zone | None = None
    model_total_params: Billions | None = None
    model_active_params: Billions | None = None
    quantization_bits: Bits | UnsetType | None = UNSET
    gpu_count: Count | UnsetType | None = UNSET
    gpu_memory_gb: Gigabytes | UnsetType | None = UNSET
    batch_size: Count | UnsetType | None = UNSET
    pue: Pue | UnsetType | None = UNSET
    wue: Wue | UnsetType | None = UNSET
    joules_per_output_token: Joules | UnsetType | None = UNSET
    qos_metric: Metric | UnsetType | None = UNSET
    qos_limit: QosLimit | UnsetType | None = UNSET
    weight: Weight | None = None
    native_responses: Native | None = None
    max_batch: MaxBatch | UnsetType | None = UNSET
    parameter_set: SetName | UnsetType = UNSET
    denied_params: DeniedParams | None = None
    probe: bool = True


class Provider(Struct, kw_only=True):
    """An upstream server; its key is masked."""

    id: int
    router_id: int
    user_id: int
    type: ProviderType
    url: str | None
    key: str | None
    timeout: int
    model_name: str
    model_hosting_zone: str
    model_total_params: float | int
    model_active_params: float | int
    quantization_bits: int | None
    gpu_count: int | None
    gpu_memory_gb: float | None
    batch_size: int | None
    pue: float | None
    wue: float | None
    joules_per_output_token: float | None
    qos_metric: Metric | None
    qos_limit: float | None
    weight: float | int
    native_responses: bool
    max_batch: int | None
    parameter_set: ParameterSetName
    denied_params: list[str]
    created: int
    updated: int
    object: Literal["provider"] = "provider"


class ListProvidersQuery(ListQuery, kw_only=True):
    """`router` and `router_id` are spellings of the same filter."""

    router: RowId | None = None
    router_id: RowId | None = None
