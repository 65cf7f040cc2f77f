"""Adapters to model servers.

A provider that speaks OpenAI's format is a row, not code; another format is a module here and a line in
`build_adapters`.
"""

from aiohttp import ClientSession

from worker.providers.base import Adapter
from worker.providers.mistral import Mistral
from worker.providers.openai_compatible import PATHS, OpenAICompatible
from worker.providers.simulator import Simulator
from worker.providers.tei import TextEmbeddingsInference
from worker.providers.transcribes_by_chat import TranscribesByChat


def build_adapters(http: ClientSession) -> dict[str, Adapter]:
    """Return the adapter of each provider type."""
    return {
        "openai": OpenAICompatible(http),
        "vllm": OpenAICompatible(http, {**PATHS, "rerank": "v2/rerank"}),
        "albert": OpenAICompatible(http, {**PATHS, "rerank": "v1/rerank"}),
        "mistral": TranscribesByChat(Mistral(http)),
        "tei": TextEmbeddingsInference(http),
        "simulator": Simulator(),
    }
