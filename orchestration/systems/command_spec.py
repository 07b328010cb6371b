"""What a declared command looks like, and how a task's arguments are put into its argv.

May import: orchestration.{errors, models}, orchestration.systems.{base, command_limits, command_values}, pydantic,
stdlib.

Least power: a task chooses a declared command and fills its placeholders, nothing else.

* `{name}` in an item of `argv` stands for the argument `name`; `{{name}}` is the literal text `{name}`; any
  other brace is itself. The program, `argv[0]`, has no placeholder. No shell is involved: an item stays one
  item, whatever characters its value has.
* A value is text, a number or a truth value (`true`/`false`), at most `max_length` characters, without NUL; what else
  can be asked of it says `command_values.py`.
* A value that begins with `-` where the item begins with the placeholder could be taken for an option. It is
  refused unless the parameter says `allow_leading_dash: true`, or an item `--` stands before it in `argv`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from orchestration.models import JsonObject, PositiveSeconds
from orchestration.systems.base import bounded, invalid_arguments, nearest
from orchestration.systems.command_limits import CommandLimits
from orchestration.systems.command_values import MAX_ARGUMENT_BYTES, CommandParameter, text_of

__all__ = ["CommandLimits", "CommandParameter", "CommandSpec"]

DEFAULT_MAX_OUTPUT_BYTES = 1024 * 1024
"""Of standard output; more than a result should be, less than what hurts."""

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_][A-Za-z0-9_]*)\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MODEL = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CommandSpec(BaseModel):
    """One declared command."""

    model_config = _MODEL

    argv: Annotated[list[str], Field(min_length=1, repr=False)]
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
    limits: CommandLimits | None = None
    """Most memory, processor time, … it may use."""

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
        properties = {name: self.parameter(name).json_schema() for name in self.placeholders}
        required = [name for name in self.placeholders if self.parameter(name).default is None]
        schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**schema, "required": required} if required else schema

    @property
    def may_take_long_to_render(self) -> bool:
        """Whether `render` asks the file system, which may be slow, or matches a pattern, which may be."""
        return any(
            parameter.root is not None or parameter.pattern is not None
            for parameter in self.parameters.values()
        )

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
                texts[name] = text_of(name, arguments.get(name), self.parameter(name))
            except ValueError as exc:
                mistakes.append(str(exc))
        if not mistakes:
            argv = [
                _PLACEHOLDER.sub(lambda match: texts[match[2]] if match[2] else f"{{{match[1]}}}", i)
                for i in self.argv
            ]
            mistakes = self._taken_for_options(argv) + _too_long(argv)
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


def _too_long(argv: list[str]) -> list[str]:
    """Return a sentence for each item that the kernel would not take."""
    sizes = [len(item.encode()) for item in argv]
    return [
        f"item {number} of argv has {size} bytes; the limit is {MAX_ARGUMENT_BYTES}"
        for number, size in enumerate(sizes)
        if size > MAX_ARGUMENT_BYTES
    ]


def _unknown(name: str, names: list[str]) -> str:
    near = nearest(name, names)
    return f"there is no argument {name!r}" + (f" (did you mean {near[0]!r}?)" if near else "")
