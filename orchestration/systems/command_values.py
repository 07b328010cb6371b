"""What may stand in place of one placeholder of a command, and how a value becomes text.

May import: orchestration.models, orchestration.systems.base, pydantic, regex (late), stdlib.

* No value holds NUL, which ends an argument, or half a character (a lone surrogate), which has no bytes.
* Other control characters, newlines too, arrive as they are in text: an argument stays one argument. Who wants less
  declares a `pattern`. In a path they are refused.
* A `path` lies inside its declared `root`: both are resolved, symbolic links included, and what the command gets is
  the resolved path. Whoever may change the folder itself while the command runs can still put a link there; against
  that only permissions help.
* A `pattern` has to match the whole value, within `PATTERN_SECONDS`.
"""

from __future__ import annotations

import errno
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestration.models import Json
from orchestration.systems.base import bounded

MAX_ARGUMENT_BYTES = 131_071
"""Longest item of argv that Linux takes."""

MAX_NUMBER_BITS = 4_096
"""Longest whole number; Python declines to write out much longer ones."""

PATTERN_SECONDS = 0.25
"""Longest that matching a pattern may take."""

_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class CommandParameter(BaseModel):
    """What may stand in place of one placeholder."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    type: Literal["any", "string", "integer", "number", "boolean", "path"] = "any"
    """`any` takes every scalar; `path` takes what lies inside `root`."""
    description: str = ""
    default: str | int | float | bool | None = None
    """Used when the task gives no value; without one the argument is required."""
    choices: list[str | int | float | bool] | None = None
    """The only values allowed."""
    max_length: Annotated[int, Field(ge=1, le=131_000)] = 32_768
    """Longest value, in characters."""
    allow_leading_dash: bool = False
    """Whether a value may begin with `-` and so be taken for an option by the program."""
    min: int | float | None = None
    """Of a number: the least allowed."""
    max: int | float | None = None
    """Of a number: the most allowed."""
    pattern: Annotated[str, Field(max_length=1000)] | None = None
    """Of a string: a regular expression that matches the whole value."""
    root: Path | None = None
    """Of a path: the folder it has to lie in; a relative value starts there."""
    must_exist: bool = False
    """Of a path: whether there has to be something."""

    @model_validator(mode="after")
    def _details_fit_the_type(self) -> CommandParameter:
        if self.type == "path" and self.root is None:
            raise ValueError("a path needs a `root`, the folder it has to lie in")
        if self.type != "path" and (self.root is not None or self.must_exist):
            raise ValueError("`root` and `must_exist` go with `type: path`")
        if self.type not in ("integer", "number") and (self.min is not None or self.max is not None):
            raise ValueError("`min` and `max` go with `type: integer` or `type: number`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` is {self.min}, more than `max`, {self.max}")
        if self.pattern is not None:
            if self.type != "string":
                raise ValueError("`pattern` goes with `type: string`")
            _check_pattern(self.pattern)
        if self.default is not None and self.type != "path":
            try:
                text_of("default", None, self)
            except ValueError as exc:
                raise ValueError(f"`default` could never be used: {exc}") from None
        return self

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the argument."""
        every = ["string", "integer", "number", "boolean"]
        types: dict[str, Any] = {"any": every, "path": "string"}
        schema: dict[str, Any] = {"type": types.get(self.type, self.type)}
        if self.description:
            schema["description"] = self.description
        elif self.root is not None:
            schema["description"] = f"A path inside {self.root}."
        if self.default is not None:
            schema["default"] = self.default
        if self.choices is not None:
            schema["enum"] = list(self.choices)
        if self.min is not None:
            schema["minimum"] = self.min
        if self.max is not None:
            schema["maximum"] = self.max
        if self.pattern is not None:
            schema["pattern"] = f"^(?:{self.pattern})$"
        return schema


def text_of(name: str, value: Json, parameter: CommandParameter) -> str:
    """Return a value as it stands in argv. For a path the file system is asked.

    Raises:
        ValueError: It is missing, of another type, out of bounds, not among the choices, too long, not inside its root,
            or holds what no argument may.
    """
    if value is None:
        value = parameter.default
    if value is None:
        raise ValueError(f"argument {name!r} is missing")
    if not isinstance(value, str | int | float):
        shown = bounded(repr(value), 120)
        raise ValueError(
            f"argument {name!r} is {shown}; expected text, a number or true/false, not a list or object"
        )
    if isinstance(value, int) and value.bit_length() > MAX_NUMBER_BITS:
        raise ValueError(
            f"argument {name!r} has {value.bit_length()} bits; expected a number of at most {MAX_NUMBER_BITS}"
        )
    shown = bounded(repr(value), 120)
    value = _typed(name, value, parameter.type)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if parameter.choices is not None and value not in parameter.choices:
        raise ValueError(
            f"argument {name!r} is {shown}; expected one of {', '.join(map(repr, parameter.choices))}"
        )
    _check_bounds(name, value, parameter)
    _check_text(name, text, parameter)
    return _confined(name, text, parameter) if parameter.root is not None else text


