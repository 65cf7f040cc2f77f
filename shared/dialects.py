"""What differs between APIs that share a path, as one table.

A request's dialect is that of its route if only one API has it, else that of the mount it came by (`/vultr`, `/nec`,
`/inflection`), else that of the calling key, else `openai`.  A parameter that is absent from a request is taken from
the router's `default_parameters`, then from here; what is in neither is left to the provider.  The stored request
stays as it was sent.

Sources: OpenGateLLM API; Vultr Inference API 1.2.0 and 1.3.0; NEC Generative AI API 1.0; Inflection Inference
API 1.0.0.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from msgspec import Struct

Dialect = Literal["openai", "vultr", "nec", "inflection"]
OPENAI: Final = "openai"
VULTR: Final = "vultr"
NEC: Final = "nec"
INFLECTION: Final = "inflection"
INFLECTION_LEGACY: Final = "inflection-legacy"
"""Of Inflection's older chat route: a subset of its dialect, which no key and no mount has."""
MOUNTS: Final[Mapping[str, Dialect]] = {VULTR: VULTR, NEC: NEC, INFLECTION: INFLECTION}


class Rules(Struct, frozen=True, kw_only=True):
    """One row of the table."""

    title: str
    chat_defaults: Mapping[str, Any] = {}
    """Parameters of chats that are sent to the provider if the request leaves them out."""
    documented: Mapping[str, Any] = {}
    """Defaults that its description names and that are left to the provider all the same."""
    max_stops: int = 16
    max_top_k: float | None = None
    """None: no limit, and -1 passes."""
    max_seed: int | None = None
    """None: any integer, also -1."""
    refuses_functions: bool = False
    """`functions` and `function_call` are refused instead of passed on."""
    is_exact: bool = False
    """Requests are checked as its description says: any role and short forms of parts pass, what is wrong does not."""
    links_tool_calls: bool = False
    """Ids of tool calls are completed and checked."""
    takes_only: frozenset[str] | None = None
    """Members of a chat that are used; the others are dropped.  None: all."""


_VULTR_1_2_0: Final = {"max_tokens": 512, "temperature": 0.8, "top_k": 40, "top_p": 0.9}
_VULTR_1_3_0: Final = {
    "max_tokens": 512, "temperature": 1, "top_p": 1, "n": 1, "frequency_penalty": 0, "presence_penalty": 0,
}  # fmt: skip
_NEC: Final = {"temperature": 1, "top_p": 1, "n": 1, "frequency_penalty": 0, "presence_penalty": 0}
_LEGACY_MEMBERS: Final = frozenset(
    {"model", "messages", "temperature", "max_tokens", "top_p", "tools", "response_format", "stream"}
)
RULES: Final[Mapping[str, Rules]] = {
    OPENAI: Rules(title="OpenAI, OpenGateLLM (the usual one)", documented={"temperature": 0.7, "top_p": 1}),
    VULTR: Rules(title="Vultr 1.2.0", chat_defaults=_VULTR_1_2_0, max_top_k=100, links_tool_calls=True),
    "vultr-1.3.0": Rules(
        title="Vultr with `SLUICE_VULTR_DEFAULTS=1.3.0`",
        chat_defaults=_VULTR_1_3_0,
        max_top_k=100,
        links_tool_calls=True,
    ),
    NEC: Rules(title="NEC", chat_defaults=_NEC, max_stops=4, refuses_functions=True),
    INFLECTION: Rules(title="Inflection", is_exact=True, max_seed=2**32 - 1),
    INFLECTION_LEGACY: Rules(
        title="Inflection, older chat route", is_exact=True, max_seed=2**32 - 1, takes_only=_LEGACY_MEMBERS
    ),
}
_SAMPLING: Final = ("max_tokens", "temperature", "top_p", "top_k", "n", "frequency_penalty", "presence_penalty")


def rules_of(dialect: str, vultr_defaults: str) -> Rules:
    """Return what holds in a dialect, given which defaults of Vultr the installation has."""
    return RULES["vultr-1.3.0" if dialect == VULTR and vultr_defaults == "1.3.0" else dialect]


def chat_defaults(rules: Rules, router: Mapping[str, Any], given: Iterable[str]) -> dict[str, Any]:
    """Return the parameters that a chat with these members leaves to its router's defaults and to its dialect's."""
    names = set(given)
    if "max_completion_tokens" in names:
        names.add("max_tokens")  # two spellings of one parameter
    return {name: value for name, value in {**rules.chat_defaults, **router}.items() if name not in names}


def mount_of(path: str) -> Dialect | None:
    """Return the dialect of the mount that a path begins with."""
    first = path[1:].partition("/")[0]
    return MOUNTS.get(first)


def split_mount(path: str) -> tuple[Dialect | None, str]:
    """Return the dialect of the mount that a path begins with, and the path behind it."""
    mount = mount_of(path)
    return (None, path) if mount is None else (mount, path.removeprefix(f"/{mount}"))


def describe_table() -> str:
    """Return the table as Markdown, for the reference."""
    names = (*_SAMPLING, "seed", "stop", "function_call")
    lines = ["| dialect | " + " | ".join(f"`{name}`" for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for rules in RULES.values():
        lines += [f"| {rules.title} | " + " | ".join(_cell(rules, name) for name in names) + " |"]
    return "\n".join(lines)


def _cell(rules: Rules, name: str) -> str:
    if rules.takes_only is not None and name not in rules.takes_only:
        return "dropped"
    if name == "seed":
        return "any" if rules.max_seed is None else f"0..{rules.max_seed}"
    if name == "stop":
        return f"≤ {rules.max_stops}"
    if name == "function_call":
        return "refused" if rules.refuses_functions else "passed on"
    shown = str(rules.chat_defaults.get(name, "–"))
    if name in rules.documented:
        return f"{shown} ({rules.documented[name]} in OpenGateLLM's description)"
    return f"{shown} (0..{rules.max_top_k:.0f})" if name == "top_k" and rules.max_top_k is not None else shown
