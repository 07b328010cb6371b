"""Whether a value fits a JSON Schema that somebody else wrote; such a schema can do no harm.

May import: orchestration.models, jsonschema, referencing, regex, anyio, stdlib.

A schema comes from a plan or from another program, so it is not trusted: references reach nothing outside it (nothing
is fetched), patterns are searched by `regex` with a time limit, and the whole runs on a thread with a limit of its own.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import anyio
import anyio.to_thread

from orchestration.models import Json

PATTERN_SECONDS = 0.5
"""Longest search for one pattern."""

CHECK_SECONDS = 10.0
"""Longest check of one value."""

_SHOWN_CHARS = 300


async def schema_fault(schema: Mapping[str, Any], value: Json) -> str | None:
    """Return why a value does not fit a schema, with the place; None when it does.

    A schema that is none, or that takes too long, is told like a value that does not fit it.
    """
    ended = threading.Event()
    check = functools.partial(_fault, schema, value, ended)
    with anyio.move_on_after(CHECK_SECONDS):
        return await anyio.to_thread.run_sync(check, abandon_on_cancel=True)
    ended.set()
    return f"it could not be checked within {CHECK_SECONDS:g} s"


def check_schema(schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a schema; None when it is one."""
    from jsonschema import SchemaError

    try:
        _validator_class().check_schema(schema)
    except SchemaError as exc:
        return f"{_place(exc.path)}{exc.message}"[:_SHOWN_CHARS]
    except Exception as exc:  # noqa: BLE001  (whatever a schema makes the library raise, it is no usable one)
        return f"{type(exc).__name__}: {exc}"[:_SHOWN_CHARS]
    return None


class _EndedError(Exception):
    """Nobody waits for the answer any more."""


def _fault(schema: Mapping[str, Any], value: Json, ended: threading.Event) -> str | None:
    from referencing import Registry

    wrong = check_schema(schema)
    if wrong is not None:
        return f"the schema itself is not valid: {wrong}"
    registry: Registry[Any] = Registry()
    validator = _validator_class()(schema, registry=registry)
    try:
        for error in validator.iter_errors(value):
            if ended.is_set():
                raise _EndedError
            return f"{_place(error.absolute_path)}{error.message}"[:_SHOWN_CHARS]
    except Exception as exc:  # noqa: BLE001  (a reference to nowhere, a schema that goes in circles)
        return f"the schema can't be applied: {type(exc).__name__}: {exc}"[:_SHOWN_CHARS]
    return None


def _place(path: Any) -> str:
    where = ".".join(str(part) for part in path)
    return f"{where}: " if where else ""


@functools.cache
def _validator_class() -> Any:
    """Return the validator: JSON Schema 2020-12, with patterns that end."""
    from jsonschema import Draft202012Validator, validators

    extend: Any = validators.extend  # its stub has no types
    return extend(Draft202012Validator, {"pattern": _pattern, "patternProperties": _pattern_properties})


def _matches(pattern: str, text: str) -> bool:
    import regex

    return regex.search(pattern, text, timeout=PATTERN_SECONDS) is not None


def _pattern(_validator: Any, pattern: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and isinstance(pattern, str) and not _matches(pattern, instance):
        yield ValidationError(f"{instance[:80]!r} does not match {pattern[:80]!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict) or not isinstance(patterns, dict):
        return
    for pattern, subschema in patterns.items():
        for key, value in instance.items():
            if _matches(pattern, key):
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)
