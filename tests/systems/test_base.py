"""How exceptions become error records."""

from __future__ import annotations

import pytest

from orchestration.errors import (
    AttemptCancelledError,
    AttemptFailedError,
    AttemptTimeoutError,
    OrchestrationNotFoundError,
    SystemUnavailableError,
)
from orchestration.models import ErrorRecord
from orchestration.systems.base import MAX_MESSAGE_CHARS, bounded, error_record, listed, snake_case


class HTTPStatusError(Exception):
    """An exception of somebody else's."""


@pytest.mark.parametrize(
    ("exc", "code", "message", "retryable"),
    [
        (AttemptFailedError("no luck", "tool_error", True, 7.0), "tool_error", "no luck", True),
        (AttemptFailedError("bad", "invalid_arguments", False), "invalid_arguments", "bad", False),
        (AttemptTimeoutError(), "timeout", "The attempt ran out of its time.", True),
        (AttemptCancelledError(), "cancelled", "The attempt was cancelled before it ended.", False),
        (
            SystemUnavailableError("files", "gone"),
            "system_unavailable",
            "System 'files' can't be reached: gone",
            True,
        ),
        (TimeoutError(), "timeout", "TimeoutError", True),
        (ValueError("no number"), "value_error", "no number", True),
        (KeyError("rows"), "key_error", "KeyError: 'rows'", True),
        (ConnectionRefusedError("refused"), "connection_refused_error", "refused", True),
        (HTTPStatusError("502"), "http_status_error", "502", True),
        (TypeError("unsupported"), "type_error", "unsupported", False),
        (ModuleNotFoundError("No module named 'x'"), "module_not_found_error", "No module named 'x'", False),
        (NotImplementedError(), "not_implemented_error", "NotImplementedError", False),
        (SystemExit(2), "system_exit", "2", False),
        (ExceptionGroup("one", [ValueError("inside")]), "value_error", "inside", True),
    ],
)
def test_an_exception_says_by_its_class_whether_repeating_can_help(
    exc: BaseException, code: str, message: str, retryable: bool
) -> None:
    """Code, message and retryability follow from the exception alone."""
    record = error_record(exc, "files", 2)

    after = 7.0 if code == "tool_error" else None
    assert record == ErrorRecord(
        code=code, message=message, retryable=retryable, attempt=2, system="files", retry_after_seconds=after
    )


def test_an_error_of_ours_keeps_its_code() -> None:
    """A state error that a task runs into is told by its own code and never retried."""
    record = error_record(OrchestrationNotFoundError("x-1"), "python", 1)

    assert (record.code, record.retryable) == ("orchestration_not_found", False)


def test_a_long_message_keeps_both_its_ends() -> None:
    """The record is bounded; what was left out is said."""
    record = error_record(ValueError("start" + "x" * 9_000 + "end"), "python", 1)

    assert len(record.message) <= MAX_MESSAGE_CHARS
    assert record.message.startswith("start")
    assert record.message.endswith("end")
    assert "characters left out" in record.message


def test_short_texts_and_lists_stay_whole() -> None:
    """Only what is over the limit is cut."""
    assert bounded("short") == "short"
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(22)]).endswith("19 and 2 more")
    assert snake_case("XMLParseError") == "xml_parse_error"
