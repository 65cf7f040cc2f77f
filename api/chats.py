"""What the routes of chats have in common."""

from typing import Final

from api.limits import Estimate
from api.respond import ERRORS
from api.submission import Submission
from shared.chat.estimates import estimate_prompt
from shared.chat.schemas import ChatCompletionRequest
from shared.collections.errors import SEARCH_ERRORS
from shared.directory import Router
from shared.jobs.schemas import CHAT_COMPLETION

CHAT_ERRORS: Final = (*ERRORS, *SEARCH_ERRORS)


def chat_submission(endpoint: str, router: Router, body: ChatCompletionRequest) -> Submission:
    """Return the job of a chat."""
    answers = body.n or 1
    output_tokens = (body.max_completion_tokens or body.max_tokens or 0) * answers
    estimate = Estimate(prompt_tokens=estimate_prompt(body), output_tokens=output_tokens, answers=answers)
    return Submission(
        kind=CHAT_COMPLETION,
        endpoint=endpoint,
        router=router,
        model=body.model,
        stream=bool(body.stream),
        store=body.store,
        metadata=body.metadata,
        end_user=body.user,
        estimate=estimate,
        is_flex=body.service_tier == "flex",
    )
