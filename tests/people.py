"""Make roles, users and keys through the API, as an operator does."""

from typing import Any

from tests.installation import Installation

ORGANIZATIONS, ROLES, USERS = "/v1/admin/organizations", "/v1/admin/roles", "/v1/admin/users"
TOKENS, ROUTERS, PROVIDERS, AUDIT = "/v1/admin/tokens", "/v1/admin/routers", "/v1/admin/providers", "/v1/admin/audit"
INFO, KEYS, USAGE, LOGIN = "/v1/me/info", "/v1/me/keys", "/v1/me/usage", "/v1/auth/login"
PASSWORD = "correct horse battery"
USER_ROLE = 2
"""Made at the first start; it has no permission and may use the simulator."""


async def create(installation: Installation, path: str, **body: Any) -> dict[str, Any]:
    """Create something and return it; providers that nobody runs."""
    unseen = {"probe": False} if path == PROVIDERS else {}
    response = await installation.post(path, unseen | body)
    assert response.status == 201, await response.text()
    created: dict[str, Any] = await response.json()
    return created


async def add_user(installation: Installation, email: str = "first@example.com", **members: Any) -> dict[str, Any]:
    """Create a user of the role that was made at the start."""
    return await create(installation, USERS, **({"email": email, "password": PASSWORD, "role": USER_ROLE} | members))


async def key_of(installation: Installation, user_id: int, **members: Any) -> dict[str, str]:
    """Return the headers of a new key of this user."""
    return bearer((await create(installation, TOKENS, **({"name": "k", "user": user_id} | members)))["key"])


async def person(installation: Installation, *permissions: str, email: str = "first@example.com") -> dict[str, str]:
    """Return the headers of a new user with these permissions and no models."""
    role = await create(installation, ROLES, name=f"role of {email}", permissions=list(permissions))
    user = await add_user(installation, email, role=role["id"])
    return await key_of(installation, user["id"])


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def read(installation: Installation, path: str, **options: Any) -> Any:
    """Return what is there."""
    response = await installation.get(path, **options)
    assert response.status == 200, await response.text()
    return await response.json()


async def refused(response: Any) -> tuple[int, str]:
    """Return status and text of a refusal."""
    answer = await response.json()
    assert answer["error"]["message"] == answer["detail"], answer
    return response.status, answer["detail"]


async def log_in(installation: Installation, email: str = "first@example.com", password: str = PASSWORD) -> Any:
    """Return the response of a login."""
    return await installation.client.post(LOGIN, json={"email": email, "password": password})


async def changed(installation: Installation, path: str, body: dict[str, Any], **options: Any) -> None:
    """Patch something that answers 204."""
    response = await installation.patch(path, body, **options)
    assert (response.status, await response.read()) == (204, b"")
