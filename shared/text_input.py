"""Text that may come as tokens: the `input` of embeddings, the `prompt` of completions.

A list of token ids is one input, a list of such lists several.  The ids are those of the provider's vocabulary, which
is not known here.
"""

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta

from shared.errors import InvalidFieldError

MOST_ENTRIES: Final = 2048
_CHARACTERS_PER_TOKEN: Final = 4

TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
TextInput = str | Annotated[list[str | TokenId | Annotated[list[TokenId], Meta(min_length=1)]], Meta(min_length=1)]
"""What mixes texts and ids fits, too; `to_inputs` refuses it."""
Input = str | list[int]


def to_inputs(value: TextInput, name: str) -> list[Input]:
    """Return the single inputs of member `name`; raises `InvalidFieldError` if they are not all of one kind."""
    if isinstance(value, str):
        return [value]
    kinds = {type(entry) for entry in value}
    if len(kinds) > 1:
        raise InvalidFieldError(["body", name], f"`{name}` must not mix texts and tokens")
    if kinds == {int}:
        return [value]  # type: ignore[list-item]  # one input of ids
    return value  # type: ignore[return-value]  # texts, or lists of ids


def estimate_inputs(inputs: Sequence[Input]) -> int:
    """Return about how many tokens there are, at a cost that every request can bear."""
    return sum(max(len(one) // _CHARACTERS_PER_TOKEN, 1) if isinstance(one, str) else len(one) for one in inputs)
