"""Wire types of POST /v1/embeddings.  Source: OpenAI API reference, "Embeddings", with what the contracts add."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from shared.errors import InvalidFieldError
from shared.jobs.schemas import JobMembers
from shared.text_input import MOST_ENTRIES, Input, TextInput, estimate_inputs, to_inputs
from shared.usage.schemas import Usage

_MOST_TOKENS: Final = 300_000
"""Of all inputs together."""


class EmbeddingRequest(JobMembers, kw_only=True):
    """Body of a request for embeddings.  `null` counts as absent; members that are not listed are passed on."""

    model: Annotated[
        str, Meta(min_length=1, description="Name or alias of a router.", examples=["simulator-embedding"])
    ]
    input: Annotated[
        TextInput,
        Meta(description="A text, texts, the token ids of a text, or of several; lists have at most 2048 entries."),
    ]
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Meta(description="`base64`: little-endian 32-bit floats.")
    ] = None
    dimensions: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None

    def check(self) -> list[Input]:
        """Return the single inputs; raises `InvalidFieldError` if one is empty, or there are too many."""
        inputs = to_inputs(self.input, "input")
        if isinstance(self.input, list) and len(self.input) > MOST_ENTRIES:
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
