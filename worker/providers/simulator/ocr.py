"""OCR of the simulator: one page, the same words for the same document."""

import asyncio
import hashlib
from typing import Any

from msgspec import Struct, json

from shared.ocr.schemas import OcrDocument
from shared.unreadable import UNREADABLE
from worker.providers.base import ProviderCall, ProviderError, ProviderReply
from worker.providers.simulator.script import Script, begin
from worker.providers.simulator.words import made_up_words


class _Request(Struct):
    """What the simulator reads of a request."""

    document: OcrDocument
    simulator: Script = Script()


async def complete_ocr(call: ProviderCall) -> ProviderReply:
    """Return the page; raises `ProviderError`."""
    body = call.body
    if call.file is not None and call.file.placeholder is not None:
        body = body.replace(call.file.placeholder, await call.file.read())
    try:
        request = json.decode(body, type=_Request, strict=False)
    except UNREADABLE as error:
        raise ProviderError(
            f"simulator: {error}", blame="request", reason="http_400", status=400, param="simulator"
        ) from error
    script = request.simulator
    fails = await begin(script, call.attempt)
    text = script.text
    if text is None:
        words = made_up_words(hashlib.sha256((request.document.url or "").encode()).digest(), script.tokens)
        text = f"# {request.document.document_name or 'Page 1'}\n\n{' '.join(words)}"
    await asyncio.sleep(script.chunk_delay_ms * len(text.split()) / 1000)
    if fails == "cut":
        raise ProviderError("The provider closed the connection.", reason="connection")
    if fails == "malformed":
        return ProviderReply(b'{"pages": [', None)
    page = {"index": 0, "markdown": text, "images": [], "dimensions": {"dpi": 200, "height": 2200, "width": 1700}}
    answer: dict[str, Any] = {"pages": [page], "document_annotation": None}
    if script.usage:
        answer["usage_info"] = {"pages_processed": 1}
    return ProviderReply(json.encode(answer), "sim-request-1")
