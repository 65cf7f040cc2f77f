"""Adapters to model servers.

A provider that speaks OpenAI's format is a row, not code; another format is a module here and a line in
`build_adapters`.
"""

from aiohttp import ClientSession

from worker.providers.base import Adapter
from worker.providers.openai_compatible import OpenAICompatible
from worker.providers.simulator import Simulator
from worker.providers.transcribes_by_chat import TranscribesByChat


def build_adapters(http: ClientSession) -> dict[str, Adapter]:
    """Return the adapter of each provider type."""
    openai = OpenAICompatible(http)
    return {
        "openai": openai,
        "vllm": openai,
        "albert": openai,
        "mistral": TranscribesByChat(openai),
        "simulator": Simulator(),
    }
