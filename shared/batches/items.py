"""Ids of items: that of the batch up to its last five characters, which are the number of the line.

So the items of a batch stand side by side in every table that is ordered by job, in the order of the input, and a line
that is read twice is the same item.
"""

from typing import Final

from shared.ids import ALPHABET

_LINE_CHARACTERS: Final = 5
_BITS: Final = 5
MAX_LINE: Final = 2 ** (_LINE_CHARACTERS * _BITS) - 1


def item_id(batch_id: str, line: int) -> str:
    """Return the id of the job of a line, 1 to `MAX_LINE`."""
    shifts = range(_BITS * (_LINE_CHARACTERS - 1), -1, -_BITS)
    return batch_id[:-_LINE_CHARACTERS] + "".join([ALPHABET[line >> shift & 31] for shift in shifts])


def line_of(job_id: str) -> int:
    """Return the line of an item."""
    line = 0
    for character in job_id[-_LINE_CHARACTERS:]:
        line = line << _BITS | ALPHABET.index(character)
    return line


def item_span(batch_id: str) -> tuple[str, str]:
    """Return the smallest and the largest id that an item of this batch can have."""
    return item_id(batch_id, 0), item_id(batch_id, MAX_LINE)
