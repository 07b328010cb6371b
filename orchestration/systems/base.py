"""What every kind of system shares: how exceptions become error records, and how refusals name the choices.

May import: orchestration.{errors, models, redaction}, orchestration.systems.open_effects, stdlib.

An exception says by its class whether repeating can help:

* an `AttemptError` carries the answer itself (`code`, `retryable`, `retry_after_seconds`), as do the other
  errors of `orchestration.errors`;
* `NEVER_RETRIED` holds the classes that mean a mistake in the program: the next attempt would run into it
  again;
* everything else (a `ValueError` made from a broken answer, a `KeyError` on a half-written file, any
  `OSError`) may well succeed next time and is retried. Arguments are checked before the call, so bad ones
  never come this far.

Whether it leaves open what happened is told by `open_effects.py`.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestration.errors import AttemptError, AttemptFailedError, InvalidArgumentError, OrchestrationError
from orchestration.models import ErrorRecord, Json, JsonObject, as_unicode, copy_json
from orchestration.redaction import NOTHING_SECRET, Redactor
from orchestration.systems.open_effects import leaves_effect_open

MAX_MESSAGE_CHARS = 2_000
"""Longest message of an error record: it is stored with the task and shown to language models."""

MAX_CHOICES = 20
"""How many names a refusal lists."""

NEVER_RETRIED: tuple[type[BaseException], ...] = (
    TypeError,
    NameError,
    ImportError,
    SyntaxError,
    NotImplementedError,
    RecursionError,
)
"""Exceptions that mean a mistake in the program that was run."""

LOGGER_NAME = "advanced_task_orchestration"
"""The standard logger everything of this program logs to."""

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def error_record(
    exc: BaseException, system: str, attempt: int, redactor: Redactor = NOTHING_SECRET
) -> ErrorRecord:
    """Return what is stored and shown about an attempt that ended with `exc`.

    Args:
        exc: What `execute` raised; a group of one exception counts as that exception.
        system: Name of the system it ran on.
        attempt: Number of the attempt, counted from 1.
        redactor: Takes secrets out of the message, before it is cut: half a secret is not recognised.
    """
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    retry_after = exc.retry_after_seconds if isinstance(exc, AttemptFailedError) else None
    code, retryable = _classify(exc)
    return ErrorRecord(
        code=code,
        message=bounded(redactor.text(_message(exc))),
        retryable=retryable,
        attempt=attempt,
        system=system,
        retry_after_seconds=retry_after,
        effect_open=leaves_effect_open(exc),
    )


def _classify(exc: BaseException) -> tuple[str, bool]:
    """Return the stable code of an exception and whether repeating can help."""
    if isinstance(exc, OrchestrationError):
        return exc.code, exc.retryable
    if isinstance(exc, TimeoutError):
        return "timeout", True
    retryable = isinstance(exc, Exception) and not isinstance(exc, NEVER_RETRIED)
    return snake_case(type(exc).__name__), retryable


def copied(context: Mapping[str, Json]) -> JsonObject:
    """Return a copy of an orchestration's context for one attempt: what it does to it must not reach another one."""
    return {name: copy_json(value) for name, value in context.items()}


def words_of(exc: BaseException) -> str:
    """Return an exception's own words as text that can be stored; empty where it has none, or can't say them."""
    try:
        return as_unicode(str(exc).strip())
    except Exception:  # noqa: BLE001  (an exception's `__str__` is anybody's code)
        return ""


def _message(exc: BaseException) -> str:
    """Return an exception's own words, or the name of its class where it has none."""
    text = words_of(exc)
    if isinstance(exc, KeyError):
        return f"KeyError: {text}"
    if text:
        return text
    doc = type(exc).__doc__
    return doc.strip().splitlines()[0] if isinstance(exc, AttemptError) and doc else type(exc).__name__


def snake_case(name: str) -> str:
    """Return a class name as a code: `HTTPStatusError` becomes `http_status_error`."""
    return _WORD_START.sub("_", name).lower()


def bounded(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """Return `text`, cut in the middle when it is longer than `limit`: both ends tell what happened."""
    if len(text) <= limit:
        return text
    head = limit // 3
    note = f" … ({len(text) - limit} characters left out) … "
    return text[:head] + note + text[-max(0, limit - head - len(note)) :]


def short_hash(value: Json) -> str:
    """Return 16 hexadecimal digits that change whenever `value` does, and don't show it."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def name_of(target: Any) -> str:
    """Return a name by which a callable or an object is known in other processes, too: `package.module:function`.

    A lambda, or a function made inside another one, is known by its name alone, a method by its class: neither what a
    closure holds nor whose method it is can be told in another process. A partial is known by its arguments, too.
    """
    if isinstance(target, functools.partial):
        return f"{name_of(target.func)}({_told([target.args, target.keywords])})"
    name = getattr(target, "__qualname__", None)
    if not isinstance(name, str):
        target = type(target)
        name = target.__qualname__
    if "<" in name:
        return name
    module = getattr(target, "__module__", None) or ""
    return f"{_module_name() if module == '__main__' else module}:{name}"


def _told(value: object) -> str:
    """Return a value as JSON; what has none by its type."""
    return json.dumps(value, sort_keys=True, default=lambda other: f"<{type(other).__qualname__}>")


def _module_name() -> str:
    """Return the name under which another process would import the module this program was started with."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return spec.name if spec is not None else Path(getattr(main, "__file__", "") or "").stem


def listed(names: Collection[str]) -> str:
    """Return names as text, the first `MAX_CHOICES` of them."""
    shown = ", ".join(list(names)[:MAX_CHOICES])
    more = len(names) - MAX_CHOICES
    return f"{shown} and {more} more" if more > 0 else shown


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three of `names` that are spelled like `name`, best first."""
    return difflib.get_close_matches(name, list(names), 3, 0.5)


def base_task_id(task_id: str) -> str:
    """Return a task's id without the `~n` of an alternative plan and the `[n]` of a `foreach`."""
    return task_id.partition("~")[0].partition("[")[0]


def unknown_tool(system: str, tool: str, known: Collection[str]) -> InvalidArgumentError:
    """Return the refusal of a tool that the system does not have."""
    near = nearest(tool, known)
    fix = f"did you mean {near[0]!r}?" if near else "name one of these, or another system."
    expected = (
        f"a tool of system {system!r}: {listed(known)}"
        if known
        else f"a tool, but system {system!r} has none"
    )
    return InvalidArgumentError("tool", tool, expected, fix)


def pick_tool(system: str, tool: str | None, task_id: str, known: Collection[str]) -> str:
    """Return the tool that runs a task: the one it names, else one called like the task, else the only one.

    Raises:
        InvalidArgumentError: There is no such tool, or several and nothing to choose by; lists them.
    """
    if tool is not None:
        if tool in known:
            return tool
        raise unknown_tool(system, tool, known)
    own_id = base_task_id(task_id)
    if own_id in known:
        return own_id
    if len(known) == 1:
        return next(iter(known))
    expected = (
        f"the name of a tool of system {system!r}: {listed(known)}" if known else "a system that has tools"
    )
    raise InvalidArgumentError(
        "tool", tool, expected, f"set `tool` of task {task_id!r}, or call the task like its tool."
    )


def invalid_arguments(message: str) -> AttemptFailedError:
    """Return the failure of an attempt whose arguments the tool can't take; repeating can't help."""
    return AttemptFailedError(message, "invalid_arguments", retryable=False)
