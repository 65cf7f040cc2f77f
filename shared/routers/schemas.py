"""Wire types of /v1/admin/routers."""

from decimal import Decimal
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.lists import RowId
from shared.models.schemas import LoadBalancingStrategy, ModelType, Price

CacheTtl = Annotated[
    int, Meta(ge=1, le=30 * 86_400, description="Seconds that exact answers are kept; null is not at all.")
]
CacheCharge = Literal["free", "full"]
"""What an answer from the cache costs."""
Alias = Annotated[str, Meta(min_length=1, max_length=64)]


class RouterVoice(Struct, frozen=True, kw_only=True):
    """A voice of a model that speaks; without a name it is called by its id."""

    id: Annotated[str, Meta(min_length=1, max_length=255)]
    name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    language: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


Voices = Annotated[
    list[RouterVoice], Meta(min_length=1, max_length=1000, description="Of a text-to-speech router; null: not known.")
]


TokenEncoding = Annotated[
    str, Meta(min_length=1, max_length=64, description="Vocabulary of token ids: cl100k_base, o200k_base, or a file.")
]


class DefaultParameters(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Parameters of chats that leave them out; those of the request go first."""

    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    stop: Annotated[list[Annotated[str, Meta(min_length=1, max_length=255)]], Meta(max_length=4)] | None = None


DisplayName = Annotated[str, Meta(min_length=1, max_length=255, description="Of lists of models; null: the name.")]
Description = Annotated[str, Meta(max_length=2000)]
Tools = Annotated[bool, Meta(description="Whether the model can call tools; null: not known.")]
Small = Annotated[bool, Meta(description="Of a model that speaks: its characters are counted apart in the usage.")]


class CreateRouterRequest(Struct, kw_only=True):
    """A new public model; prices are money per million tokens; `fallback` is asked when all its providers are out."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    type: ModelType
    aliases: Annotated[list[Alias], Meta(max_length=100)] = []
    load_balancing_strategy: LoadBalancingStrategy = "shuffle"
    fallback: RowId | None = None
    cache_ttl: CacheTtl | None = None
    cache_charge: CacheCharge = "free"
    voices: Voices | None = None
    accepts_token_ids: Annotated[
        bool | None,
        Meta(description="Token ids go to the providers unchanged, not as text; null: unless the model embeds."),
    ] = None
    token_encoding: TokenEncoding | None = None
    default_parameters: DefaultParameters | None = None
    display_name: DisplayName | None = None
    description: Description = ""
    tools: Tools | None = None
    small: Small = False
    cost_prompt_tokens: Price = Decimal(0)
    cost_completion_tokens: Price = Decimal(0)


class UpdateRouterRequest(Struct, kw_only=True):
    """What is absent or null stays, but null removes what may be null; `aliases` are replaced as a whole."""

    name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    type: ModelType | None = None
    aliases: Annotated[list[Alias], Meta(max_length=100)] | None = None
    load_balancing_strategy: LoadBalancingStrategy | None = None
    fallback: RowId | UnsetType | None = UNSET
    cache_ttl: CacheTtl | UnsetType | None = UNSET
    cache_charge: CacheCharge | None = None
    voices: Voices | UnsetType | None = UNSET
    accepts_token_ids: bool | None = None
    token_encoding: TokenEncoding | UnsetType | None = UNSET
    default_parameters: DefaultParameters | UnsetType | None = UNSET
    display_name: DisplayName | UnsetType | None = UNSET
    description: Description | None = None
    tools: Tools | UnsetType | None = UNSET
    small: Small | None = None
    cost_prompt_tokens: Price | None = None
    cost_completion_tokens: Price | None = None


class Router(Struct, kw_only=True):
    """A public model and how it is served."""

    id: int
    name: str
    user_id: int
    type: ModelType
    aliases: list[str]
    load_balancing_strategy: LoadBalancingStrategy
    fallback: int | None
    cache_ttl: int | None
    cache_charge: CacheCharge
    voices: list[RouterVoice] | None
    accepts_token_ids: bool
    token_encoding: str | None
    default_parameters: DefaultParameters
    display_name: str | None
    description: str
    tools: bool | None
    small: bool
    vector_size: int | None
    max_context_length: int | None
    cost_prompt_tokens: float
    cost_completion_tokens: float
    providers: int
    created: int
    updated: int
    object: Literal["router"] = "router"
