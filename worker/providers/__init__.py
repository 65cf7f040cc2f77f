"""Adapters to model servers.

A provider that speaks OpenAI's format is a row, not code; another format is a module here and a line in
`build_adapters`.
"""

from typing import TYPE_CHECKING

from aiohttp import ClientSession

from worker.providers.base import Adapter
from worker.providers.mistral import Mistral
from worker.providers.openai_compatible import PATHS, OpenAICompatible
from worker.providers.simulator import Simulator
from worker.providers.tei import TextEmbeddingsInference
from worker.providers.traced import Traced
from worker.providers.transcribes_by_chat import TranscribesByChat

if TYPE_CHECKING:
    from shared.tracing.tracer import Tracer


def build_adapters(
    http: ClientSession, tracer: "Tracer | None" = None, *, tells_providers: bool = False
) -> dict[str, Adapter]:
    """Return the adapter of each provider type; with a tracer, each of their calls is a span."""
    adapters: dict[str, Adapter] = {
        "openai": OpenAICompatible(http),
        "vllm": OpenAICompatible(http, {**PATHS, "rerank": "v2/rerank"}),
        "albert": OpenAICompatible(http, {**PATHS, "rerank": "v1/rerank"}),
        "mistral": TranscribesByChat(Mistral(http)),
        "tei": TextEmbeddingsInference(http),
        "simulator": Simulator(),
    }
    if tracer is None:
        return adapters
    return {name: Traced(one, tracer, tells_provider=tells_providers) for name, one in adapters.items()}
