"""How a command that could not be carried out says so: exit code, words on stderr, or one JSON document on
stdout.

May import: server.cli.*, orchestration.errors, orchestration.logs (late), stdlib.
"""

from __future__ import annotations

from typing import Any

from orchestration.errors import AttemptError, ControlPendingError, OrchestrationError, ProblemsError
from server.cli.output import Output
from server.cli.parser import BAD_INPUT, FAILED, INTERRUPTED, UsageError


def report(error: Exception, output: Output) -> int:
    """Tell what went wrong and return the exit code.

    A refusal is told in its own words. Anything else is a bug of this program: it goes to the log with its
    traceback.
    """
    found = meant(error)
    if not isinstance(found, OrchestrationError | UsageError):
        from orchestration.logs import get_logger

        get_logger().error("The command failed unexpectedly", operation="COMMAND_FAILED", exc_info=found)
    if output.is_json:
        output.document({"error": document(found)})
    else:
        if isinstance(found, UsageError) and found.usage:
            output.note(found.usage)
        output.note(f"error: {_message(found)}")
    if isinstance(found, AttemptError) or not isinstance(found, OrchestrationError | UsageError):
        return FAILED
    return INTERRUPTED if isinstance(found, ControlPendingError) else BAD_INPUT


def meant(error: BaseException) -> BaseException:
    """Return the error a group of one stands for, or the first in it that was raised on purpose."""
    while isinstance(error, BaseExceptionGroup):
        deliberate, _ = error.split(OrchestrationError)
        error = (deliberate or error).exceptions[0]
    return error


def document(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON."""
    told: dict[str, Any] = {"code": _code(error), "message": _message(error)}
    if isinstance(error, ProblemsError):
        told["problems"] = [
            {"path": problem.path, "message": problem.message, "fix": problem.fix}
            for problem in error.problems
        ]
    if isinstance(error, OrchestrationError):
        told["retryable"] = error.retryable
    return told


def _code(error: BaseException) -> str:
    if isinstance(error, OrchestrationError):
        return error.code
    return "usage" if isinstance(error, UsageError) else "internal_error"


def _message(error: BaseException) -> str:
    if isinstance(error, OrchestrationError | UsageError):
        return str(error)
    return f"{type(error).__name__}: {error}. This is a bug; please report it with the log lines above."