def _typed(name: str, value: str | int | float | bool, type_: str) -> str | int | float | bool:
    """Return the value as the declared type; numbers written as text are taken.

    Raises:
        ValueError: It is of another type.
    """
    shown = bounded(repr(value), 120)
    if type_ in ("string", "path") and not isinstance(value, str):
        raise ValueError(f"argument {name!r} is {shown}; expected {'a path' if type_ == 'path' else 'text'}")
    if type_ == "boolean" and not isinstance(value, bool):
        raise ValueError(f"argument {name!r} is {shown}; expected true or false")
    if type_ in ("integer", "number"):
        number = _number(value, type_)
        if number is None:
            kind = "a whole number" if type_ == "integer" else "a number"
            raise ValueError(f"argument {name!r} is {shown}; expected {kind}")
        return number
    return value


def _number(value: str | int | float | bool, type_: str) -> int | float | None:
    """Return a number, also one written as text as JSON would write it; None where it is none."""
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str):
        form = _WHOLE if type_ == "integer" else _NUMBER
        if not form.fullmatch(value.strip(" ")) or len(value) > 1000:
            return None
        number = int(value) if type_ == "integer" else float(value)
        return number if math.isfinite(number) else None
    if type_ == "integer" and isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value


def _check_bounds(name: str, value: str | int | float | bool, parameter: CommandParameter) -> None:
    if isinstance(value, str):
        return
    shown = bounded(repr(value), 120)
    if parameter.min is not None and value < parameter.min:
        raise ValueError(f"argument {name!r} is {shown}; expected at least {parameter.min}")
    if parameter.max is not None and value > parameter.max:
        raise ValueError(f"argument {name!r} is {shown}; expected at most {parameter.max}")


def _check_text(name: str, text: str, parameter: CommandParameter) -> None:
    if len(text) > parameter.max_length:
        raise ValueError(f"argument {name!r} has {len(text)} characters; the limit is {parameter.max_length}")
    if "\0" in text:
        raise ValueError(f"argument {name!r} holds a NUL character")
    if _SURROGATE.search(text):
        raise ValueError(f"argument {name!r} holds half a character (a lone surrogate); expected whole text")
    if parameter.pattern is not None and not _matches(name, parameter.pattern, text):
        shown = bounded(repr(text), 120)
        raise ValueError(
            f"argument {name!r} is {shown}; expected text that matches {parameter.pattern!r} as a whole"
        )


def _check_pattern(pattern: str) -> None:
    import regex

    try:
        regex.compile(pattern)
    except regex.error as exc:
        raise ValueError(f"`pattern` is {pattern!r}, which is no regular expression: {exc}") from None


def _matches(name: str, pattern: str, text: str) -> bool:
    import regex

    try:
        return regex.fullmatch(pattern, text, timeout=PATTERN_SECONDS, concurrent=True) is not None
    except TimeoutError:
        raise ValueError(
            f"argument {name!r} could not be checked within {PATTERN_SECONDS:g} s against {pattern!r}; "
            "expected a shorter value, or a simpler pattern in the declaration"
        ) from None


def _confined(name: str, text: str, parameter: CommandParameter) -> str:
    """Return the resolved path of a value.

    Raises:
        ValueError: It does not lie inside its root, or not where something is.
    """
    assert parameter.root is not None
    shown = bounded(repr(text), 120)
    root = os.path.realpath(parameter.root.expanduser())
    if not text or _CONTROL.search(text):
        raise ValueError(f"argument {name!r} is {shown}; expected a path without control characters")
    if not os.path.isdir(root):  # noqa: PTH112  (`root` is text, as realpath gives it)
        raise ValueError(f"argument {name!r} can't be looked for: there is no folder {root!r} (its `root`)")
    joined = os.path.join(root, text)  # noqa: PTH118  (a Path would take a final slash away)
    path = os.path.realpath(joined)
    if os.path.commonpath([root, path]) != root:
        raise ValueError(
            f"argument {name!r} is {shown}, which leads outside; expected a path inside {root!r}"
        )
    _check_there(name, shown, path, parameter)
    return path


def _check_there(name: str, shown: str, path: str, parameter: CommandParameter) -> None:
    """Refuse what can't be looked at (a circle of links, too long a name), and what is missing but must not be."""
    try:
        os.lstat(path)
        # What realpath could not follow it leaves as it is: a link that is still there leads nowhere it could check.
        is_link = os.path.islink(path)  # noqa: PTH114
    except (FileNotFoundError, NotADirectoryError):
        if parameter.must_exist:
            raise ValueError(
                f"argument {name!r} is {shown}; expected something that exists, and there is no {path!r}"
            ) from None
        return
    except OSError as exc:
        reason = exc.strerror or errno.errorcode.get(exc.errno or 0, "an error")
        raise ValueError(f"argument {name!r} is {shown}, which can't be looked at: {reason}") from None
    if is_link:
        raise ValueError(f"argument {name!r} is {shown}, which is a circle of symbolic links")
