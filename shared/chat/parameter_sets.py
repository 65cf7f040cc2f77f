"""Parameter sets: what a chat may have that goes to a provider, as data of the provider's row.

    all       engines and servers that speak OpenAI's format: the body goes on as received
    openai    OpenAI itself
    mistral   Mistral, which refuses what it does not know

What a set lacks is dropped if it is only a hint, and refused if it would change the meaning of the answer.  Sources:
Inflection Inference API 1.0.0; OpenAI and Mistral API references, "Chat Completions".
"""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from shared.models.schemas import DEFAULT_URL

ParameterSetName = Literal["all", "openai", "mistral"]
ALL: Final = "all"


class ParameterSet(Struct, frozen=True, kw_only=True):
    """What a provider's API has."""

    taken: frozenset[str]
    """Members of a chat, in OpenAI's names; also those that are said in another way."""
    roles: Mapping[str, str] = {}
    """Role that it does not know → the one in its place."""
    wants_one_system: bool = False
    """Whether it takes one system message only, before all others."""
    knows_functions: bool = False
    """Whether it still has the role `function`."""


_COMMON: Final = frozenset(
    {
        "model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stream", "stop", "seed",
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "n", "frequency_penalty", "presence_penalty",
        "prediction", "guided_json",
    }
)  # fmt: skip
PARAMETER_SETS: Final[Mapping[str, ParameterSet]] = {
    "openai": ParameterSet(
        taken=_COMMON
        | {
            "audio", "function_call", "functions", "logit_bias", "logprobs", "metadata", "modalities",
            "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "safety_identifier", "service_tier",
            "store", "stream_options", "top_logprobs", "user", "verbosity", "web_search_options",
        },
        knows_functions=True,
    ),
    "mistral": ParameterSet(
        taken=_COMMON | {"random_seed", "prompt_mode", "safe_prompt"},
        roles={"developer": "system"},
        wants_one_system=True,
    ),
}  # fmt: skip
"""All but `all`, which has everything."""
_USUAL: Final = {"mistral": "mistral", "tei": "openai"}


def usual_set(provider_type: str, url: str) -> str:
    """Return the parameter set of a provider whose operator named none."""
    if provider_type == "openai" and url == DEFAULT_URL["openai"]:
        return "openai"
    return _USUAL.get(provider_type, ALL)
