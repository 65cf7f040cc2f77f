"""What `admin` administers: each noun with its route, its columns and its members, as data.

A member's `kind` says how its text becomes JSON: `text`, `number`, `flag` (true or false), `texts`, `json`;
a noun's name means the id of such an object, told as id or by name.
"""

from typing import Any, Final, Literal, NamedTuple

Kind = Literal[
    "text", "secret", "number", "flag", "texts", "json", "time", "roles", "organizations", "routers", "users"
]


class Member(NamedTuple):
    """One member of the bodies that create or change an object; an option of the command line."""

    name: str
    kind: Kind
    text: str
    needed: bool = False
    """To create it."""
    on: Literal["both", "create", "update"] = "both"
    choices: tuple[str, ...] = ()
    none: Any = None
    """What `none` means."""
    stays: bool = False
    """Once it has a value it can only get another one: null means no change there, as for those that are needed."""


class Noun(NamedTuple):
    """Objects of one kind."""

    name: str
    """On the command line, and of the route unless that has another one."""
    singular: str
    text: str
    columns: tuple[str, ...]
    members: tuple[Member, ...]
    called_by: str = "name"
    """The member by which people know it."""
    route: str = ""
    filters: tuple[Member, ...] = ()
    """Of lists."""
    can_change: bool = True

    @property
    def path(self) -> str:
        """Return its route below `/v1`."""
        return f"/admin/{self.route or self.name}"


_BUDGETS: Final = (
    Member("budget", "number", "money; none is unlimited"),
    Member("carbon_budget", "number", "grams of CO2e per month; none is unlimited"),
)
_MODEL_TYPES: Final = (
    "automatic-speech-recognition", "image-text-to-text", "image-to-text", "text-embeddings-inference",
    "text-generation", "text-classification", "text-to-speech",
)  # fmt: skip

