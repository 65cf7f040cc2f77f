"""An S3-compatible store with behaviour, over real HTTP: objects, uploads in parts, lists."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.test_utils import TestServer


class ObjectServer:
    """Keeps objects in memory; checks no signatures."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:  # noqa: PLR0911  # one per operation
        key, query = request.match_info["key"], request.query
        match request.method:
            case "POST" if "uploads" in query:
                self.parts[key] = {}
                return _xml(
                    f"<InitiateMultipartUploadResult><UploadId>{key}</UploadId></InitiateMultipartUploadResult>"
                )
            case "PUT" if "partNumber" in query:
                self.parts[key][int(query["partNumber"])] = await request.read()
                return web.Response(headers={"ETag": '"part"'})
            case "POST" if "delete" in query:
                for name in re.findall("<Key>(.*?)</Key>", await request.text()):
                    self.objects.pop(name, None)
                return _xml("<DeleteResult></DeleteResult>")
            case "POST":
                parts = self.parts.pop(key)
                self.objects[key] = b"".join(parts[number] for number in sorted(parts))
                return _xml('<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>')
            case "DELETE" if "uploadId" in query:
                self.parts.pop(key, None)
                return web.Response(status=204)
            case "PUT":
                self.objects[key] = await request.read()
                return web.Response(headers={"ETag": '"1"'})
            case "GET" if "list-type" in query:
                return _xml(self._list(query.get("prefix", "")))
            case "GET" if key in self.objects:
                headers = {"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
                return web.Response(body=self.objects[key], headers=headers)
        return web.Response(status=404)

    def _list(self, prefix: str) -> str:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        found = "".join(
            f'<Contents><Key>{key}</Key><LastModified>{now}</LastModified><ETag>"1"</ETag><Size>1</Size></Contents>'
            for key in sorted(self.objects)
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"


def _xml(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/xml")


@asynccontextmanager
async def serve_objects() -> AsyncIterator[ObjectServer]:
    """Yield a running store; its only bucket is `bucket`."""
    served = ObjectServer()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/bucket{slash:/?}{key:.*}", served.handle)
    server = TestServer(app)
    await server.start_server()
    served.url = str(server.make_url("/")).rstrip("/")
    try:
        yield served
    finally:
        await server.close()
