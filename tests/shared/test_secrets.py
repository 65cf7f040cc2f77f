"""Secrets at rest."""

import pytest
from cryptography.exceptions import InvalidTag

from shared.secrets import SecretBox


@pytest.mark.parametrize("kept", [0, 7, 12, 20])
def test_a_piece_of_what_was_sealed_cannot_be_opened(kept: int) -> None:
    box = SecretBox("now", ["before"])

    with pytest.raises(InvalidTag):
        box.open(box.seal("text")[:kept])
