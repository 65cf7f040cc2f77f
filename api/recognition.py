"""Text of scanned pages, from a model that reads images."""

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct, json

from api.access import has_access
from api.call import Call, Draft
from api.inner_jobs import run_inner
from api.limits import Estimate
from api.submission import Submission
from shared.directory import Router
from shared.errors import ApiError
from shared.jobs.schemas import OCR
from shared.models.schemas import OCR_TYPES
from shared.parsing.protocol import ParsedPage
from shared.usage.schemas import Usage, zero_usage
from shared.usage.sums import usage_sum

_AT_ONCE: Final = 4


class _Page(Struct):
    markdown: str | None = None


class _Read(Struct):
    pages: list[_Page]
    usage: Usage


_READ: Final = json.Decoder(_Read)


async def find_reader(draft: Draft) -> Router | None:
    """Return the caller's model that reads images, the one with the lowest id; None if there is none."""
    await draft.state.directory.refresh()
    for router in draft.state.directory.routers():
        if router.type in OCR_TYPES and router.providers and has_access(draft.caller, router.id):
            return router
    return None


async def recognise(
    call: Call, router: Router, pictures: Sequence[ParsedPage], endpoint: str
) -> tuple[dict[int, str], Usage]:
    """Return the text of drawn pages by their numbers, and what reading them cost; raises the errors of a job."""
    slots = asyncio.Semaphore(_AT_ONCE)
    submission = Submission(
        kind=OCR, endpoint=endpoint, router=router, model=router.name,
        estimate=Estimate(prompt_tokens=0, output_tokens=0),
    )  # fmt: skip

    async def read(page: ParsedPage) -> tuple[int, _Read]:
        async with slots:
            answer = await run_inner(call, submission, request_for(router, page), str(page.number))
            return page.number, _READ.decode(answer)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read(page)) for page in pictures]
    except* ApiError as errors:
        raise errors.exceptions[0] from None
    texts, total = dict[int, str](), zero_usage()
    for number, found in (task.result() for task in tasks):
        texts[number] = _text(found)
        total = usage_sum(total, found.usage)
    return texts, total


def _text(found: _Read) -> str:
    return "\n\n".join(page.markdown for page in found.pages if page.markdown).strip()


def text_in(body: bytes) -> str:
    """Return the text that the answer of an OCR job holds."""
    return _text(_READ.decode(body))


def request_for(router: Router, page: ParsedPage) -> bytes:
    """Return the request of an OCR job for a drawn page."""
    picture = next(iter(page.images.values()))
    document: dict[str, Any] = {
        "type": "image_url",
        "image_url": f"data:image/jpeg;base64,{b64encode(picture).decode()}",
    }
    return json.encode({"model": router.name, "document": document})
