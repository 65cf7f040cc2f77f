"""Cut a text into chunks: coarse separators first, finer ones for what is still too long.

Every chunk is a span of the text, so it is known where it stands.  Lengths are in characters.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

from msgspec import Struct, json

Span = tuple[int, int]
"""Start and end of a piece of the text."""


class _Presets(Struct):
    tail: list[str]
    presets: dict[str, list[str]]


@cache
def _presets() -> _Presets:
    return json.decode(Path(__file__).with_name("presets.json").read_bytes(), type=_Presets)


def preset_names() -> frozenset[str]:
    """Return the languages and formats that separators are known for."""
    return frozenset(_presets().presets)


class Splitting(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How to cut.  Source: the OpenGateLLM contract, sections 4.12 and 5.8."""

    chunk_size: int = 2048
    """0: the whole text is one chunk."""
    chunk_min_size: int = 0
    """Shorter chunks are dropped."""
    chunk_overlap: int = 0
    separators: list[str] = []
    """Literal, or regular expressions; empty: those of the preset."""
    is_separator_regex: bool = False
    preset: str = "markdown"

    def patterns(self) -> list[str]:
        """Return the separators as regular expressions, coarse to fine."""
        if not self.separators:
            return [*_presets().presets[self.preset], *_presets().tail]
        return self.separators if self.is_separator_regex else [re.escape(text) for text in self.separators]


def split(text: str, splitting: Splitting) -> list[Span]:
    """Return the spans of the chunks, trimmed, in order; none of them is empty.  Raises `re.error`."""
    if splitting.chunk_size == 0:
        spans = [(0, len(text))]
    else:
        patterns = [re.compile(pattern) for pattern in splitting.patterns()]
        spans = list(_split(text, (0, len(text)), patterns, splitting))
    trimmed = (_trim(text, span) for span in spans)
    return [span for span in trimmed if span[1] - span[0] >= max(splitting.chunk_min_size, 1)]


def _split(text: str, span: Span, patterns: Sequence[re.Pattern[str]], splitting: Splitting) -> Iterator[Span]:
    cuts, rest = _cuts(text, span, patterns)
    if not cuts:
        yield from _windows(span, splitting)
        return
    small: list[Span] = []
    for piece in pairwise(cuts):
        if piece[1] - piece[0] <= splitting.chunk_size:
            small.append(piece)
            continue
        yield from _join(small, splitting)
        small = []
        if rest:
            yield from _split(text, piece, rest, splitting)
        else:
            yield piece
    yield from _join(small, splitting)


def _cuts(text: str, span: Span, patterns: Sequence[re.Pattern[str]]) -> tuple[list[int], Sequence[re.Pattern[str]]]:
    """Return where to cut, with both ends, and the separators that are left; no places if it is between characters."""
    start, end = span
    for number, pattern in enumerate(patterns):
        if pattern.pattern == "":
            return [], ()
        starts = [match.start() for match in pattern.finditer(text, start, end)]
        if starts:
            inner = dict.fromkeys(place for place in starts if start < place < end)
            return [start, *inner, end], patterns[number + 1 :]
    return [start, end], ()


def _windows(span: Span, splitting: Splitting) -> Iterator[Span]:
    """Return what joining single characters gives."""
    start, end = span
    while end - start > splitting.chunk_size:
        yield start, start + splitting.chunk_size
        start += splitting.chunk_size - splitting.chunk_overlap
    yield start, end


def _join(pieces: Sequence[Span], splitting: Splitting) -> Iterator[Span]:
    """Join neighbours as long as they fit; the end of a chunk, as far as it is within the overlap, starts the next."""
    if not pieces:
        return
    first = 0
    for number, (_, end) in enumerate(pieces):
        if end - pieces[first][0] <= splitting.chunk_size:
            continue
        yield pieces[first][0], pieces[number - 1][1]
        closed_at = pieces[number - 1][1]
        while first < number and (
            closed_at - pieces[first][0] > splitting.chunk_overlap or end - pieces[first][0] > splitting.chunk_size
        ):
            first += 1
    yield pieces[first][0], pieces[-1][1]


def _trim(text: str, span: Span) -> Span:
    start, end = span
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, max(start, span[1] - (len(piece) - len(piece.rstrip())))


MAX_SEPARATORS: Final = 100
MAX_SEPARATOR_LENGTH: Final = 1000
