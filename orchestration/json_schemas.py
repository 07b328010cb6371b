"""Whether a value fits a JSON Schema that somebody else wrote; such a schema can do no harm.

May import: orchestration.models, jsonschema, referencing, regex, anyio, stdlib.

A schema comes from a plan or from another program, so it is not trusted: references reach nothing outside it (nothing
is fetched), patterns are searched by `regex` with a time limit, and the whole runs on a thread with a limit of its own.
"""

from __future__ import annotations

import functools
import json
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
    """Return what is wrong with a schema; None when it is one that can be checked."""
    from jsonschema import SchemaError

    try:
        _validator_class().check_schema(schema)
    except SchemaError as exc:
        return f"{_place(exc.path)}{exc.message}"[:_SHOWN_CHARS]
    except Exception as exc:  # noqa: BLE001  (whatever a schema makes the library raise, it is no usable one)
        return f"{type(exc).__name__}: {exc}"[:_SHOWN_CHARS]
    if _holds("unevaluatedProperties", schema) and _holds("patternProperties", schema):
        return "`unevaluatedProperties` beside `patternProperties` can't be checked here; write additionalProperties"
    return None


def _holds(keyword: str, schema: Any) -> bool:
    """Whether a keyword stands anywhere in a schema."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            if keyword in value:
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


class _EndedError(Exception):
    """Nobody waits for the answer any more."""


class _Watched(threading.local):
    """What tells the check on this thread that nobody waits for it any more."""

    ended: threading.Event | None = None


_watched = _Watched()


def _fault(schema: Mapping[str, Any], value: Json, ended: threading.Event) -> str | None:
    from referencing import Registry

    _watched.ended = ended
    try:
        wrong = check_schema(schema)
        if wrong is not None:
            return f"the schema itself is not valid: {wrong}"
        registry: Registry[Any] = Registry()
        validator = _validator_class()(schema, registry=registry)
        error = next(validator.iter_errors(value), None)
    except Exception as exc:  # noqa: BLE001  (a reference to nowhere, a schema that goes in circles)
        return f"the schema can't be applied: {type(exc).__name__}: {exc}"[:_SHOWN_CHARS]
    finally:
        _watched.ended = None
    return None if error is None else f"{_place(error.absolute_path)}{error.message}"[:_SHOWN_CHARS]


def _place(path: Any) -> str:
    where = ".".join(str(part) for part in path)
    return f"{where}: " if where else ""


@functools.cache
def _validator_class() -> Any:
    """Return the validator: JSON Schema 2020-12, with patterns that end, and ending when nobody waits."""
    from jsonschema import Draft202012Validator, validators

    rules: dict[str, Any] = {
        **Draft202012Validator.VALIDATORS,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
    }
    extend: Any = validators.extend  # its stub has no types
    return extend(Draft202012Validator, {name: _ending(rule) for name, rule in rules.items()})


def _ending(rule: Any) -> Any:
    """Return a rule that stops the whole check once nobody waits for it."""

    def checked(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if _watched.ended is not None and _watched.ended.is_set():
            raise _EndedError
        yield from rule(validator, wanted, instance, schema) or ()

    return checked


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


def _additional_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """As the library's, which searches with expressions that need not end."""
    from jsonschema import ValidationError

    if not isinstance(instance, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    further = [
        key for key in instance if key not in named and not any(_matches(each, key) for each in patterns)
    ]
    if isinstance(wanted, dict):
        for key in further:
            yield from validator.descend(instance[key], wanted, path=key)
    elif wanted is False and further:
        yield ValidationError(f"it has further properties: {', '.join(map(repr, further))[:200]}")


def _unique_items(_validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    """As the library's, which compares every two objects."""
    from jsonschema import ValidationError

    if wanted is not True or not isinstance(instance, list):
        return
    seen = {json.dumps(item, sort_keys=True) for item in instance}
    if len(seen) < len(instance):
        yield ValidationError("its items are not all different")
