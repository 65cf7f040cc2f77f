"""What a configuration of another gateway asks for, in the terms of the API; and carrying it out."""

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
from client import Client, ClientError


class ConfigError(ClientError):
    """The file is no configuration of that kind."""


@dataclass
class Provider:
    """A provider as `POST /v1/admin/providers` takes it, without its router; `where` is its place in the file."""

    where: str
    body: dict[str, Any]


@dataclass
class Router:
    """A router as `POST /v1/admin/routers` takes it; `fallback` is the name of another one."""

    where: str
    body: dict[str, Any]
    providers: list[Provider] = field(default_factory=list)
    fallback: str | None = None

    @property
    def name(self) -> str:
        """Return the public name of the model."""
        return str(self.body["name"])


@dataclass
class Plan:
    """All of it; `left_out` is (place in the file, why)."""

    routers: dict[str, Router] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    """What has to be put right before the import can be whole, such as a variable that is not set."""

    def leave_out(self, where: str, why: str) -> None:
        """Note what is not carried over."""
        self.left_out.append((where, why))

    @contextmanager
    def failing(self, where: str) -> Iterator[None]:
        """Note a `ConfigError` of this part of the file, so that the other parts are carried over."""
        try:
            yield
        except ConfigError as error:
            self.missing.append((where, str(error).removeprefix(f"{where}.")))


def number(value: Any, where: str) -> Decimal:
    """Return a number of a file as it is written there; raises `ConfigError`."""
    try:
        found = Decimal(str(value))
    except ArithmeticError:
        found = Decimal("nan")
    if not (found.is_finite() and math.isfinite(found)):  # 1e999 is no float
        raise ConfigError(f"{where}: {value!r} is no number.")
    return found


def check_form(document: dict[str, Any], form: Any) -> None:
    """Raise `ConfigError` unless the parts of a file that decide how it is read have this form."""
    try:
        msgspec.convert(document, form, str_keys=True)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error).replace("`$.", "`")) from None


def members_of(value: Any, where: str) -> dict[str, Any]:
    """Return the members of a part of a file; raises `ConfigError` if it has none."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected members, found {type(value).__name__}.")
    return {str(name): one for name, one in value.items()}


@dataclass
class Importer:
    """Carries out a plan and says of each part what became of it; nothing is changed in a dry run."""

    client: Client
    is_dry: bool
    probes: bool
    roles: list[int]
    failures: int = 0
    _ids: dict[str, int] = field(default_factory=dict)

    async def run(self, plan: Plan) -> int:
        """Return how much failed."""
        known = {name: one for one in await self._all("/admin/routers") for name in (one["name"], *one["aliases"])}
        new: list[int] = []
        for router in plan.routers.values():
            if router.name in known:
                self._ids[router.name] = known[router.name]["id"]
                _say(router.where, f"router {router.name}", "exists already, left as it is")
            elif (
                await self._try(router.where, f"router {router.name}", self._create_router(router)) and not self.is_dry
            ):
                new.append(self._ids[router.name])
            await self._add_providers(router)
        for router in plan.routers.values():
            await self._set_fallback(router)
        for role in self.roles:
            await self._try("--grant", f"role {role}", self._grant(role, new))
        for where, why in plan.missing:
            self.failures += 1
            _say(where, "FAILED", why)
        for where, why in plan.left_out:
            _say(where, "not carried over", why)
        return self.failures

    async def _create_router(self, router: Router) -> None:
        if not self.is_dry:
            self._ids[router.name] = (await self.client.ask("POST", "/admin/routers", json=router.body))["id"]

    async def _add_providers(self, router: Router) -> None:
        router_id = self._ids.get(router.name)
        if router_id is None and not self.is_dry:
            return
        there = [] if router_id is None else await self._all("/admin/providers", router=router_id)
        for provider in router.providers:
            what = f"provider {provider.body['model_name']} ({provider.body['type']}) of {router.name}"
            if any(_is_same(one, provider.body) for one in there):
                _say(provider.where, what, "exists already, left as it is")
            else:
                body = provider.body | {"router": router_id, "probe": self.probes}
                await self._try(provider.where, what, self._create("/admin/providers", body))

    async def _set_fallback(self, router: Router) -> None:
        if router.fallback is None or (router.name not in self._ids and not self.is_dry):
            return
        what = f"fallback of {router.name}: {router.fallback}"
        await self._try(router.where, what, self._patch_fallback(router))

    async def _patch_fallback(self, router: Router) -> None:
        if not self.is_dry:
            if router.fallback not in self._ids:
                raise ClientError("that router is not there")
            path = f"/admin/routers/{self._ids[router.name]}"
            await self.client.ask("PATCH", path, json={"fallback": self._ids[router.fallback]})

    async def _grant(self, role: int, routers: list[int]) -> None:
        limits = (await self.client.ask("GET", f"/admin/roles/{role}"))["limits"]
        kept = [{"router": one["router"], "type": one["type"], "value": one["value"]} for one in limits]
        added = [{"router": one, "type": "rpm", "value": None} for one in routers]
        if not self.is_dry:
            await self.client.ask("PATCH", f"/admin/roles/{role}", json={"limits": kept + added})

    async def _create(self, path: str, body: dict[str, Any]) -> None:
        if not self.is_dry:
            await self.client.ask("POST", path, json=body)

    async def _try(self, where: str, what: str, doing: Awaitable[None]) -> bool:
        try:
            await doing
        except ClientError as error:
            self.failures += 1
            _say(where, what, f"FAILED: {error}")
            return False
        _say(where, what, "would be made" if self.is_dry else "made")
        return True

    async def _all(self, path: str, **query: int) -> list[Any]:
        found: list[Any] = []
        while True:
            page = await self.client.ask("GET", path, params=query | {"limit": 100, "offset": len(found)})
            found += page["data"]
            if len(found) >= page["total"] or not page["data"]:
                return found


def _is_same(there: Any, wanted: dict[str, Any]) -> bool:
    """Return whether a provider is the wanted one; addresses are kept without `/v1`."""
    url = wanted.get("url")
    is_there = url is None or there["url"] == url.rstrip("/").removesuffix("/v1").rstrip("/") + "/"
    return is_there and (there["type"], there["model_name"]) == (wanted["type"], wanted["model_name"])


def _say(where: str, what: str, outcome: str) -> None:
    print(f"{where}: {what}: {outcome}")


Read = Callable[[dict[str, Any], Mapping[str, str]], Plan]
"""Members of a file and the environment → plan."""
