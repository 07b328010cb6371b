"""Logging: structlog on top of the standard logger `advanced_task_orchestration`. Logs are for people, never
parsed.

May import: orchestration.{plain_text, redaction}, structlog (late), stdlib.

Importing the package configures nothing. A library user decides with the standard library alone,
`logging.getLogger("advanced_task_orchestration").setLevel(logging.DEBUG)`; the command line and the server
call `configure`. Every call becomes a standard record whose `extra` holds the fields (`record.operation`,
`record.task_id`, …), so any handler and formatter can use them. Logs go to stderr: stdout belongs to answers.

What orchestrators of this process keep secret is taken out of every field, and by our own handler out of tracebacks and
of what other libraries log, too.

structlog is imported when something is really logged (it costs 0.13 s), and a level that is off costs one
comparison.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO

from orchestration.plain_text import printable_text
from orchestration.redaction import NOTHING_SECRET, Redactor

if TYPE_CHECKING:
    import structlog

LOGGER_NAME = "advanced_task_orchestration"
"""The standard logger everything goes through."""

_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""Names the standard record uses itself; a field of that name gets a `_` at its end."""


class _Hidden:
    """What is taken out of all logs."""

    redactor = NOTHING_SECRET


def hide(redactor: Redactor) -> None:
    """Take what this redactor knows out of all logs from now on, besides what is taken out already.

    For the whole process: a library that one orchestrator uses logs without saying for whom.
    """
    if not redactor.secrets <= _Hidden.redactor.secrets:
        _Hidden.redactor = Redactor(_Hidden.redactor.secrets | redactor.secrets)


class Logger:
    """Logs a sentence with fields: `log.info("Task execution started", operation="TASK_EXECUTION_START",
    task_id=…)`.

    `operation` is stable, in upper snake case; ids and numbers are fields, never put into the sentence.
    """

    __slots__ = ("_fields", "_standard")

    def __init__(self, standard: logging.Logger, fields: Mapping[str, Any]) -> None:
        self._standard = standard
        self._fields = fields

    def bind(self, **fields: Any) -> Logger:
        """Return a logger that adds these fields to everything it logs."""
        return Logger(self._standard, {**self._fields, **fields})

    def is_enabled_for(self, level: int) -> bool:
        """Whether a call at this level would go anywhere; ask before computing something costly for a log
        line.
        """
        return self._standard.isEnabledFor(level)

    def debug(self, event: str, **fields: Any) -> None:
        """Log what only someone debugging wants to know."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Log a normal step."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log something odd that was coped with."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log a failure."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Log a failure with the traceback of the exception being handled."""
        self._log(logging.ERROR, event, {"exc_info": True, **fields})

    def _log(self, level: int, event: str, fields: Mapping[str, Any]) -> None:
        if self._standard.isEnabledFor(level):
            bound = _structured(self._standard.name)
            bound.log(level, event, **{**self._fields, **fields})


def get_logger(**fields: Any) -> Logger:
    """Return the program's logger, with `fields` added to everything it logs."""
    return Logger(logging.getLogger(LOGGER_NAME), fields)


def configure(level: str | int = "INFO", json: bool | None = None, stream: TextIO | None = None) -> None:
    """Send logs to stderr; for processes that own their logging. Calling it again replaces what it set up
    before.

    Args:
        level: The least severity shown of this program's own logs; other libraries are shown from WARNING.
        json: One JSON object a line; else for people. None: JSON unless the stream is a terminal.
        stream: Where to write; stderr when absent.
    """
    target = sys.stderr if stream is None else stream
    as_json = not target.isatty() if json is None else json
    handler = _Handler(target, as_json)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER_NAME).setLevel(level)


def prepare() -> None:
    """Load what logging needs now, instead of in the middle of the work with the first record, if INFO is on."""
    if logging.getLogger(LOGGER_NAME).isEnabledFor(logging.INFO):
        _structured(LOGGER_NAME)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to a stream; makes its formatter when there is a first record, for that needs structlog."""

    def __init__(self, stream: TextIO, as_json: bool) -> None:
        super().__init__(stream)
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        if self.formatter is None:
            self.formatter = _formatter(self.stream, as_json=self._as_json)
        return _Hidden.redactor.text(super().format(record))


@functools.cache
def _structured(name: str) -> structlog.stdlib.BoundLogger:
    """Return structlog's logger over the standard one; structlog's global configuration is left alone."""
    import structlog

    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.contextvars.merge_contextvars,
            _without_secrets,
            _keep_record_fields,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    ).bind()
    return logger


def _without_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take secrets out of the texts, in lists and objects too; what is neither is told when it is written."""
    if _Hidden.redactor:
        for name, value in event.items():
            if isinstance(value, str | dict | list):
                event[name] = _Hidden.redactor.json(value)
    return event


def _keep_record_fields(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Rename fields the standard record would refuse."""
    for name in _RECORD_FIELDS.intersection(event).difference({"exc_info", "stack_info"}):
        event[f"{name}_"] = event.pop(name)
    return event


def _formatter(stream: TextIO, *, as_json: bool) -> logging.Formatter:
    import structlog

    render: structlog.typing.Processor
    if as_json:
        render = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    else:
        render = structlog.dev.ConsoleRenderer(
            colors=stream.isatty() and not os.environ.get("NO_COLOR"),
            exception_formatter=structlog.dev.plain_traceback,
        )
    describe: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_time,
        structlog.stdlib.ExtraAdder(),
    ]
    describe.append(structlog.processors.format_exc_info)
    if not as_json:  # in JSON they are escapes already, or read by a program
        describe.append(_printable)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=describe,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )


def _printable(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep what others wrote from steering the terminal; what is no text is shown as Python writes it."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable_text(value)
    return event


def _add_time(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add when the record was made, in UTC."""
    from orchestration.clock import to_iso

    record: logging.LogRecord = event["_record"]
    event["timestamp"] = to_iso(int(record.created * 1_000_000))
    return event
