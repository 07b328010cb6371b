"""How exceptions become error records."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.errors import (
    AttemptCancelledError,
    AttemptFailedError,
    AttemptTimeoutError,
    OrchestrationNotFoundError,
    SystemUnavailableError,
)
from orchestration.models import ErrorRecord
from orchestration.systems.base import (
    MAX_MESSAGE_CHARS,
    bounded,
    error_record,
    listed,
    name_of,
    short_hash,
    snake_case,
)
from orchestration.systems.open_effects import leaves_effect_open


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
    """Code, message and retryability follow from the exception alone; `test_open_effects.py` has the rest."""
    record = error_record(exc, "files", 2)

    after = 7.0 if code == "tool_error" else None
    assert record == ErrorRecord(
        code=code,
        message=message,
        retryable=retryable,
        attempt=2,
        system="files",
        retry_after_seconds=after,
        effect_open=leaves_effect_open(exc),
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


def test_a_short_hash_follows_the_value_and_not_its_order() -> None:
    """16 hexadecimal digits; the same object written in another order is the same."""
    assert len(short_hash(None)) == 16
    assert short_hash({"a": 1, "b": [2]}) == short_hash({"b": [2], "a": 1})
    assert short_hash({"a": 1}) != short_hash({"a": "1"})


class Tool:
    """Something with a method, and that can be called."""

    def method(self) -> None: ...

    def __call__(self) -> None: ...


def test_a_callable_has_a_name_that_other_processes_know() -> None:
    """Where it is found; what has no place of its own goes by its name, an object by its class."""

    def local() -> None: ...

    here = __name__
    assert name_of(json.dumps) == "json:dumps"
    assert name_of(dict) == "builtins:dict"
    assert name_of(Tool().method) == f"{here}:Tool.method"
    assert name_of(Tool()) == f"{here}:Tool"
    partial = functools.partial(functools.partial(json.dumps), indent=1)
    assert name_of(partial) == 'json:dumps([[], {"indent": 1}])'
    assert name_of(local).endswith("<locals>.local")
    assert ":" not in name_of(local)
    assert ":" not in name_of(lambda: None)


def test_a_function_of_the_program_itself_has_the_name_others_import_it_by(tmp_path: Path) -> None:
    """`python tools.py` defines what `tools:report` names."""
    script = tmp_path / "tools.py"
    script.write_text(
        "from orchestration.systems.base import name_of\ndef report(): ...\nprint(name_of(report))\n"
    )

    ended = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout == "tools:report\n"
