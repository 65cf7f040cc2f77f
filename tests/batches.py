"""Batches as their owners make them."""

import json
from io import BytesIO
from typing import Any

from aiohttp import FormData

from tests.installation import Installation
from tests.waiting import eventually

BATCHES = "/v1/batches"
CHATS = "/v1/chat/completions"


def chat_line(custom_id: str, text: str = "Hello", **members: Any) -> dict[str, Any]:
    body = {"model": "simulator", "messages": [{"role": "user", "content": text}]} | members.pop("body", {})
    return {"custom_id": custom_id, "method": "POST", "url": CHATS, "body": body} | members


def to_jsonl(*lines: dict[str, Any] | str) -> bytes:
    return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()


async def add_input(installation: Installation, data: bytes, **options: Any) -> str:
    """Upload the input of a batch; returns the id of the file."""
    form = FormData()
    form.add_field("purpose", options.get("purpose", "batch"))
    form.add_field("file", BytesIO(data), filename="input.jsonl")
    headers = installation.headers | options.get("headers", {})
    response = await installation.client.post("/v1/files", data=form, headers=headers)
    assert response.status == 200, await response.text()
    return str((await response.json())["id"])


async def send_batch(installation: Installation, data: bytes, **members: Any) -> Any:
    headers = members.pop("headers", {})
    file_id = await add_input(installation, data, headers=headers)
    body = {"input_file_id": file_id, "endpoint": CHATS, "completion_window": "24h"} | members
    return await installation.post(BATCHES, body, headers=headers)


async def make_batch(installation: Installation, *lines: dict[str, Any] | str, **members: Any) -> Any:
    response = await send_batch(installation, to_jsonl(*lines), **members)
    assert response.status == 200, await response.text()
    return await response.json()


async def get_batch(installation: Installation, batch_id: str) -> Any:
    return await (await installation.get(f"{BATCHES}/{batch_id}")).json()


async def ended(installation: Installation, batch_id: str, within_s: float = 30.0) -> Any:
    """Return the batch once it has ended."""

    async def look() -> Any:
        batch = await get_batch(installation, batch_id)
        return batch if batch["status"] in ("completed", "failed", "expired", "cancelled") else None

    return await eventually(look, within_s=within_s)


async def lines_of(installation: Installation, file_id: str | None) -> list[Any]:
    if file_id is None:
        return []
    content = await (await installation.get(f"/v1/files/{file_id}/content")).text()
    return [json.loads(line) for line in content.splitlines()]
