"""Wire types of POST /v1/completions.  Source: OpenAI API reference, "Completions (legacy)"."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from shared.chat.schemas import Penalty
from shared.errors import InvalidFieldError
from shared.jobs.schemas import JobMembers
from shared.text_input import MOST_ENTRIES, Input, TextInput, to_inputs
from shared.usage.schemas import Usage


class CompletionRequest(JobMembers, kw_only=True):
    """Body of a text completion.  `null` counts as absent; members that are not listed are passed on."""

    model: Annotated[str, Meta(min_length=1, description="Name or alias of a router.", examples=["simulator"])]
    prompt: Annotated[TextInput, Meta(description="A text, texts, the token ids of a text, or of several.")]
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    echo: bool | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    suffix: str | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None

    def check(self) -> list[Input]:
        """Return the single prompts; raises `InvalidFieldError` if members contradict one another."""
        prompts = to_inputs(self.prompt, "prompt")
        if len(prompts) > MOST_ENTRIES:
            raise InvalidFieldError(["body", "prompt"], f"`prompt` must have at most {MOST_ENTRIES} entries")
        if "" in prompts:
            place: list[str | int] = ["body", "prompt", prompts.index("")] if len(prompts) > 1 else ["body", "prompt"]
            raise InvalidFieldError(place, "A prompt must not be empty")
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise InvalidFieldError(["body", "best_of"], "`best_of` must not be less than `n`")
        return prompts


class CompletionChoice(Struct, kw_only=True):
    """One generated text, or a streamed piece of it."""

    index: int = 0
    text: str = ""
    finish_reason: str | None = None
    logprobs: Any = None


class Completion(Struct, kw_only=True):
    """The whole answer: for each prompt its choices."""

    id: str
    created: Annotated[int, Meta(description="Unix time, seconds.")]
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str | None
    object: Literal["text_completion"]


class CompletionChunk(Struct, kw_only=True):
    """One server-sent event of a streamed answer; `usage` is set on the last chunk only, which has no choices."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None
    object: Literal["text_completion"]
