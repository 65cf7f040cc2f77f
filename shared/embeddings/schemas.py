"""Wire types of POST /v1/embeddings.  Source: OpenAI API reference, "Embeddings", with what the contracts add."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from shared.chat.engine import JobParameters
from shared.chat.schemas import Message
from shared.chat.text import to_text
from shared.errors import InvalidFieldError, UnprocessableEntityError
from shared.text_input import MOST_ENTRIES, Input, TextInput, estimate_inputs, to_inputs
from shared.usage.schemas import Usage

_MISSING: Final = "Object missing required field `input`"
_MOST_TOKENS: Final = 300_000
"""Of all inputs together."""


class EmbeddingRequest(JobParameters, kw_only=True):
    """Body of a request for embeddings.  `null` counts as absent; members that are not listed are passed on."""

    model: Annotated[
        str | None,
        Meta(
            description="Name or alias of a router; null: `SLUICE_DEFAULT_EMBEDDING_MODEL`.",
            examples=["simulator-embedding"],
        ),
    ] = None
    input: Annotated[
        TextInput | None,
        Meta(description="A text, texts, the token ids of a text, or of several; lists have at most 2048 entries."),
    ] = None
    messages: Annotated[
        Annotated[list[Message], Meta(min_length=1)] | None,
        Meta(description="A conversation to embed as one input, in place of `input`."),
    ] = None
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Meta(description="`base64`: little-endian 32-bit floats.")
    ] = None
    dimensions: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    truncate_prompt_tokens: Annotated[
        Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None,
        Meta(description="An input is cut to so many tokens; -1: to the model's length."),
    ] = None
    add_special_tokens: bool | None = None
    chat_template: Annotated[str, Meta(max_length=65_536)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    additional_data: Any = None

    def check(self, *, is_exact: bool = False) -> list[Input]:
        """Return the single inputs; raises `UnprocessableEntityError` if one is empty, or there are too many.

        Either `input` or `messages` must be there; a conversation counts as one input.
        """
        if self.messages is not None and self.input is None:
            return [to_text(self.messages)]
        if self.input is None or self.messages is not None:
            place: list[str | int] = ["body"] if is_exact or self.messages is not None else ["body", "input"]
            message = "Either `input` or `messages` is needed" if is_exact or self.messages else _MISSING
            raise UnprocessableEntityError(place, message, "missing" if self.messages is None else "value_error")
        return self._check_input(self.input)

    def _check_input(self, value: TextInput) -> list[Input]:
        inputs = to_inputs(value, "input")
        if isinstance(value, list) and len(value) > MOST_ENTRIES:
            raise InvalidFieldError(["body", "input"], f"`input` must have at most {MOST_ENTRIES} entries")
        for index, one in enumerate(inputs):
            place: list[str | int] = ["body", "input", index] if len(inputs) > 1 else ["body", "input"]
            if isinstance(one, str) and not one.strip():
                raise InvalidFieldError(place, "An input must not be empty")
            if len(one) > MOST_ENTRIES and not isinstance(one, str):
                raise InvalidFieldError(place, f"An input must have at most {MOST_ENTRIES} tokens")
        if (tokens := estimate_inputs(inputs)) > _MOST_TOKENS:
            raise InvalidFieldError(["body", "input"], f"The inputs have about {tokens} tokens, at most {_MOST_TOKENS}")
        return inputs


class Embedding(Struct, kw_only=True):
    """The vector of one input: numbers, or the base64 of their 32-bit floats."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"]


class Embeddings(Struct, kw_only=True):
    """The vectors, in the order of the inputs."""

    id: str
    created: Annotated[int, Meta(description="Unix time, seconds.")]
    model: str
    data: list[Embedding]
    usage: Usage
    object: Literal["list"]
