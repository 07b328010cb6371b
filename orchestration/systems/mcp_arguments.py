"""Checks a call's arguments against the schema the tool's server gave, before the call.

May import: orchestration.errors, orchestration.systems.base, jsonschema and referencing (late), stdlib.

A definite refusal before the call beats a stranger's words after it: nothing has run, and the field is named. But the
schema is a stranger's, too, so it decides nothing it could be wrong or hostile about:

* nothing is fetched: a `$ref` that leads out of the schema is not followed;
* no regular expression of it is run;
* a schema that is too large, too deep or refers to itself too often is passed over, and so are large arguments: the
  server will check them itself;
* text is taken where a number or a truth value is wanted and the text is one, as many servers do.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from orchestration.errors import AttemptFailedError
from orchestration.systems.base import MAX_CHOICES, bounded, invalid_arguments

MAX_SCHEMA_CHARS = 64 * 1024
MAX_ARGUMENT_CHARS = 64 * 1024
MAX_STEPS = 2_000
"""Most references followed and choices tried for one call."""


class _TooMuchError(Exception):
    """The schema asks for more work than a check may be."""


def refusal(
    tool: str, schema: Mapping[str, Any] | None, arguments: Mapping[str, Any]
) -> AttemptFailedError | None:
    """Return why a tool can't take these arguments; None when it can, or nobody knows."""
    if not schema or ("properties" not in schema and "required" not in schema):
        return None
    try:
        text = json.dumps(schema)
        if len(text) > MAX_SCHEMA_CHARS or len(json.dumps(arguments)) > MAX_ARGUMENT_CHARS:
            return None
        error = _first_error(text, schema, arguments)
    except Exception:  # noqa: BLE001  (whatever is wrong with a stranger's schema is no fault of the arguments)
        return None
    if error is None:
        return None
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    field = f"`{where.lstrip('.')}`: " if where else ""
    return invalid_arguments(
        f"The arguments do not fit the tool {tool!r}: {field}{bounded(error.message, 300)}. "
        f"Expected {_expected(schema)}. Fix: correct the task's `arguments`."
    )


def _expected(schema: Mapping[str, Any]) -> str:
    """Return the parameters there are, with their types, those that must be given marked."""
    properties = schema.get("properties")
    required = schema.get("required")
    named = dict(properties) if isinstance(properties, Mapping) else {}
    shown = [_parameter(name, kind, required) for name, kind in itertools.islice(named.items(), MAX_CHOICES)]
    more = f" and {len(named) - MAX_CHOICES} more" if len(named) > MAX_CHOICES else ""
    return (", ".join(shown) + more) or "no arguments"


def _parameter(name: str, schema: object, required: object) -> str:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    words = [kind] if isinstance(kind, str) else []
    words += ["required"] if isinstance(required, list) and name in required else []
    return bounded(name, 60) + (f" ({', '.join(words)})" if words else "")


def _first_error(text: str, schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    from jsonschema.exceptions import best_match

    validator = _validator(text, str(schema.get("$schema", "")))
    return best_match(itertools.islice(validator(dict(arguments)), 20))


@functools.lru_cache(maxsize=256)
def _validator(text: str, dialect: str) -> Any:
    """Return what yields the errors of arguments; made once per schema, which costs far more than a check."""
    import jsonschema
    from jsonschema import validators
    from referencing import Registry

    base: Any = validators.validator_for(
        {"$schema": dialect} if dialect else {}, default=jsonschema.Draft202012Validator
    )
    steps = [0]
    rules: dict[str, Any] = {
        name: (_counting(rule, steps) if name in _COUNTED else rule) for name, rule in base.VALIDATORS.items()
    }
    rules.update(dict.fromkeys(_NOT_CHECKED & set(rules), _passes))
    rules["type"] = _type_or_text(base.VALIDATORS["type"])
    rules["enum"] = _named_in(base.VALIDATORS["enum"])
    rules["additionalProperties"] = _unless_patterns(base.VALIDATORS["additionalProperties"])
    extend: Any = validators.extend  # the library's own types leave it bare
    checked = extend(base, rules)(json.loads(text), registry=Registry())

    def errors(arguments: Mapping[str, Any]) -> Iterator[Any]:
        steps[0] = 0
        return iter(checked.iter_errors(arguments))

    return errors


_COUNTED = frozenset(
    {"$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "not", "if", "items"}
)
_NOT_CHECKED = frozenset(
    {"pattern", "patternProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "format"}
    | {"const", "uniqueItems"}
)
"""What runs a stranger's expressions, takes long, or is where servers are more lenient than their schema."""


def _passes(*_: object) -> Iterator[Any]:
    return iter(())


def _counting(rule: Any, steps: list[int]) -> Any:
    def counted(*arguments: Any) -> Iterator[Any]:
        steps[0] += 1
        if steps[0] > MAX_STEPS:
            raise _TooMuchError
        yield from rule(*arguments) or ()

    return counted


def _unless_patterns(rule: Any) -> Any:
    """Further properties are refused only where no expression says which are allowed."""

    def checked(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if "patternProperties" not in schema:
            yield from rule(validator, wanted, instance, schema) or ()

    return checked


def _named_in(rule: Any) -> Any:
    """A choice is one however it is spelled: in capitals, or a number as text."""

    def checked(validator: Any, choices: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if str(instance).lower() not in {str(choice).lower() for choice in choices}:
            yield from rule(validator, choices, instance, schema) or ()

    return checked


def _type_or_text(rule: Any) -> Any:
    """Text that is a number or a truth value counts as one."""

    def checked(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        kinds = {wanted} if isinstance(wanted, str) else set(wanted)
        if isinstance(instance, str) and _reads_as(instance, kinds):
            return
        yield from rule(validator, wanted, instance, schema) or ()

    return checked


def _reads_as(text: str, kinds: set[str]) -> bool:
    if "boolean" in kinds and text.strip().lower() in {"true", "false", "0", "1", "yes", "no", "on", "off"}:
        return True
    if kinds & {"array", "object"} and text.lstrip()[:1] in {"[", "{"}:
        return True  # JSON in a text, which several servers read
    if not kinds & {"integer", "number"} or len(text) > 400:
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True