ORGANIZATIONS: Final = Noun(
    name="organizations",
    singular="organization",
    text="tenants",
    columns=("id", "name", "users", "budget", "carbon_budget", "content_policy", "log_days", "shard"),
    members=(
        Member("name", "text", "unique", needed=True),
        *_BUDGETS,
        Member(
            "content_policy", "text", "what the request log shows", choices=("full", "metadata", "none"), none="none"
        ),
        Member("log_days", "number", "how long the request log is kept; none is as long as the settings say"),
        Member(
            "shard", "number", "whose Redis has its jobs; absent: the shard with the fewest organizations", stays=True
        ),
    ),
)
ROLES: Final = Noun(
    name="roles",
    singular="role",
    text="what users may do; see `limits`, too",
    columns=("id", "name", "permissions", "users", "limits"),
    members=(
        Member("name", "text", "unique", needed=True),
        Member(
            "permissions",
            "texts",
            "admin, read_metric, provide_models, read_organization_usage, create_public_collection; none for none",
            none=(),
        ),
    ),
)
USERS: Final = Noun(
    name="users",
    singular="user",
    text="accounts",
    columns=("id", "email", "name", "role", "organization", "budget", "carbon_budget", "priority", "expires"),
    members=(
        Member("email", "text", "to log in with", needed=True),
        Member("name", "text", "of the person", stays=True),
        Member("password", "secret", "at least 12 characters; asked for if it is -", needed=True),
        Member("role", "roles", "id or name", needed=True),
        Member("organization", "organizations", "id or name; none for none"),
        *_BUDGETS,
        Member("expires", "time", "day, time (ISO 8601, UTC) or Unix seconds; none is never"),
        Member("priority", "number", "higher goes first", stays=True),
    ),
    called_by="email",
    filters=(
        Member("role", "roles", "only users with this role"),
        Member("organization", "organizations", "only users of this organization"),
        Member("email", "text", "only this one"),
    ),
)
KEYS: Final = Noun(
    name="keys",
    singular="key",
    text="API keys of users; the secret of a new one is printed once",
    columns=("id", "name", "token", "user", "scopes", "expires", "last_used_at"),
    members=(
        Member("name", "text", "what it is for", needed=True),
        Member("user", "users", "id or email of its owner", needed=True),
        Member("expires", "time", "day, time (ISO 8601, UTC) or Unix seconds; none is as late as possible"),
        Member("scopes", "texts", "inference, jobs, collections, admin; none is everything"),
        Member(
            "dialect", "text", "whose defaults count where several APIs share a path",
            choices=("openai", "vultr", "nec", "inflection"),
        ),
    ),
    route="tokens",
    filters=(Member("user", "users", "only keys of this user"),),
    can_change=False,
)  # fmt: skip
ROUTERS: Final = Noun(
    name="routers",
    singular="router",
    text="public models with their prices",
    columns=(
        "id", "name", "aliases", "type", "load_balancing_strategy", "providers", "cost_prompt_tokens",
        "cost_completion_tokens",
    ),
    members=(
        Member("name", "text", "as callers ask for it", needed=True),
        Member("type", "text", "of model", needed=True, choices=_MODEL_TYPES),
        Member("cost_prompt_tokens", "number", "money per million tokens (0)", stays=True),
        Member("cost_completion_tokens", "number", "money per million tokens (0)", stays=True),
        Member("aliases", "texts", "other names; none for none", none=()),
        Member(
            "load_balancing_strategy", "text", "among its providers",
            choices=("shuffle", "least_busy", "weighted", "lowest_carbon"), stays=True,
        ),
        Member("fallback", "routers", "id or name of the router to ask when all providers are out"),
        Member("cache_ttl", "number", "seconds that exact answers are kept; none is not at all"),
        Member("cache_charge", "text", "what an answer from the cache costs", choices=("free", "full"), stays=True),
        Member("accepts_token_ids", "flag", "whether its providers take token ids", stays=True),
        Member("token_encoding", "text", "vocabulary of token ids"),
        Member("voices", "json", "of a text-to-speech model"),
        Member("default_parameters", "json", "of requests that do not name them, such as '{\"temperature\": 0.5}'"),
        Member("display_name", "text", "in lists of models; none is its name"),
        Member("description", "text", "in lists of models", none=""),
        Member("tools", "flag", "whether the model can call tools; none is not known"),
        Member("small", "flag", "of a model that speaks: its characters are counted apart", stays=True),
    ),
)  # fmt: skip
PROVIDERS: Final = Noun(
    name="providers",
    singular="provider",
    text="upstream servers of routers; see `health`, too",
    columns=("id", "router_id", "type", "model_name", "url", "qos_metric", "qos_limit", "weight", "timeout"),
    members=(
        Member("router", "routers", "id or name", needed=True),
        Member(
            "type", "text", "wire format", needed=True, on="create",
            choices=("albert", "openai", "mistral", "tei", "vllm", "simulator"),
        ),
        Member("model_name", "text", "as the provider calls it", needed=True),
        Member("url", "text", "without /v1", stays=True),
        Member("key", "secret", "of the provider; asked for if it is -; none for none"),
        Member("timeout", "number", "seconds (300)", stays=True),
        Member("model_hosting_zone", "text", "ISO 3166-1 alpha-3, or WOR (WOR)", stays=True),
        Member("model_total_params", "number", "billions", stays=True),
        Member("model_active_params", "number", "billions", stays=True),
        Member("quantization_bits", "number", "of the weights"),
        Member("gpu_count", "number", "of one instance"),
        Member("gpu_memory_gb", "number", "of one GPU"),
        Member("batch_size", "number", "requests that run together"),
        Member("pue", "number", "power usage effectiveness"),
        Member("wue", "number", "liters of water per kWh"),
        Member("joules_per_output_token", "number", "measured; replaces the model of energy; none is modelled"),
        Member(
            "qos_metric", "text", "what `qos_limit` limits",
            choices=("ttft", "latency", "inflight", "performance", "none"),
        ),
        Member("qos_limit", "number", "ms, attempts, or tokens per second"),
        Member("weight", "number", "share of the attempts with the strategy `weighted` (1)", stays=True),
        Member("native_responses", "flag", "whether it has /v1/responses", stays=True),
        Member("max_batch", "number", "inputs of one call; none is found out"),
        Member(
            "parameter_set", "text", "what it takes of a chat; none goes by its type",
            choices=("all", "openai", "mistral", "none"),
        ),
        Member("denied_params", "texts", "parameters of chats that are refused; none for none", none=()),
        Member("probe", "flag", "false: do not look whether it answers", stays=True),
    ),
    called_by="model_name",
    filters=(Member("router", "routers", "only providers of this router"),),
)  # fmt: skip

NOUNS: Final = {noun.name: noun for noun in (ORGANIZATIONS, ROLES, USERS, KEYS, ROUTERS, PROVIDERS)}
