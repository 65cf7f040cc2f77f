"""Two organizations, one in each of two shards."""

from aiohttp import ClientSession

from tests.faults.processes import Processes
from tests.people import ORGANIZATIONS, PASSWORD, TOKENS, USER_ROLE, USERS

Keys = dict[int, dict[str, str]]
"""Shard to headers of a user whose organization is there."""


async def add_tenants(processes: Processes) -> Keys:
    keys: Keys = {}
    async with ClientSession(processes.url, headers=processes.headers) as http:
        for shard in (0, 1):
            async with http.post(ORGANIZATIONS, json={"name": f"of {shard}", "shard": shard}) as made:
                organization = (await made.json())["id"]
            user = {"email": f"{shard}@example.com", "password": PASSWORD, "role": USER_ROLE}
            async with http.post(USERS, json=user | {"organization": organization}) as made:
                user_id = (await made.json())["id"]
            async with http.post(TOKENS, json={"name": "k", "user": user_id}) as made:
                keys[shard] = {"Authorization": f"Bearer {(await made.json())['key']}"}
    return keys
