"""How often a question finds its passage in a small library; printed with `pytest -rP`, on both databases.

The simulator's embeddings know words, not meaning, so its rates are no measure of a model.
"""

import json
from pathlib import Path

import pytest

from tests.libraries import Library

FOLDER = Path(__file__).parent.parent / "data" / "library"
LEAST = {"lexical": 0.9, "semantic": 0.5, "hybrid": 0.8}
"""Of 30 questions whose passage is among the first three."""


async def test_questions_find_their_passages(library: Library) -> None:
    collection = await library.collection()
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in (".md", ".txt", ".html") and path.name != "README.md":
            await library.document(collection, path.read_bytes(), path.name, chunk_size=400)
    questions: list[tuple[str, str]] = json.loads((FOLDER / "questions.json").read_text())
    rates: dict[str, dict[int, float]] = {}

    for method in LEAST:
        places = [await place(library, method, question, words) for question, words in questions]
        rates[method] = {most: sum(one < most for one in places) / len(places) for most in (1, 3, 10)}

    for method, found in rates.items():
        print(f"{method}: " + ", ".join(f"hit@{most} {rate:.0%}" for most, rate in found.items()))  # noqa: T201  # the figures are what the test is for
    assert len(questions) == 30
    assert {method: rates[method][3] >= least for method, least in LEAST.items()} == dict.fromkeys(LEAST, True), rates


async def place(library: Library, method: str, question: str, words: str) -> int:
    """Return at which place the passage with these words was found; 100 if it was not."""
    answer = await (await library.search(question, method=method)).json()
    contents = [" ".join(one["chunk"]["content"].split()) for one in answer["data"]]
    return next((number for number, content in enumerate(contents) if words in content), 100)


@pytest.mark.parametrize("number", range(30))
def test_every_question_has_a_passage(number: int) -> None:
    question, words = json.loads((FOLDER / "questions.json").read_text())[number]
    texts = [" ".join(path.read_text().split()) for path in FOLDER.iterdir() if path.suffix != ".json"]

    assert sum(words in text for text in texts) == 1, question
