"""Reads what a controller answers: its value, its failure, its health; whatever shape it has.

May import: orchestration.{errors, ports}, orchestration.systems.{base, open_effects}, stdlib.

An answer is an object or a mapping with `success`, `result` and `error`, or the plain value itself. Its own code may
run when it is read (properties, `__bool__`, `__str__`): where that raises, the work was done and what came of it is not
known. A failure is definite, unless its code says that the controller itself heard no answer (`OPEN_CODES`) or it says
`effect_open: true`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestration.errors import AttemptError, AttemptFailedError
from orchestration.ports import Health
from orchestration.systems.base import bounded, snake_case, words_of
from orchestration.systems.open_effects import leaves_effect_open

OPEN_CODES = frozenset(
    {"timeout", "timeout_error", "connection_error", "connection_lost", "system_unavailable", "cancelled"}
)
"""Codes of a controller's failure that leave open whether the work was done."""

_NO = frozenset({"", "0", "false", "no", "none", "null", "error", "failed", "failure"})
"""Words for `success` that mean the opposite."""

_UNWELL = frozenset({"error", "unhealthy", "down", "critical", "offline"})

_FIELDS = ("success", "result", "error", "error_code", "retryable", "effect_open")


def value_of(answer: Any, *, unwraps_response: bool) -> object:
    """Return the value of a controller's answer.

    Raises:
        AttemptFailedError: The answer says that the task failed, or can't be read (`unreadable_answer`).
    """
    if isinstance(answer, BaseException):
        raise _returned(answer)
    try:
        return _value(answer, unwraps_response=unwraps_response)
    except AttemptError:
        raise
    except Exception as exc:
        said = f"{type(exc).__name__}: {words_of(exc)}"
        raise AttemptFailedError(
            f"The controller's answer, of type {type(answer).__name__}, can't be read: {said}.",
            "unreadable_answer",
            retryable=False,
            effect_open=True,
        ) from exc


def health_of(status: Any) -> Health:
    """Return what a controller's status means; one of another shape counts as well."""
    word = status.get("status") if isinstance(status, Mapping) else status
    bad = isinstance(word, str) and word.casefold() in _UNWELL
    denied = isinstance(status, Mapping) and status.get("healthy") is False
    return Health(
        ok=not (bad or denied), detail=bounded(f"status {word}", 300) if isinstance(word, str) else "answers"
    )


def _returned(exc: BaseException) -> Exception:
    """Return the failure that an exception stands for which was returned in place of being raised."""
    if isinstance(exc, Exception) and not isinstance(exc, StopIteration | StopAsyncIteration):
        return exc
    return AttemptFailedError(
        bounded(f"The controller answered with {type(exc).__name__}: {words_of(exc)}."),
        snake_case(type(exc).__name__),
        retryable=False,
        effect_open=leaves_effect_open(exc),
    )


def _value(answer: Any, *, unwraps_response: bool) -> object:
    fields = _fields(answer)
    if fields is None:
        return answer
    if "success" in fields and _is_no(fields["success"]):
        raise _failure(fields)
    if "result" in fields:
        value = fields["result"]
    else:
        value = (
            {name: part for name, part in fields.items() if name != "success"}
            if "success" in fields
            else answer
        )
    if unwraps_response and isinstance(value, Mapping):
        for key in ("response", "final_response"):
            if value.get(key) is not None:
                return value[key]
    return value


def _fields(answer: Any) -> Mapping[str, Any] | None:
    """Return the fields of an answer that has some to look at; None for a plain value."""
    if isinstance(answer, Mapping):
        return answer
    if not hasattr(answer, "success"):
        return None
    names = (
        _FIELDS if hasattr(answer, "result") else [name for name in dir(answer) if not name.startswith("_")]
    )
    return {name: getattr(answer, name) for name in names if _is_field(answer, name)}


def _is_field(answer: Any, name: str) -> bool:
    return hasattr(answer, name) and not callable(getattr(answer, name))


def _is_no(success: Any) -> bool:
    """Whether a `success` of whatever type means failure."""
    return success.strip().casefold() in _NO if isinstance(success, str) else not success


def _failure(fields: Mapping[str, Any]) -> AttemptFailedError:
    """Return the failure an answer tells of.

    It is retried unless the answer has `retryable` false; `effect_open` in the answer beats what its code says.
    """
    error = fields.get("error")
    code = fields.get("error_code")
    if isinstance(error, Mapping):
        code = error.get("code", code)
        error = error.get("message", error)
    text = bounded(str(error)) if error else "The controller answered with success false and no error."
    retryable = fields.get("retryable", True) is not False
    code = code if isinstance(code, str) and code else "task_failed"
    effect_open = fields.get("effect_open", code in OPEN_CODES) is True
    return AttemptFailedError(text, code, retryable, effect_open=effect_open)
