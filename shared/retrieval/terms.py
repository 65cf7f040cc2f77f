"""Words as the lexical index knows them: lower-cased, without stop words, stemmed; and words that are nearly equal.

The stop words are the lists of the Snowball project.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import snowballstemmer
from msgspec import Struct, json
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import extract

Language = Literal["english", "french", "german", "italian", "portuguese", "spanish", "swedish"]
_WORD: Final = re.compile(r"[^\W_]+")
_LONGEST_WORD: Final = 32
_MOST_OCCURRENCES: Final = 64
"""Of a word in a chunk; more change its score by less than a hundredth."""
_MOST_BYTES: Final = 600_000
"""Of the words of one chunk, with their occurrences: PostgreSQL takes 1 MiB."""
_MOST_SIMILAR: Final = 50
_MOST_QUERY_TERMS: Final = 32


class Bag(Struct, frozen=True, array_like=True):
    """The words of a text."""

    counts: dict[str, int]
    """How often each occurs, at most 64 times."""
    length: int
    """How many there are, repeated ones too."""


class Wanted(Struct, frozen=True):
    """A word to look for: one that the query holds, or one that is nearly equal."""

    term: str
    part: int
    """Which word of the query."""
    weight: float
    """1 for the word itself, less for one that is nearly equal."""


@cache
def _tools(language: Language) -> tuple[Any, frozenset[str]]:
    stem = lru_cache(maxsize=100_000)(snowballstemmer.stemmer(language).stemWord)
    lists = json.decode(Path(__file__).with_name("stop_words.json").read_bytes(), type=dict[str, frozenset[str]])
    return stem, lists[language]


def terms_of(text: str, language: Language) -> list[str]:
    """Return the words of a text in order."""
    stem, stop_words = _tools(language)
    words = (word[:_LONGEST_WORD] for word in _WORD.findall(text.lower()))
    return [stem(word) for word in words if word not in stop_words]


def bag_of(text: str, language: Language) -> Bag:
    """Return the words of a chunk; of a huge one, those that the index can hold."""
    counts: dict[str, int] = {}
    length = used_bytes = 0
    for term in terms_of(text, language):
        length += 1
        found = counts.get(term, 0)
        if found == 0:
            used_bytes += len(term.encode()) + 8
        if found < _MOST_OCCURRENCES:
            used_bytes += 2
            if used_bytes > _MOST_BYTES:
                continue
            counts[term] = found + 1
    return Bag(counts, length)


def query_terms(query: str, language: Language) -> list[str]:
    """Return the different words to look for."""
    return list(dict.fromkeys(terms_of(query, language)))[:_MOST_QUERY_TERMS]


def expand(terms: Sequence[str], vocabulary: Iterable[str]) -> list[Wanted]:
    """Return the words to look for, with those of the vocabulary that are nearly equal.

    Within an edit distance of 0, 1, 2 for words of at most 2, at most 5, more letters.  Nearer ones weigh more.
    """
    wanted: list[Wanted] = []
    known = vocabulary if isinstance(vocabulary, Mapping | list) else list(vocabulary)
    for part, term in enumerate(terms):
        wanted.append(Wanted(term, part, 1.0))
        most = _distance(term)
        if most == 0:
            continue
        near = extract(term, known, scorer=Levenshtein.distance, score_cutoff=most, limit=None)
        ordered = sorted((distance, other) for other, distance, _ in near if distance > 0)[:_MOST_SIMILAR]
        wanted += [Wanted(other, part, 1.0 - distance / (len(term) + 1)) for distance, other in ordered]
    return wanted


def _distance(term: str) -> int:
    if len(term) <= 2:
        return 0
    return 1 if len(term) <= 5 else 2
