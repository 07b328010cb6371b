"""What a task may put into an HTTP request: typed, bounded values, and the templates they stand in.

May import: orchestration.models, orchestration.systems.base, pydantic, stdlib.

`{name}` in a template stands for the argument `name`; `{{name}}` is the literal text `{name}`; any other brace is
itself. These are the rules of declared commands, too. A text that is nothing but a placeholder stands for the value
as it is (a number stays a number, a list a list); inside other text a value is written as text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestration.models import Json
from orchestration.systems.base import bounded, nearest

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_][A-Za-z0-9_]*)\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_EXPECTED = {"string": "text", "boolean": "true or false", "array": "a list", "object": "an object"}
_SHOWN_CHARS = 120


class HttpParameter(BaseModel):
    """What may stand in place of one placeholder."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    type: Literal["any", "string", "integer", "number", "boolean", "array", "object"] = "any"
    """`any` takes every value. Lists and objects fit into a body, lists also into a query."""
    description: str = ""
    required: bool = True
    """An argument that is not required and not given is left out of the query or the body, with its key."""
    default: Json = None
    """Used when the task gives no value; with one the argument is not required."""
    choices: list[Json] | None = None
    """The only values allowed."""
    max_length: Annotated[int, Field(ge=1)] = 32_768
    """Longest value: characters of its text, of a list or object as JSON."""
    minimum: float | None = None
    """Of a number."""
    maximum: float | None = None
    """Of a number."""
    pattern: str | None = None
    """A regular expression that a text has to match as a whole."""
    allow_slash: bool = False
    """Whether a value in the path may hold `/`; it is sent as `%2F`, which careless servers read as a separator."""

    @model_validator(mode="after")
    def _is_consistent(self) -> HttpParameter:
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as exc:
                raise ValueError(f"pattern is no regular expression: {exc}") from None
        if self.default is not None:
            try:
                self.accept("default", self.default)
            except ValueError as exc:
                raise ValueError(str(exc).replace("argument 'default'", "default")) from None
        return self

    @property
    def is_required(self) -> bool:
        """Whether the task has to give a value."""
        return self.required and self.default is None

    def accept(self, name: str, value: Json) -> Json:
        """Return an argument's value as the declared type; the default for None.

        Raises:
            ValueError: It is missing, of another type or out of bounds; says what was expected.
        """
        if value is None:
            value = self.default
        if value is None:
            if self.is_required:
                raise ValueError(f"argument {name!r} is missing")
            return None
        value = self._typed(name, value)
        if self.choices is not None and not _is_among(value, self.choices):
            expected = bounded(", ".join(map(repr, self.choices)), 500)
            raise ValueError(f"argument {name!r} is {_shown(value)}; expected one of {expected}")
        self._check_bounds(name, value)
        return value

    def schema_of(self) -> dict[str, Any]:
        """Return the JSON Schema of the value."""
        said = {
            "type": None if self.type == "any" else self.type,
            "description": self.description or None,
            "default": self.default,
            "enum": self.choices,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "pattern": None if self.pattern is None else f"^(?:{self.pattern})$",
        }
        return {key: value for key, value in said.items() if value is not None}

    def _typed(self, name: str, value: Json) -> Json:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"argument {name!r} is {value}; expected a number that JSON has")
        if self.type in _TYPES and not isinstance(value, _TYPES[self.type]):
            raise ValueError(f"argument {name!r} is {_shown(value)}; expected {_EXPECTED[self.type]}")
        return _number(name, value, self.type) if self.type in ("integer", "number") else value

    def _check_bounds(self, name: str, value: Json) -> None:
        text = as_text(value)
        if len(text) > self.max_length:
            raise ValueError(f"argument {name!r} has {len(text)} characters; the limit is {self.max_length}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self.minimum is not None and value < self.minimum:
                raise ValueError(f"argument {name!r} is {value}; expected at least {self.minimum:g}")
            if self.maximum is not None and value > self.maximum:
                raise ValueError(f"argument {name!r} is {value}; expected at most {self.maximum:g}")
        if self.pattern is not None and isinstance(value, str) and re.fullmatch(self.pattern, value) is None:
            raise ValueError(
                f"argument {name!r} is {_shown(value)}; expected text that matches {self.pattern!r}"
            )


ANYTHING = HttpParameter()
"""What holds for a placeholder of which nothing is declared."""


def as_text(value: Json) -> str:
    """Return a value as it stands inside text: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def placeholders(template: Json) -> Iterator[str]:
    """Yield the names of a template's placeholders, in order; keys of objects have none."""
    match template:
        case str():
            yield from (match[2] for match in _PLACEHOLDER.finditer(template) if match[2])
        case list():
            for item in template:
                yield from placeholders(item)
        case dict():
            for item in template.values():
                yield from placeholders(item)


def whole_placeholder(template: str) -> str | None:
    """Return the name of the placeholder a text consists of; None when it is anything else."""
    found = _PLACEHOLDER.fullmatch(template)
    return found[2] if found is not None else None


def fill_text(template: str, values: Mapping[str, str]) -> str:
    """Return a text with its placeholders replaced by texts."""
    return _PLACEHOLDER.sub(lambda found: values[found[2]] if found[2] else f"{{{found[1]}}}", template)


def fill(template: Json, values: Mapping[str, Json]) -> Json:
    """Return a JSON template with its placeholders replaced.

    A key or an item that is nothing but the placeholder of a value not given (None) is left out; inside text such a
    value is empty.
    """
    match template:
        case str():
            name = whole_placeholder(template)
            return values[name] if name is not None else fill_text(template, _texts(template, values))
        case list():
            return [fill(item, values) for item in template if not _is_left_out(item, values)]
        case dict():
            return {
                key: fill(item, values) for key, item in template.items() if not _is_left_out(item, values)
            }
        case _:
            return template


def unknown_argument(name: str, names: list[str]) -> str:
    """Return the sentence about an argument that stands nowhere."""
    near = nearest(name, names)
    return f"there is no argument {bounded(name, 100)!r}" + (f" (did you mean {near[0]!r}?)" if near else "")


def _texts(template: str, values: Mapping[str, Json]) -> dict[str, str]:
    found = {name: values[name] for name in placeholders(template)}
    return {name: "" if value is None else as_text(value) for name, value in found.items()}


def _is_left_out(template: Json, values: Mapping[str, Json]) -> bool:
    name = whole_placeholder(template) if isinstance(template, str) else None
    return name is not None and values[name] is None


def _shown(value: Json) -> str:
    return bounded(repr(value), _SHOWN_CHARS)


def _is_among(value: Json, choices: list[Json]) -> bool:
    """Whether a value is one of several; `true` is no 1."""
    return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in choices)


def _number(name: str, value: Json, type_: str) -> int | float:
    """Return a value as a number; numbers written as text are taken.

    Raises:
        ValueError: It is none.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        if type_ == "integer":
            if isinstance(value, float) and not value.is_integer():
                raise ValueError
            return int(value)
        number = float(value) if isinstance(value, str) else value
        if not math.isfinite(number):
            raise ValueError
    except (ValueError, OverflowError):
        kind = "a whole number" if type_ == "integer" else "a number"
        raise ValueError(f"argument {name!r} is {_shown(value)}; expected {kind}") from None
    return number
