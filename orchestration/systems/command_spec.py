"""What a declared command looks like, and how a task's arguments are put into its argv.

May import: orchestration.{errors, models}, orchestration.systems.base, pydantic, stdlib.

Least power: a task chooses a declared command and fills its placeholders, nothing else.

* `{name}` in an item of `argv` stands for the argument `name`; `{{name}}` is the literal text `{name}`; any
  other brace is itself. The program, `argv[0]`, has no placeholder. No shell is involved: an item stays one
  item, whatever characters its value has.
* A value is text, a number or a truth value (`true`/`false`), at most `max_length` characters, without NUL.
* A value that begins with `-` where the item begins with the placeholder could be taken for an option. It is
  refused unless the parameter says `allow_leading_dash: true`, or an item `--` stands before it in `argv`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from orchestration.models import Json, JsonObject, PositiveSeconds
from orchestration.systems.base import bounded, invalid_arguments, nearest

DEFAULT_MAX_OUTPUT_BYTES = 1024 * 1024
"""Of standard output; more than a result should be, less than what hurts."""

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_][A-Za-z0-9_]*)\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MODEL = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CommandParameter(BaseModel):
    """What may stand in place of one placeholder."""

    model_config = _MODEL

    type: Literal["any", "string", "integer", "number", "boolean"] = "any"
    """`any` takes every scalar."""
    description: str = ""
    default: str | int | float | bool | None = None
    """Used when the task gives no value; without one the argument is required."""
    choices: list[str | int | float | bool] | None = None
    """The only values allowed."""
    max_length: Annotated[int, Field(ge=1, le=131_000)] = 32_768
    """Longest value, in characters."""
    allow_leading_dash: bool = False
    """Whether a value may begin with `-` and so be taken for an option by the program."""


class CommandSpec(BaseModel):
    """One declared command."""

    model_config = _MODEL

    argv: Annotated[list[str], Field(min_length=1)]
    """The program and its arguments, with `{name}` where a task's argument goes."""
    description: str = ""
    """What it does, for people and language models."""
    parameters: dict[str, CommandParameter] = Field(default_factory=dict)
    """Details of placeholders; those not named here take every scalar."""
    timeout_seconds: PositiveSeconds | None = None
    """Time limit of one run; the task's own limit holds too."""
    cwd: Path | None = None
    """Folder it runs in; the server's own when absent."""
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    """Environment variables besides the inherited ones."""
    stdin: Literal["none", "inputs"] = "none"
    """`inputs`: what the upstream tasks delivered, as one JSON object by task id."""
    output: Literal["text", "json"] = "text"
    """`text`: `{"text": …, "exit_code": 0}`. `json`: the value that standard output holds."""
    max_output_bytes: Annotated[int, Field(ge=1)] = DEFAULT_MAX_OUTPUT_BYTES
    """Standard output over this ends the command and fails the attempt; nothing is cut silently."""

    @field_validator("argv")
    @classmethod
    def _program_is_fixed(cls, argv: list[str]) -> list[str]:
        if not argv[0]:
            raise ValueError("argv[0], the program, is empty")
        if _placeholders(argv[0]):
            raise ValueError(
                f"argv[0] is {argv[0]!r}: the program itself can't be a placeholder; declare one command each"
            )
        if any("\0" in item for item in argv):
            raise ValueError("argv holds a NUL character")
        return argv

    @model_validator(mode="after")
    def _parameters_are_used(self) -> CommandSpec:
        used = self.placeholders
        for name in self.parameters:
            if name not in used:
                shown = ", ".join(used) or "none"
                raise ValueError(f"parameters.{name} stands nowhere in argv; its placeholders are: {shown}")
        return self

    @property
    def placeholders(self) -> list[str]:
        """Return the names of the placeholders, in order."""
        return list(dict.fromkeys(name for item in self.argv for name in _placeholders(item)))

    def parameter(self, name: str) -> CommandParameter:
        """Return what is declared about a placeholder."""
        return self.parameters.get(name) or _ANYTHING

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the arguments."""
        properties = {name: _parameter_schema(self.parameter(name)) for name in self.placeholders}
        required = [name for name in self.placeholders if self.parameter(name).default is None]
        schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**schema, "required": required} if required else schema

    def render(self, tool: str, arguments: JsonObject) -> list[str]:
        """Return argv with the arguments put in.

        Raises:
            AttemptFailedError: `invalid_arguments`, with every mistake.
        """
        names = self.placeholders
        mistakes = [_unknown(name, names) for name in arguments if name not in names]
        texts: dict[str, str] = {}
        for name in names:
            try:
                texts[name] = _text(name, arguments.get(name), self.parameter(name))
            except ValueError as exc:
                mistakes.append(str(exc))
        if not mistakes:
            argv = [
                _PLACEHOLDER.sub(lambda match: texts[match[2]] if match[2] else f"{{{match[1]}}}", i)
                for i in self.argv
            ]
            mistakes = self._taken_for_options(argv)
        if mistakes:
            takes = ", ".join(names) or "no arguments"
            raise invalid_arguments(
                f"Command {tool!r} can't be run like this: {'; '.join(mistakes)}. It takes: {takes}."
            )
        return argv

    def _taken_for_options(self, argv: list[str]) -> list[str]:
        """Return a sentence for each value that the program could take for an option."""
        mistakes = []
        for template, item in zip(self.argv, argv, strict=True):
            if template == "--":
                break
            first = _PLACEHOLDER.match(template)
            if (
                item.startswith("-")
                and first is not None
                and first[2]
                and not self.parameter(first[2]).allow_leading_dash
            ):
                mistakes.append(
                    f"argument {first[2]!r} is {bounded(item, 120)!r}, which the program could take for an "
                    "option (write a path as './-name'; the declaration may allow it: allow_leading_dash)"
                )
        return mistakes


_ANYTHING = CommandParameter()


def _placeholders(item: str) -> list[str]:
    return [match[2] for match in _PLACEHOLDER.finditer(item) if match[2]]


def _unknown(name: str, names: list[str]) -> str:
    near = nearest(name, names)
    return f"there is no argument {name!r}" + (f" (did you mean {near[0]!r}?)" if near else "")


def _parameter_schema(parameter: CommandParameter) -> dict[str, Any]:
    every = ["string", "integer", "number", "boolean"]
    schema: dict[str, Any] = {"type": every if parameter.type == "any" else parameter.type}
    if parameter.description:
        schema["description"] = parameter.description
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.choices is not None:
        schema["enum"] = list(parameter.choices)
    return schema


def _text(name: str, value: Json, parameter: CommandParameter) -> str:
    """Return a value as it stands in argv.

    Raises:
        ValueError: It is missing, of another type, not among the choices, too long or holds a NUL.
    """
    if value is None:
        value = parameter.default
    if value is None:
        raise ValueError(f"argument {name!r} is missing")
    shown = bounded(repr(value), 120)
    if not isinstance(value, str | int | float):
        raise ValueError(
            f"argument {name!r} is {shown}; expected text, a number or true/false, not a list or object"
        )
    value = _typed(name, value, parameter.type)
    if parameter.choices is not None and value not in parameter.choices:
        raise ValueError(
            f"argument {name!r} is {shown}; expected one of {', '.join(map(repr, parameter.choices))}"
        )
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) > parameter.max_length:
        raise ValueError(f"argument {name!r} has {len(text)} characters; the limit is {parameter.max_length}")
    if "\0" in text:
        raise ValueError(f"argument {name!r} holds a NUL character")
    return text


def _typed(name: str, value: str | int | float | bool, type_: str) -> str | int | float | bool:
    """Return the value as the declared type; numbers written as text are taken.

    Raises:
        ValueError: It is of another type.
    """
    if type_ == "string" and not isinstance(value, str):
        raise ValueError(f"argument {name!r} is {value!r}; expected text")
    if type_ == "boolean" and not isinstance(value, bool):
        raise ValueError(f"argument {name!r} is {bounded(repr(value), 120)}; expected true or false")
    if type_ in ("integer", "number"):
        try:
            if isinstance(value, bool) or (
                type_ == "integer" and isinstance(value, float) and not value.is_integer()
            ):
                raise ValueError
            return int(value) if type_ == "integer" else float(value) if isinstance(value, str) else value
        except ValueError:
            kind = "a whole number" if type_ == "integer" else "a number"
            raise ValueError(f"argument {name!r} is {bounded(repr(value), 120)}; expected {kind}") from None
    return value
