"""Logging: the specification's shape on the standard logger, configured by nobody but the process's owner."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from orchestration.logs import LOGGER_NAME, configure, get_logger


@pytest.fixture(autouse=True)
def _restored_loggers() -> Iterator[None]:
    """Leave the process's loggers as they were found."""
    root, own = logging.getLogger(), logging.getLogger(LOGGER_NAME)
    handlers, level, own_level = list(root.handlers), root.level, own.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_importing_and_getting_a_logger_configures_nothing() -> None:
    """A library must not touch its host's logging, nor pay for structlog before it logs."""
    script = (
        "import logging, sys; from orchestration.logs import get_logger; get_logger().info('quiet');"
        "own = logging.getLogger('advanced_task_orchestration');"
        "print(logging.getLogger().handlers, own.handlers, own.level, 'structlog' in sys.modules)"
    )

    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "[] [] 0 False"
    assert answer.stderr == ""


def test_a_record_carries_its_fields_as_the_specification_shows(caplog: pytest.LogCaptureFixture) -> None:
    """`extra` fields are attributes of the standard record, so any handler can use them."""
    with caplog.at_level(logging.INFO, logger=LOGGER_NAME):
        get_logger(orchestration_id="o-1").bind(task_id="a").info(
            "Task execution started", operation="TASK_EXECUTION_START", estimated_time=30.0, priority=2
        )

    record = caplog.records[0]
    fields = vars(record)
    assert record.name == "advanced_task_orchestration"
    assert record.getMessage() == "Task execution started"
    assert {name: fields[name] for name in ("operation", "orchestration_id", "task_id", "priority")} == {
        "operation": "TASK_EXECUTION_START",
        "orchestration_id": "o-1",
        "task_id": "a",
        "priority": 2,
    }
    assert fields["estimated_time"] == 30.0


def test_a_field_the_record_uses_itself_gets_an_underscore(caplog: pytest.LogCaptureFixture) -> None:
    """`name` and `args` belong to logging; a field of that name is renamed instead of raising."""
    with caplog.at_level(logging.INFO, logger=LOGGER_NAME):
        get_logger().info("Odd names", name="n", args=1)

    assert vars(caplog.records[0])["name_"] == "n"
    assert vars(caplog.records[0])["args_"] == 1


def test_the_standard_level_decides_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """`logging.getLogger(…).setLevel(DEBUG)` is all it takes to see more."""
    log = get_logger()

    with caplog.at_level(logging.WARNING, logger=LOGGER_NAME):
        log.debug("hidden")
        log.warning("shown")
    with caplog.at_level(logging.DEBUG, logger=LOGGER_NAME):
        log.debug("shown now")

    assert [record.getMessage() for record in caplog.records] == ["shown", "shown now"]


def test_logs_are_json_lines_where_nobody_watches() -> None:
    """Off a terminal each line is one JSON object with time, level and fields; a traceback stays in its line."""
    stream = io.StringIO()
    configure("INFO", stream=stream)

    get_logger().info("Task execution started", operation="TASK_EXECUTION_START", task_id="prüfen")
    try:
        raise ValueError("broken")
    except ValueError:
        get_logger().exception("Attempt failed", operation="ATTEMPT_FAILED")

    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first["event"] == "Task execution started"
    assert (first["operation"], first["task_id"], first["level"]) == (
        "TASK_EXECUTION_START",
        "prüfen",
        "info",
    )
    assert first["timestamp"].endswith("Z")
    assert "ValueError: broken" in second["exception"]


def test_logs_are_for_people_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a line reads well, and NO_COLOR keeps it plain."""
    monkeypatch.setenv("NO_COLOR", "1")
    stream = _Terminal()
    configure("INFO", stream=stream)

    get_logger().info("Task execution started", operation="TASK_EXECUTION_START")

    assert "Task execution started" in stream.getvalue()
    assert "operation=TASK_EXECUTION_START" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()


def test_configuring_again_replaces_the_first_time() -> None:
    """No line is written twice, and the new level counts."""
    first, second = io.StringIO(), io.StringIO()
    configure("INFO", stream=first)
    configure("ERROR", json=True, stream=second)

    get_logger().warning("below the level")
    get_logger().error("at the level")

    assert first.getvalue() == ""
    assert [json.loads(line)["event"] for line in second.getvalue().splitlines()] == ["at the level"]


def test_other_libraries_are_heard_from_warning_on() -> None:
    """A chatty dependency stays quiet below WARNING."""
    stream = io.StringIO()
    configure("DEBUG", stream=stream)

    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("trouble %s", 1)

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["trouble 1"]
