"""Files of vocabularies."""

from pathlib import Path

import pytest

from shared.vocabularies import VocabularyError, check_vocabulary


@pytest.mark.parametrize("number", ["-1", "99999999999999999999", "1_0", "x"])
async def test_a_file_with_ids_that_no_vocabulary_has_is_refused(tmp_path: Path, number: str) -> None:
    (tmp_path / "own.tiktoken").write_text(f"YQ== {number}\n")

    with pytest.raises(VocabularyError, match="cannot be read"):
        await check_vocabulary("own", tmp_path)
