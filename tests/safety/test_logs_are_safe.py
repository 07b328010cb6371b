"""Logs lose the secrets and steer no terminal, whoever logs."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from orchestration import logs
from orchestration.factory import create_advanced_task_orchestrator
from orchestration.logs import LOGGER_NAME, configure, get_logger
from orchestration.redaction import BLOT, NOTHING_SECRET

SECRET = "planted-in-a-log-1"
EVIL = "\x1b]52;c;aGk=\x07\u202e\r"


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let an orchestrator know the secret; leave the process's loggers as they were found."""
    monkeypatch.setattr(logs._Hidden, "redactor", NOTHING_SECRET)
    root, own = logging.getLogger(), logging.getLogger(LOGGER_NAME)
    handlers, level, own_level = list(root.handlers), root.level, own.level
    create_advanced_task_orchestrator(secrets=[SECRET])
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)


def log_everything() -> None:
    """Log the secret and the sequences in every way."""
    log = get_logger(bound=SECRET)
    log.warning(
        " ".join(("said", SECRET, EVIL)),
        reason=f"{SECRET}{EVIL}",
        deep={SECRET: [SECRET, EVIL]},
        other=ValueError(SECRET),
    )
    try:
        raise ValueError(f"{SECRET} {EVIL}")
    except ValueError:
        log.exception("failed")
    logging.getLogger("somebody.else").warning("url=%s %s", f"https://u:{SECRET}@host", EVIL)


@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_our_own_logs_hold_neither(is_json: bool, stream: type[io.StringIO]) -> None:
    """In the event, in fields however deep, in tracebacks, and in what a library logs beside."""
    screen = stream()
    configure("DEBUG", json=is_json, stream=screen)

    log_everything()

    text = screen.getvalue()
    assert text.count(BLOT) >= 8
    assert SECRET not in text
    assert not [mark for mark in ("\x1b]", "\x07", "\r") if mark in text]
    assert is_json or "\u202e" not in text


def test_a_handler_of_somebody_else_gets_fields_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """A library's user may send records wherever they like."""
    with caplog.at_level(logging.DEBUG, logger=LOGGER_NAME):
        get_logger(bound=SECRET).info(f"said {SECRET}", reason=SECRET, deep={SECRET: [SECRET]})

    assert SECRET not in str(vars(caplog.records[0]))
    assert caplog.records[0].getMessage() == f"said {BLOT}"
