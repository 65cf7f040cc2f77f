"""Job kinds.  A new kind is a wire type in `shared`, a module here and one line in `KINDS`."""

from collections.abc import Awaitable, Callable

from shared.jobs.schemas import CHAT_COMPLETION, COMPLETION, EMBEDDING, RERANK
from worker.context import JobContext, Produced
from worker.jobs.chat import run_chat
from worker.jobs.completion import run_completion
from worker.jobs.embedding import run_embedding
from worker.jobs.rerank import run_rerank

KINDS: dict[str, Callable[[JobContext], Awaitable[Produced]]] = {
    CHAT_COMPLETION: run_chat,
    COMPLETION: run_completion,
    EMBEDDING: run_embedding,
    RERANK: run_rerank,
}
"""Kind → function that runs one attempt of it."""
