"""Wire types of /v1/models, and the enumerations of routers and providers."""

from decimal import Decimal
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

ModelType = Literal[
    "automatic-speech-recognition",
    "image-text-to-text",
    "image-to-text",
    "text-embeddings-inference",
    "text-generation",
    "text-classification",
    "text-to-speech",
]
ProviderType = Literal["albert", "openai", "mistral", "tei", "vllm", "simulator"]
LoadBalancingStrategy = Literal["shuffle", "least_busy", "weighted", "lowest_carbon"]

TRANSCRIPTION_TYPES: Final = frozenset({"automatic-speech-recognition"})
SPEECH_TYPES: Final = frozenset({"text-to-speech"})
"""A type of Sluice's own: none of OpenGateLLM's speaks."""
OCR_TYPES: Final = frozenset({"image-to-text"})
CHAT_TYPES: Final = frozenset({"text-generation", "image-text-to-text"})
EMBEDDING_TYPES: Final = frozenset({"text-embeddings-inference"})
RERANK_TYPES: Final = frozenset({"text-classification"})
PROVIDER_TYPES_OF: Final[dict[str, frozenset[str]]] = {
    "text-generation": frozenset({"albert", "mistral", "openai", "vllm", "simulator"}),
    "image-text-to-text": frozenset({"albert", "mistral", "openai", "vllm", "simulator"}),
    "text-embeddings-inference": frozenset({"albert", "mistral", "openai", "tei", "vllm", "simulator"}),
    "text-classification": frozenset({"albert", "tei", "vllm", "simulator"}),
    "automatic-speech-recognition": frozenset({"albert", "mistral", "openai", "vllm", "simulator"}),
    "image-to-text": frozenset({"albert", "mistral", "simulator"}),
    "text-to-speech": frozenset({"openai", "vllm", "simulator"}),
}
"""Router type → provider types that can serve it."""
NATIVE_RESPONSES_TYPES: Final = frozenset({"albert", "openai", "vllm"})
"""Provider types that may have a responses route of their own."""
DEFAULT_URL: Final = {
    "albert": "https://albert.api.etalab.gouv.fr/",
    "openai": "https://api.openai.com/",
    "mistral": "https://api.mistral.ai/",
    "simulator": "simulator://local/",
}


class ModelCosts(Struct, kw_only=True):
    """Money per million tokens."""

    prompt_tokens: float
    completion_tokens: float


class Model(Struct, kw_only=True):
    """A router the caller may use."""

    id: str
    created: Annotated[int | str, Meta(description="Unix seconds; in the dialect `vultr` ISO 8601.")]
    owned_by: str
    type: ModelType
    aliases: list[str]
    max_context_length: int | None
    costs: ModelCosts
    object: Literal["model"] = "model"


class ModelList(Struct, kw_only=True):
    """All models of the caller."""

    data: list[Model]
    object: Literal["list"] = "list"


class ChatFeatures(Struct, kw_only=True):
    """What a chat model can do."""

    stream: bool
    tools: bool
    vision: bool


class ChatModel(Struct, kw_only=True):
    """A router for chats that the caller may use."""

    model: str
    id: str
    description: str
    context_length: int | None
    features: ChatFeatures


class ChatModelList(Struct, kw_only=True):
    """The chat models of the caller: those of everybody, and those of his role only."""

    models: list[ChatModel]
    private_models: list[ChatModel]


Price = Annotated[
    Decimal,
    Meta(
        description="Money per million tokens, at most 12 decimals.",
        extra_json_schema={"type": "number", "format": "double", "minimum": 0},
    ),
]
