"""What is logged, and what must not be."""

import logging
from collections.abc import Iterator

import pytest
import structlog
from msgspec import json

from shared.log import configure_logging
from shared.settings import Settings


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    yield
    structlog.configure(**before)
    logging.root.handlers, logging.root.level = handlers, level


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_logged_crash_shows_no_values(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(admin_key="sk-very-secret-admin-key", log_format=log_format)  # type: ignore[arg-type]
    configure_logging(settings, "test")
    try:
        _crash(settings)
    except RuntimeError:
        structlog.get_logger().exception("crashed", job_id="job_1")

    written = capsys.readouterr().err
    assert "crashed" in written
    assert "RuntimeError" in written
    assert "sk-very-secret" not in written


def test_json_lines_carry_the_ids_of_where_they_happened(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_format="json"), "worker")
    with structlog.contextvars.bound_contextvars(job_id="job_1", request_id="req_1"):
        structlog.get_logger().warning("job_failed", code="timeout")

    line = json.decode(capsys.readouterr().err)
    assert (line["event"], line["job_id"], line["request_id"]) == ("job_failed", "job_1", "req_1")
    assert (line["process"], line["level"], line["code"]) == ("worker", "warning", "timeout")


def _crash(settings: Settings) -> None:
    secret = settings.admin_key
    raise RuntimeError(f"no secret of {len(secret or '')} characters here")
