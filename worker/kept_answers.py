"""Jobs that are answered without a provider, since their router has kept the answer.

It is looked for before a provider is chosen: a repeated request takes no provider's slot, and is answered while all of
them are out.  A request that took several calls is not found so; its parts are, one by one, when the calls are made.
"""

from shared.directory import Router
from shared.jobs.messages import JobMessage
from shared.jobs.schemas import CHAT_COMPLETION
from worker.context import Runtime
from worker.jobs import BODIES
from worker.jobs.dialects import complete_chat
from worker.jobs.upstream import MALFORMED
from worker.parameters import OPERATIONS
from worker.providers.base import ProviderError
from worker.response_cache import CacheLook, cache_key, find_reply
from worker.takeover import read_request


async def find_answer(runtime: Runtime, message: JobMessage, router: Router) -> CacheLook | None:
    """Return the kept answer of a job; None if there is none."""
    if router.cache_ttl_s is None or message.stream or message.kind not in BODIES or not router.providers:
        return None
    request = message.request if message.request is not None else await read_request(runtime, message.job_id)
    try:
        if message.kind == CHAT_COMPLETION:
            request = complete_chat(runtime.settings, router, message.dialect, request)
        body = await BODIES[message.kind](runtime, router, router.providers[0], request)
    except (*MALFORMED, ProviderError):  # the attempt will tell
        return None
    key = cache_key(router.id, OPERATIONS[message.kind], body)
    found = None if key is None else await find_reply(runtime.redis, key)
    return None if key is None or found is None else CacheLook(key=key, body=found.body, found=found)
