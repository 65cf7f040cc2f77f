"""Read a `config.yaml` of the LiteLLM proxy.

Source: its documentation as of October 2026, pages "Config.yaml", "All settings", "Load Balancing", "Fallbacks",
"Custom Pricing", "Deployments and model groups".
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct
from plans import Plan, Provider, Router, check_form, members_of, number

_ENVIRON: Final = "os.environ/"
_TYPES: Final = {
    "chat": "text-generation", "completion": "text-generation", "responses": "text-generation",
    "embedding": "text-embeddings-inference", "rerank": "text-classification",
    "audio_transcription": "automatic-speech-recognition", "audio_speech": "text-to-speech", "ocr": "image-to-text",
}  # fmt: skip
"""`model_info.mode` → type of the router."""
_OPENAI: Final = "openai"
_PROVIDERS: Final = {
    "openai": _OPENAI, "text-completion-openai": _OPENAI, "custom_openai": _OPENAI, "openai_like": _OPENAI,
    "litellm_proxy": _OPENAI, "xinference": _OPENAI, "lm_studio": _OPENAI, "llamafile": _OPENAI, "ollama": _OPENAI,
    "ollama_chat": _OPENAI, "groq": _OPENAI, "deepseek": _OPENAI, "together_ai": _OPENAI, "openrouter": _OPENAI,
    "fireworks_ai": _OPENAI, "xai": _OPENAI, "nvidia_nim": _OPENAI, "cerebras": _OPENAI, "perplexity": _OPENAI,
    "hosted_vllm": "vllm", "mistral": "mistral",
}  # fmt: skip
"""What stands before the slash of `litellm_params.model` → type of the provider."""
_NEEDS_NO_ADDRESS: Final = {"openai", "mistral", "text-completion-openai"}
_DEFAULT_ADDRESS: Final = {"ollama": "http://localhost:11434", "ollama_chat": "http://localhost:11434"}
_OF_OPENAI: Final = ("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "whisper-", "tts-")
_PARAMETERS: Final = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty",
    "presence_penalty", "stop",
)  # fmt: skip
_STRATEGIES: Final = {"simple-shuffle": "shuffle", "least-busy": "least_busy"}
_PRICES: Final = {"input_cost_per_token": "cost_prompt_tokens", "output_cost_per_token": "cost_completion_tokens"}
_WEIGHTS: Final = ("weight", "rpm", "tpm")
_MOST_WEIGHT: Final = 1_000_000
_LIMIT: Final = "a limit of a deployment; limits belong to roles"
_NO_WEIGHT: Final = "counts only with simple-shuffle, among several deployments that all have one above 0"
_READ: Final = {"model", "api_base", "api_key", "timeout", "max_parallel_requests", "litellm_credential_name"}
_REASONS: Final = {
    "order": "providers have no order; see `fallback` of a router",
    "stream_timeout": "the timeout of a provider is for both",
    "input_cost_per_second": "prices are per token", "output_cost_per_second": "prices are per token",
    "num_retries": "a job has three attempts, or its own `max_attempts`",
    "id": "providers have ids of their own", "base_model": "prices and types are those of the router",
}  # fmt: skip
_SECTIONS: Final = {
    "general_settings.master_key": "set SLUICE_ADMIN_KEY",
    "general_settings.database_url": "set SLUICE_DATABASE_URL, with another database",
    "router_settings.num_retries": _REASONS["num_retries"], "litellm_settings.num_retries": _REASONS["num_retries"],
    "router_settings.redis_host": "set SLUICE_REDIS_URL, with another database or server",
    "litellm_settings.cache": "set `cache_ttl` of the routers whose answers may be kept",
    "litellm_settings.drop_params": "is always so; `Prefer: handling=strict` refuses instead",
    "include": "import those files one by one",
}  # fmt: skip
_HANDLED: Final = {
    "router_settings": {"model_group_alias", "fallbacks", "routing_strategy", "timeout"},
    "litellm_settings": {"fallbacks", "request_timeout"},
}
_SECTIONS_READ: Final = {"model_list", "credential_list", "environment_variables", "general_settings", *_HANDLED}


class _Params(Struct):
    litellm_credential_name: str | None = None


class _Info(Struct):
    mode: str | None = None


class _Deployment(Struct):
    model_name: str | int | float = ""
    litellm_params: _Params | None = None
    model_info: _Info | None = None


class _Credential(Struct):
    credential_name: str
    credential_values: dict[str, Any]


class _Target(Struct):
    model: str


class _Routing(Struct):
    routing_strategy: str = ""
    model_group_alias: dict[str, str | _Target] | None = None
    fallbacks: list[dict[str, list[str]]] | None = None


class _File(Struct):
    model_list: list[_Deployment] | None = None
    credential_list: list[_Credential] | None = None
    router_settings: _Routing | None = None
    litellm_settings: _Routing | None = None


def read(document: dict[str, Any], environ: Mapping[str, str]) -> Plan:
    """Return what the file asks for; raises `ConfigError`."""
    check_form(document, _File)
    plan = Plan()
    variables = {name: str(value) for name, value in _section(document, "environment_variables").items()}
    reader = _Reader(plan, document, {**variables, **environ})
    for place, one in enumerate(document.get("model_list") or []):
        where = f"model_list[{place}]"
        with plan.failing(where):
            reader.read_deployment(where, members_of(one, where))
    reader.finish()
    for section in ("general_settings", "router_settings", "litellm_settings"):
        for name in sorted(_section(document, section).keys() - _HANDLED.get(section, set())):
            where = f"{section}.{name}"
            plan.leave_out(where, _SECTIONS.get(where, "has no counterpart"))
    for name in sorted(document.keys() - _SECTIONS_READ):
        plan.leave_out(name, _SECTIONS.get(name, "has no counterpart"))
    return plan


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    return members_of(document.get(name) or {}, name)


class _Reader:
    """Collects deployments by the name of their model."""

    def __init__(self, plan: Plan, document: dict[str, Any], environ: Mapping[str, str]) -> None:
        self._plan, self._environ = plan, environ
        self._routing = _section(document, "router_settings")
        self._settings = _section(document, "litellm_settings")
        self._credentials = {
            one["credential_name"]: members_of(one["credential_values"], "credential_list")
            for one in document.get("credential_list") or []
        }
        self._weights: dict[str, list[dict[str, float]]] = {}
        """Name of a router → what could be the weights of its providers, in their order."""

    def read_deployment(self, where: str, one: dict[str, Any]) -> None:
        """Add a deployment as a provider of its router, or note why not; raises `ConfigError` before it is added."""
        params = members_of(one.get("litellm_params"), f"{where}.litellm_params")
        info = members_of(one.get("model_info") or {}, f"{where}.model_info")
        params = self._credentials.get(params.get("litellm_credential_name"), {}) | params
        name, missing = str(one.get("model_name", "")), len(self._plan.missing)
        router_type = self._type_of(where, info)
        provider, weights = self._provider_of(where, name, params), self._weights_of(where, params)
        said = _said_of(where, params, info)
        if provider is None or router_type is None or len(self._plan.missing) > missing:
            return
        router = self._plan.routers.setdefault(name, Router(where, {"name": name, "type": router_type}))
        if router.body["type"] != router_type:
            self._plan.leave_out(where, f"the other deployments of {name} are of type {router.body['type']}")
            return
        router.providers.append(Provider(where, provider))
        self._weights.setdefault(name, []).append(weights)
        self._describe(where, router, said)
        self._note(where, params, info)

    def _type_of(self, where: str, info: dict[str, Any]) -> str | None:
        mode = info.get("mode")
        if mode is None:
            self._plan.leave_out(f"{where}.model_info.mode", "is not said, so the type is text-generation")
        elif mode not in _TYPES:
            self._plan.leave_out(where, f"there is no type of router for the mode {mode}")
            return None
        found = _TYPES[mode or "chat"]
        return "image-text-to-text" if found == "text-generation" and info.get("supports_vision") else found

    def _provider_of(self, where: str, name: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """Return the provider, or None if it cannot be one; the reason is noted."""
        prefix, _, model = str(params.get("model", "")).partition("/")
        if not model:
            prefix, model = ("openai" if prefix.startswith(_OF_OPENAI) else ""), prefix
        url = self._filled(f"{where}.litellm_params.api_base", params.get("api_base"))
        reason = None
        if "*" in name or "*" in model:
            reason = "a router has one name; SLUICE_UPSTREAM_URL registers all models of a server"
        elif prefix not in _PROVIDERS:
            reason = f"there is no adapter for {prefix or model}; see /docs/providers for those there are"
        elif url is None and prefix not in _NEEDS_NO_ADDRESS and prefix not in _DEFAULT_ADDRESS:
            reason = f"it has no api_base, and no address of {prefix} is known here"
        if reason:
            self._plan.leave_out(where, reason)
            return None
        body = {"type": _PROVIDERS[prefix], "model_name": model, "url": url or _DEFAULT_ADDRESS.get(prefix)}
        body["key"] = self._filled(f"{where}.litellm_params.api_key", params.get("api_key"))
        for place, timeout in (
            (f"{where}.litellm_params.timeout", params.get("timeout")),
            ("router_settings.timeout", self._routing.get("timeout")),
            ("litellm_settings.request_timeout", self._settings.get("request_timeout")),
        ):
            if timeout:
                body["timeout"] = min(3600, max(1, math.ceil(number(timeout, place))))
                break
        if params.get("max_parallel_requests"):
            body |= {"qos_metric": "inflight", "qos_limit": params["max_parallel_requests"]}
        return {member: value for member, value in body.items() if value is not None}

    def _filled(self, where: str, value: Any) -> str | None:
        """Return a value, or that of the variable it names; notes a variable that is not set."""
        if not isinstance(value, str) or not value.startswith(_ENVIRON):
            return None if value is None else str(value)
        name = value.removeprefix(_ENVIRON)
        if name not in self._environ:
            self._plan.missing.append((where, f"the environment has no {name}"))
        return self._environ.get(name)

    def _weights_of(self, where: str, params: dict[str, Any]) -> dict[str, float]:
        """Return those members that could be the weight of a deployment; raises `ConfigError`."""
        places = {name: f"{where}.litellm_params.{name}" for name in _WEIGHTS}
        filled = {name: self._filled(place, params.get(name)) for name, place in places.items()}
        return {name: float(number(value, places[name])) for name, value in filled.items() if value is not None}

    def _describe(self, where: str, router: Router, said: dict[str, Any]) -> None:
        """Note prices and parameters; what a router has already stays."""
        for member, value in said.items():
            if router.body.setdefault(member, value) != value:
                self._plan.leave_out(
                    f"{where} {member}", f"{router.name} has {router.body[member]} from {router.where}"
                )

    def _note(self, where: str, params: dict[str, Any], info: dict[str, Any]) -> None:
        known = _READ | set(_PRICES) | set(_PARAMETERS) | set(_WEIGHTS)
        for name in sorted(params.keys() - known):
            self._plan.leave_out(f"{where}.litellm_params.{name}", _REASONS.get(name, "has no counterpart"))
        for name in sorted(info.keys() - {"mode", "supports_vision", "supports_function_calling", *_PRICES}):
            self._plan.leave_out(f"{where}.model_info.{name}", _REASONS.get(name, "has no counterpart"))

    def finish(self) -> None:
        """Add what concerns routers as a whole: strategy, weights, aliases, fallbacks."""
        strategy = self._routing.get("routing_strategy", "simple-shuffle")
        if strategy not in _STRATEGIES:
            self._plan.leave_out("router_settings.routing_strategy", f"there is no strategy {strategy}; it is shuffle")
        for router in self._plan.routers.values():
            router.body["load_balancing_strategy"] = _STRATEGIES.get(strategy, "shuffle")
            is_shuffled = router.body["load_balancing_strategy"] == "shuffle" and len(router.providers) > 1
            self._note_weights(router, self._weigh(router) if is_shuffled else None)
        self._add_aliases()
        for where, section in (("router_settings", self._routing), ("litellm_settings", self._settings)):
            self._add_fallbacks(f"{where}.fallbacks", section.get("fallbacks") or [])

    def _weigh(self, router: Router) -> str | None:
        """Use the first of weight, rpm and tpm that all deployments have, as LiteLLM does, and return which."""
        for name in _WEIGHTS:
            weights = [one.get(name, 0.0) for one in self._weights[router.name]]
            if all(weights):
                scale = min(1.0, _MOST_WEIGHT / max(*weights, 1.0))
                router.body["load_balancing_strategy"] = "weighted"
                for provider, weight in zip(router.providers, weights, strict=True):
                    provider.body["weight"] = weight * scale
                return name
        return None

    def _note_weights(self, router: Router, used: str | None) -> None:
        for provider, weights in zip(router.providers, self._weights[router.name], strict=True):
            for name in weights:
                where = f"{provider.where}.litellm_params.{name}"
                if name != "weight":
                    self._plan.leave_out(where, f"{_LIMIT} (here it is the weight)" if name == used else _LIMIT)
                elif name != used:
                    self._plan.leave_out(where, _NO_WEIGHT)

    def _add_aliases(self) -> None:
        for alias, target in members_of(self._routing.get("model_group_alias") or {}, "model_group_alias").items():
            where = f"router_settings.model_group_alias.{alias}"
            name = target["model"] if isinstance(target, dict) else target
            if isinstance(target, dict) and target.get("hidden"):
                self._plan.leave_out(f"{where}.hidden", "lists of models name routers together with their aliases")
            if name in self._plan.routers:
                self._plan.routers[name].body.setdefault("aliases", []).append(alias)
            else:
                self._plan.leave_out(where, f"{name} is not carried over")

    def _can_replace(self, name: str, router: Router) -> bool:
        other = self._plan.routers.get(name)
        return other is not None and other is not router and other.body["type"] == router.body["type"]

    def _add_fallbacks(self, where: str, fallbacks: list[Any]) -> None:
        for one in fallbacks:
            for name, others in members_of(one, where).items():
                router = self._plan.routers.get(name)
                usable = [other for other in others if router is not None and self._can_replace(other, router)]
                if router is not None and usable and router.fallback is None:
                    router.fallback = usable[0]
                for other in others:
                    if router is None or router.fallback != other:
                        self._plan.leave_out(f"{where}.{name}: {other}", "a router has one fallback, of its own type")


def _said_of(where: str, params: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Return what a deployment says of its router, as members of that; raises `ConfigError`."""
    said: dict[str, Any] = {
        ours: float(number(value, f"{where}.{theirs}") * 1_000_000)
        for theirs, ours in _PRICES.items()
        if (value := params.get(theirs, info.get(theirs))) is not None
    }
    if isinstance(info.get("supports_function_calling"), bool):
        said["tools"] = info["supports_function_calling"]
    parameters = {name: params[name] for name in _PARAMETERS if params.get(name) is not None}
    if isinstance(parameters.get("stop"), str):
        parameters["stop"] = [parameters["stop"]]
    if parameters:
        said["default_parameters"] = parameters
    return said
