"""Job kind `ocr`: have a provider read a document and give its pages our form."""

from typing import Any, Final

from msgspec import Raw, Struct, json
from msgspec.structs import replace

from shared.ids import new_ulid
from shared.jobs.schemas import alias_of
from shared.ocr.documents import STORED, size_of, with_url
from shared.ocr.schemas import OcrRequest
from shared.tokens import count_tokens
from shared.unreadable import UNREADABLE
from shared.usage.schemas import Usage
from worker.context import JobContext, Produced, TokenCount
from worker.jobs.files import open_file
from worker.jobs.reported import reported_tokens
from worker.jobs.upstream import NULL, call_of, members_of, request_id_of, to_members
from worker.providers.base import ProviderError

_PAGE: Final[dict[str, Any]] = {"markdown": None, "dimensions": None, "images": []}
_IMAGE: Final = {
    "top_left_x": None, "top_left_y": None, "bottom_right_x": None, "bottom_right_y": None, "image_base64": None,
    "image_annotation": None,
}  # fmt: skip


class _Pages(Struct):
    """What is read of a provider's answer; the rest is passed on."""

    pages: list[dict[str, Any]]
    usage: Raw = NULL
    usage_info: dict[str, Any] | None = None


async def run_ocr(ctx: JobContext) -> Produced:
    """Run one attempt; raises `ProviderError`."""
    request = json.decode(ctx.request, type=OcrRequest, strict=False)
    body, url = ctx.request, request.document.url or ""
    file, size = None, size_of(url) if url.lower().startswith("data:") else None
    if url.startswith(STORED):
        placeholder = new_ulid()  # occurs nowhere else
        file, size = replace(await open_file(ctx), placeholder=placeholder.encode()), int(url.removeprefix(STORED))
        body = with_url(body, request.document, placeholder)
    call = call_of(ctx, "ocr", json.encode(to_members(body, ctx.provider.model_name, "ocr")), file)
    reply = await ctx.runtime.adapters[ctx.provider.type].complete(call)
    try:
        answer = members_of(reply.body)
        found = json.decode(reply.body, type=_Pages)
        pages = [_page(number, page) for number, page in enumerate(found.pages)]
    except (*UNREADABLE, TypeError) as error:
        raise ProviderError(f"The provider sent a malformed answer: {error}", reason="malformed") from error
    info = {"pages_processed": len(pages), "doc_size_bytes": size} | (found.usage_info or {})
    return Produced(
        tokens=reported_tokens(found.usage) or _estimate(pages),
        render=lambda usage: _render(ctx, answer, {"pages": pages, "usage_info": info}, usage),
        provider_request_id=request_id_of(reply),
    )


def _page(number: int, page: dict[str, Any]) -> dict[str, Any]:
    """Return a page with all members it should have; `TypeError` if it is none."""
    images = [_IMAGE | {"id": str(index)} | image for index, image in enumerate(page.get("images") or ())]
    return _PAGE | {"index": number} | page | {"images": images}


def _estimate(pages: list[dict[str, Any]]) -> TokenCount:
    """Count what was recognised."""
    texts = [page["markdown"] for page in pages if isinstance(page["markdown"], str)]
    return TokenCount(completion=count_tokens("\n".join(texts)), is_estimated=True)


def _render(ctx: JobContext, members: dict[str, Raw], made: dict[str, Any], usage: Usage) -> bytes:
    own = {"id": alias_of(ctx.message.kind, ctx.message.job_id), "model": ctx.message.model, "usage": usage}
    return json.encode({"document_annotation": None} | members | made | own)
