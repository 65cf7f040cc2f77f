"""Words that the simulator makes up: the same ones for the same seed."""

from typing import Final

_WORDS: Final = (
    "a river that meets the sea carries every stone it moved along the way and leaves behind a quiet field where"
    " light grain grows under slow clouds while distant hills keep their names"
).split()


def made_up_words(seed: bytes, count: int) -> list[str]:
    """Return so many words for 32 bytes of a hash."""
    return [_WORDS[(seed[number % 32] + number) % len(_WORDS)] for number in range(count)]
