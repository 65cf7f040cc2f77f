"""The API reference, and the pages that need no key."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from api.app import create_app
from api.endpoints import ENDPOINTS
from api.http import Endpoint
from api.openapi import plain_path
from shared.dialects import MOUNTS, mount_of
from tests.conftest import make_settings
from tests.installation import ADMIN_KEY, Installation, open_installation
from tests.servers import RedisServer

each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: f"{e.method} {e.path}")
ROOT = Path(__file__).parents[2]
OPEN = ["/", "/readme", "/docs", "/health", "/health/live", "/status"]


async def test_the_reference_is_valid_openapi(sluice: Installation) -> None:
    response = await sluice.client.get("/openapi.json")

    reference = await response.json()
    assert response.status == 200
    assert response.content_type == "application/json"
    validate(reference)


async def test_the_reference_holds_every_route_and_no_other(sluice: Installation) -> None:
    served = {
        (route.method, plain_path(route.resource.canonical))
        for route in create_app(sluice.state).router.routes()
        if route.resource is not None and route.method != "HEAD" and mount_of(route.resource.canonical) is None
    }

    documented = {(verb.upper(), path) for path, verb, _ in operations(await reference_of(sluice))}
    others = ("/openapi.json", "/console", "/console/{path}", "/docs/", "/docs/reference/")
    assert documented == served - {("GET", path) for path in others}


async def test_what_callers_use_is_served_under_every_mount(sluice: Installation) -> None:
    served = {route.resource.canonical for route in create_app(sluice.state).router.routes() if route.resource}
    reference = await reference_of(sluice)

    mounted = {path for path, _, operation in operations(reference) if "servers" not in operation}
    assert {f"/{mount}/v1/chat/completions" for mount in MOUNTS} <= served
    for path in (plain_path(path) for path in served):
        if mount_of(path) is not None:
            assert "/" + path[1:].partition("/")[2] in mounted, path
    assert not any(path.startswith("/v1/admin") for path in mounted)
    assert [server["url"] for server in reference["servers"]] == ["/", *(f"/{mount}" for mount in MOUNTS)]


async def test_operation_ids_are_unique_and_name_the_handlers(sluice: Installation) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(await reference_of(sluice))]

    assert len(ids) == len(set(ids))
    assert sorted(ids) == sorted(endpoint.handler.__name__ for endpoint in ENDPOINTS)


async def test_every_operation_is_described(sluice: Installation) -> None:
    for path, verb, operation in operations(await reference_of(sluice)):
        assert re.fullmatch(r"[A-Z].*[.:]", operation["summary"].split("\n")[0]), (verb, path)
        assert operation["tags"], (verb, path)


@each_endpoint
def test_every_handler_has_a_docstring(endpoint: Endpoint) -> None:
    assert inspect.getdoc(endpoint.handler)


@each_endpoint
def test_the_parameters_of_a_path_are_those_of_its_handler(endpoint: Endpoint) -> None:
    assert re.findall(r"{(\w+)", endpoint.path) == list(endpoint.path_params)


async def test_all_parameters_are_documented(sluice: Installation) -> None:
    paths = (await reference_of(sluice))["paths"]

    for endpoint in ENDPOINTS:
        operation = paths[plain_path(endpoint.path)][endpoint.method.lower()]
        query = list(endpoint.query.__struct_fields__) if endpoint.query else []
        documented = [(parameter["in"], parameter["name"]) for parameter in operation["parameters"]]
        key = [("header", "Idempotency-Key")] if endpoint.takes_key or endpoint.prepare else []
        assert (
            documented == [("path", name) for name in endpoint.path_params] + [("query", name) for name in query] + key
        )
        has_body = endpoint.body is not None or endpoint.form is not None
        assert ("requestBody" in operation) == has_body, endpoint.path


async def test_every_error_has_the_one_shape(sluice: Installation) -> None:
    for path, verb, operation in operations(await reference_of(sluice)):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorBody"}, (verb, path, status)
                assert "`" in response["description"], (verb, path, status)


async def test_every_operation_tells_what_success_looks_like(sluice: Installation) -> None:
    for path, verb, operation in operations(await reference_of(sluice)):
        statuses = [status for status in operation["responses"] if status.startswith("2")]
        assert statuses, (verb, path)
        for status in statuses:
            assert status == "204" or operation["responses"][status]["content"], (verb, path, status)


async def test_only_open_pages_need_no_key(sluice: Installation) -> None:
    reference = await reference_of(sluice)

    assert [path for path, _, operation in operations(reference) if "security" not in operation] == [
        "/v1/auth/login", "/health", "/health/live", "/status", "/", "/readme", "/docs", "/docs/{page}",
        "/docs/reference/{tag}",
    ]  # fmt: skip


async def test_what_needs_a_key_refuses_a_call_without_one(sluice: Installation) -> None:
    for path, verb, operation in operations(await reference_of(sluice)):
        if "security" in operation:
            response = await sluice.client.request(verb, re.sub(r"{\w+}", "1", path))
            assert response.status == 401, (verb, path)
            assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_chat_documents_answer_stream_and_job(sluice: Installation) -> None:
    responses = (await reference_of(sluice))["paths"]["/v1/chat/completions"]["post"]["responses"]

    assert set(responses["200"]["content"]) == {"application/json", "text/event-stream"}
    assert responses["202"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Job"}


async def test_the_reference_is_the_same_wherever_it_is_served(sluice: Installation) -> None:
    here = await (await sluice.client.get("/openapi.json")).read()
    elsewhere = await (await sluice.client.get("/openapi.json", headers={"Host": "example.com"})).read()

    assert here == elsewhere
    reference = json.loads(here)
    assert all(server["url"].startswith("/") for server in reference.get("servers", []))
    for secret in (sluice.url, str(sluice.state.settings.data_path), ADMIN_KEY):
        assert secret.encode() not in here


@pytest.mark.parametrize("path", OPEN)
async def test_an_open_page_has_the_documented_media_type(sluice: Installation, path: str) -> None:
    response = await sluice.client.get(path)

    documented = (await reference_of(sluice))["paths"][path]["get"]["responses"]["200"]["content"]
    assert list(documented) == [response.content_type]


async def test_the_start_page_is_shown(sluice: Installation) -> None:
    response = await sluice.client.get("/")

    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert await response.read() == (ROOT / "api/pages/index.html").read_bytes()
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


async def test_the_start_page_loads_nothing_from_elsewhere(sluice: Installation) -> None:
    page = await (await sluice.client.get("/")).text()

    assert not re.findall(r"<script|<img|<link|<iframe|@import|url\(", page)


async def test_the_links_of_the_start_page_lead_somewhere(sluice: Installation) -> None:
    page = await (await sluice.client.get("/")).text()

    for link in re.findall(r'href="(/[^"]*)"', page):
        assert (await sluice.get(link)).status == 200, link


async def test_the_readme_is_shown_as_text(sluice: Installation) -> None:
    response = await sluice.client.get("/readme")

    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert await response.read() == (ROOT / "README.md").read_bytes()


@pytest.mark.parametrize("path", ["/health", "/status"])
async def test_health_needs_no_key(sluice: Installation, path: str) -> None:
    response = await sluice.client.get(path)

    assert response.status == 200
    assert await response.json() == {"status": "ok"}


async def test_a_path_that_is_not_there_is_a_404_in_the_one_shape(sluice: Installation) -> None:
    response = await sluice.get("/v1/nothing")

    assert response.status == 404
    assert await response.json() == {
        "error": {"message": "Not Found", "type": "invalid_request_error", "param": None, "code": "not_found"},
        "detail": "Not Found",
    }
    assert response.headers["x-request-id"].startswith("req_")


async def test_a_method_that_is_not_there_is_a_405_that_names_the_others(sluice: Installation) -> None:
    response = await sluice.client.put("/v1/jobs", headers=sluice.headers)

    body = await response.json()
    assert response.status == 405
    assert (body["detail"], body["error"]["code"]) == ("Method Not Allowed", "method_not_allowed")
    assert "GET" in response.headers["Allow"]


async def reference_of(installation: Installation) -> dict[str, Any]:
    """Return the reference."""
    reference: dict[str, Any] = await (await installation.client.get("/openapi.json")).json()
    return reference


def operations(reference: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (path, method, operation) of all operations."""
    return [(path, verb, operation) for path, verbs in reference["paths"].items() for verb, operation in verbs.items()]


async def test_tags_can_be_switched_off_and_hidden(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = make_settings(tmp_path, redis_server, disabled_tags="Vector store, search", hidden_tags="Parse")
    async with open_installation(settings) as sluice:
        paths = (await (await sluice.client.get("/openapi.json")).json())["paths"]
        answers = {
            path: (await sluice.client.get(path, headers=sluice.headers)).status
            for path in ("/v1/vector_store", "/vultr/v1/vector_store", "/v1/search", "/v1/parse-beta", "/v1/models")
        }

    assert list(answers.values()) == [404, 404, 404, 405, 200]
    assert not paths.keys() & {"/v1/vector_store", "/v1/search", "/v1/parse-beta"}
    assert "/v1/models" in paths
