"""Reads a Python function's signature once, so that each call can be checked, coerced and described cheaply.

May import: orchestration.errors, orchestration.systems.base, pydantic, stdlib.

Arguments come from JSON, so values are coerced the way pydantic does for JSON input (`"3"` for an `int`, a
list for a `tuple`, an object for a model). Parameters without an annotation take any value.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from orchestration.systems.base import bounded, invalid_arguments, nearest

PROVIDED = ("inputs", "context", "idempotency_key", "attempt_id", "heartbeat", "progress")
"""Parameters that the attempt fills in unless the task's own arguments do."""

_UNCHECKED: tuple[object, ...] = (Any, object, inspect.Parameter.empty, dict, Mapping)


class Signature:
    """What one callable takes.

    Args:
        name: What the callable is called in messages.
        function: The callable.

    A built-in whose signature can't be read takes any argument by name.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        kinds = inspect.Parameter
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except ValueError:
            parameters = [kinds("arguments", kinds.VAR_KEYWORD)]
        hints = _type_hints(function)
        self.accepts_any = any(parameter.kind is kinds.VAR_KEYWORD for parameter in parameters)
        named = [
            parameter
            for parameter in parameters
            if parameter.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
        ]
        self._positional = [parameter.name for parameter in named if parameter.kind is kinds.POSITIONAL_ONLY]
        self._parameters = {parameter.name: parameter for parameter in named}
        self._hints = {parameter.name: hints.get(parameter.name, parameter.annotation) for parameter in named}
        self._adapters = {
            name: adapter for name, hint in self._hints.items() if (adapter := _adapter(hint)) is not None
        }
        self.provided = tuple(name for name in PROVIDED if name in self._parameters)
        """Those of `PROVIDED` that the callable has."""
        self.required = [
            parameter.name
            for parameter in named
            if parameter.default is kinds.empty and parameter.name not in PROVIDED
        ]
        self.takes_nothing = not named and not self.accepts_any

    def bind(
        self, arguments: Mapping[str, Any], provided: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return positional and keyword arguments for a call, coerced to the annotated types.

        Args:
            arguments: The task's own arguments.
            provided: Values for `PROVIDED` parameters; an argument of the same name beats them.

        Raises:
            AttemptFailedError: `invalid_arguments`, with every mistake and what the callable takes.
        """
        values = {name: provided[name] for name in self.provided}
        values.update(arguments)
        mistakes = self._names_amiss(arguments)
        for name, value in values.items():
            adapter = self._adapters.get(name)
            if adapter is None:
                continue
            try:
                values[name] = adapter.validate_python(value)
            except ValidationError as exc:
                mistakes.append(_value_amiss(name, value, exc))
        if mistakes:
            raise invalid_arguments(
                f"{self.name} can't be called like this: {'; '.join(mistakes)}. It takes {self}."
            )
        positional = [values.pop(name) for name in self._positional if name in values]
        return positional, values

    def _names_amiss(self, arguments: Mapping[str, Any]) -> list[str]:
        """Return a sentence for each missing or unknown argument."""
        mistakes = [f"argument {name!r} is missing" for name in self.required if name not in arguments]
        if not self.accepts_any:
            for name in arguments:
                if name not in self._parameters:
                    near = nearest(name, self._parameters)
                    mistakes.append(
                        f"there is no argument {name!r}" + (f" (did you mean {near[0]!r}?)" if near else "")
                    )
        return mistakes

    def __str__(self) -> str:
        """Return the parameters as a reader would write them: `(day: str, limit: int = 10)`."""
        shown = []
        for name, parameter in self._parameters.items():
            if name in self.provided:
                continue
            text = (
                f"{name}: {inspect.formatannotation(self._hints[name])}" if self._is_annotated(name) else name
            )
            shown.append(
                text + (f" = {parameter.default!r}" if parameter.default is not parameter.empty else "")
            )
        if self.accepts_any:
            shown.append("any others")
        return f"({', '.join(shown)})" if shown else "no arguments"

    def _is_annotated(self, name: str) -> bool:
        return self._hints[name] is not inspect.Parameter.empty

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the arguments."""
        properties: dict[str, Any] = {}
        definitions: dict[str, Any] = {}
        for name, parameter in self._parameters.items():
            if name in self.provided:
                continue
            schema = _parameter_schema(self._adapters.get(name), self._hints[name])
            definitions.update(schema.pop("$defs", {}))
            if parameter.default is not parameter.empty and isinstance(
                parameter.default, str | int | float | bool | None
            ):
                schema.setdefault("default", parameter.default)
            properties[name] = schema
        described: dict[str, Any] = {"type": "object", "properties": properties}
        if self.required:
            described["required"] = list(self.required)
        if not self.accepts_any:
            described["additionalProperties"] = False
        if definitions:
            described["$defs"] = definitions
        return described


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return evaluated annotations; those that can't be evaluated stay text."""
    target = function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__
    target = inspect.unwrap(getattr(function, "func", target))  # a partial's annotations are its function's
    target = target.__init__ if inspect.isclass(target) else target
    hints: dict[str, Any] = {}
    for name, annotation in getattr(target, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            scope = getattr(target, "__globals__", {})
            hints.update(typing.get_type_hints(alone, globalns=scope, include_extras=True))
        except Exception:  # noqa: BLE001  (evaluating may raise anything: a name only a type checker knows, say)
            hints[name] = annotation
    return hints


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    """Return what checks a value against an annotation; None where there is nothing to check."""
    if isinstance(hint, str) or any(hint is unchecked for unchecked in _UNCHECKED):
        return None
    try:
        try:
            return TypeAdapter(hint)
        except PydanticSchemaGenerationError:
            return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, NameError, TypeError):
        return None  # not something pydantic can check: the function sees the value as it came


def _parameter_schema(adapter: TypeAdapter[Any] | None, hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of one parameter, without a restriction where none can be told."""
    if adapter is None:
        return {"type": "object"} if hint in (dict, Mapping) else {}
    try:
        return adapter.json_schema()
    except PydanticUserError:
        return {}


def _value_amiss(name: str, value: object, exc: ValidationError) -> str:
    """Return a sentence about a value of the wrong type."""
    first = exc.errors(include_url=False, include_context=False)[0]
    where = "".join(f"[{part!r}]" for part in first["loc"])
    reason = str(first["msg"])
    return f"argument {name!r}{where} is {bounded(repr(value), 120)}: {reason[:1].lower()}{reason[1:]}"
