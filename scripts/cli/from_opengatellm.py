"""Read a `config.yml` of OpenGateLLM.

Source: its config.example.yml (version 0.4.7) and the classes that read it, `api/schemas/core/configuration.py`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct
from plans import Plan, Provider, Router, check_form, members_of, number

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_OF_ROUTERS: Final = ("name", "type", "aliases", "load_balancing_strategy")
_OF_PROVIDERS: Final = (
    "type", "url", "key", "timeout", "model_name", "model_hosting_zone", "model_total_params", "model_active_params",
    "qos_metric", "qos_limit",
)  # fmt: skip
_PRICES: Final = ("cost_prompt_tokens", "cost_completion_tokens")
_AS_SETTING: Final = {
    "settings.app_title": "SLUICE_APP_TITLE",
    "settings.rate_limiting_strategy": "SLUICE_RATE_LIMITING_STRATEGY",
    "settings.vector_store_model": "SLUICE_VECTOR_STORE_MODEL",
    "settings.auth_key_max_expiration_days": "SLUICE_KEY_MAX_EXPIRATION_DAYS",
    "settings.auth_login_session_duration": "SLUICE_LOGIN_KEY_DURATION_S",
    "dependencies.elasticsearch": "SLUICE_INDEX_LANGUAGE for its index_language; chunks are kept in the database",
    "dependencies.postgres": "SLUICE_DATABASE_URL, with another database",
    "dependencies.redis": "SLUICE_REDIS_URL, with another database or server",
}


class _Model(Struct):
    name: str
    providers: list[dict[str, Any]] | None = None


class _File(Struct):
    models: list[_Model] | None = None


def read(document: dict[str, Any], environ: Mapping[str, str]) -> Plan:
    """Return what the file asks for; raises `ConfigError`."""
    check_form(document, _File)
    plan = Plan()
    for place, one in enumerate(document.get("models") or []):
        where = f"models[{place}]"
        with plan.failing(where):
            _read_model(plan, where, members_of(one, where), environ)
    for section in ("dependencies", "settings"):
        for name in members_of(document.get(section) or {}, section):
            where = f"{section}.{name}"
            setting = _AS_SETTING.get(where)
            plan.leave_out(where, f"set {setting}" if setting else "belongs to the server, not to its models")
    return plan


def _read_model(plan: Plan, where: str, model: dict[str, Any], environ: Mapping[str, str]) -> None:
    body = {name: _filled(plan, where, model[name], environ) for name in _OF_ROUTERS if model.get(name) is not None}
    for name in _PRICES:
        if model.get(name) is not None:
            body[name] = float(number(model[name], f"{where}.{name}"))
    router = Router(where, body)
    for place, one in enumerate(model.get("providers") or []):
        at = f"{where}.providers[{place}]"
        _read_provider(plan, router, at, members_of(one, at), environ)
    plan.routers[router.name] = router
    for name in sorted(model.keys() - {*_OF_ROUTERS, *_PRICES, "providers"}):
        plan.leave_out(f"{where}.{name}", "routers have no such member")


def _read_provider(plan: Plan, router: Router, where: str, one: dict[str, Any], environ: Mapping[str, str]) -> None:
    if one.get("basic_auth") is not None:
        plan.leave_out(where, "providers are called with a bearer key, not with a name and a password")
        return
    missing = len(plan.missing)
    body = {
        name: _filled(plan, f"{where}.{name}", one[name], environ)
        for name in _OF_PROVIDERS
        if one.get(name) is not None
    }
    if len(plan.missing) == missing:
        router.providers.append(Provider(where, body))
    for name in sorted(one.keys() - {*_OF_PROVIDERS, "basic_auth"}):
        plan.leave_out(f"{where}.{name}", "providers have no such member")


def _filled(plan: Plan, where: str, value: Any, environ: Mapping[str, str]) -> Any:
    """Return a value with `${NAME}` and `${NAME:-default}` replaced; notes variables that are not set."""
    if isinstance(value, list):
        return [_filled(plan, where, one, environ) for one in value]
    if not isinstance(value, str):
        return value

    def fill(match: "re.Match[str]") -> str:
        name, default = match.groups()
        if name not in environ and default is None:
            plan.missing.append((where, f"the environment has no {name}"))
        return environ.get(name) or default or ""

    return _VARIABLE.sub(fill, value)
