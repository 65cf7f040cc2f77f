"""Which of the many pairs of a server and a failure are tried."""

import zlib
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_PAIRED = frozenset({"test_a_passing_failure_is_tried_again", "test_a_refusal_arrives_readable_and_free"})
_SHARE = 3


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Try every server with a third of the failures, always the same, unless `--all-cases` is given."""
    if config.getoption("--all-cases"):
        return
    left_out = [item for item in items if item.path.is_relative_to(_HERE) and _can_wait(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _can_wait(item: pytest.Item) -> bool:
    return getattr(item, "originalname", "") in _PAIRED and zlib.crc32(item.name.encode()) % _SHARE != 0
