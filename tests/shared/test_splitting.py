"""Cutting texts into chunks, against the rules of the contract."""

import re
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.documents.schemas import Preset
from shared.splitting.splitter import Splitting, preset_names, split


def cut(text: str, **members: Any) -> list[str]:
    return [text[start:end] for start, end in split(text, Splitting(**members))]


def test_coarse_separators_go_before_fine_ones() -> None:
    text = "# One\nabc def ghi\n# Two\njkl"

    assert cut(text, chunk_size=18) == ["# One\nabc def ghi", "# Two\njkl"]
    assert cut(text, chunk_size=12) == ["# One", "abc def ghi", "# Two\njkl"]
    assert cut(text, chunk_size=8) == ["# One", "abc def", "ghi", "# Two", "jkl"]
    assert cut(text, chunk_size=0) == [text]


def test_the_separator_begins_the_next_piece() -> None:
    assert cut("a, b, c", chunk_size=1, separators=[", "]) == ["a", ", b", ", c"]
    assert cut("a1b22c", chunk_size=1, separators=[r"\d+"], is_separator_regex=True) == ["a", "1b", "22c"]
    assert cut("a.b.c", chunk_size=1, separators=["."]) == ["a", ".b", ".c"]


def test_a_piece_without_separators_stays_long() -> None:
    assert cut("aaaaaaaaaa b", chunk_size=3, separators=[" "]) == ["aaaaaaaaaa", "b"]
    assert cut("aaaaaaaaaa b", chunk_size=4, separators=[" ", ""]) == ["aaaa", "aaaa", "aa", "b"]


def test_the_end_of_a_chunk_starts_the_next_one() -> None:
    text = "one two three four five six"

    assert cut(text, chunk_size=13, chunk_overlap=6, separators=[" "]) == [
        "one two three", "three four", "four five", "five six",
    ]  # fmt: skip
    assert cut("abcdefgh", chunk_size=4, chunk_overlap=2, separators=[""]) == ["abcd", "cdef", "efgh"]


def test_short_chunks_are_dropped() -> None:
    assert cut("a\n\nlong enough\n\nb", chunk_size=13, chunk_min_size=3) == ["long enough"]
    assert cut("  \n ") == []


@pytest.mark.parametrize("preset", sorted(preset_names()))
def test_every_preset_cuts(preset: str) -> None:
    text = "\nclass A:\n  def b():\n    if c: d\n# e\n<p>f</p>\nfunc g { h }\n" * 20

    chunks = cut(text, chunk_size=60, preset=preset)

    assert len(chunks) > 3
    assert max(map(len, chunks)) <= 60
    assert "".join(re.sub(r"\s", "", chunk) for chunk in chunks) == re.sub(r"\s", "", text)


def test_the_form_knows_all_presets() -> None:
    assert set(get_args(Preset)) == preset_names()
    assert len(preset_names()) == 28


@given(
    st.text(alphabet="ab \n#.é", max_size=200), st.integers(1, 30), st.integers(0, 29), st.sampled_from(["", "\n", " "])
)
def test_nothing_is_lost_and_nothing_is_too_long(text: str, size: int, overlap: int, coarse: str) -> None:
    overlap = min(overlap, size - 1)
    separators = list(dict.fromkeys([coarse, " ", ""])) if coarse else [""]

    spans = split(text, Splitting(chunk_size=size, chunk_overlap=overlap, separators=separators))

    covered = set[int]()
    for start, end in spans:
        assert 0 < end - start <= size
        covered |= set(range(start, end))
    assert all(text[place].isspace() for place in set(range(len(text))) - covered)
    assert spans == sorted(spans)
