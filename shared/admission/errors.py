"""Refusals of the admission; their places in the tree are drawn in `shared.errors`."""

from typing import ClassVar

from shared.errors import BadRequestError, RateLimitError


class InsufficientBudgetError(BadRequestError):
    """The budget of the user or of the organization is used up, or held by unfinished jobs."""

    code = "insufficient_budget"

    def __init__(self) -> None:
        super().__init__("Insufficient budget.")


class CarbonBudgetExceededError(RateLimitError):
    """The request may emit more than the month's carbon budget has left."""

    code = "carbon_budget_exceeded"
    headers: ClassVar[dict[str, str]] = {"x-should-retry": "false"}

    def __init__(self, *, left_ug: int, asked_ug: int, retry_after_s: int) -> None:
        super().__init__(
            f"The carbon budget of this month has {max(left_ug, 0) / 1e6:.6f} gCO2e left, "
            f"this request may need {asked_ug / 1e6:.6f}; a smaller `max_tokens` needs less.",
            retry_after_s=retry_after_s,
        )


class QueueFullError(RateLimitError):
    """The tenant has as many unfinished jobs, or tokens in them, as it may have."""

    code = "queue_full"

    def __init__(self) -> None:
        super().__init__("Too many of your jobs are unfinished, please try again later.", retry_after_s=5)
