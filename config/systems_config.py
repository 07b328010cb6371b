"""The `systems:` part of the configuration: each kind's own keys, checked before anything is made of them.

May import: config.{document, mistakes}, orchestration.errors, the specifications of orchestration.systems, pydantic,
stdlib. The systems themselves are made by the composition root.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from config.document import Document, KeyPath
from config.mistakes import problems_of, unknown_key, wrong_value
from orchestration.errors import Problem
from orchestration.systems.command_spec import CommandParameter, CommandSpec
from orchestration.systems.mcp_spec import McpServerSpec

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
"""A system's name: it is written in tasks, paths and addresses."""

_RESERVED = {"auto": "lets the router choose", "agent": "is the calling agent"}
_KINDS_NOT_YET: Mapping[str, str] = {
    "http": "declared operations of an HTTP service",
    "alita": "the Alita manager agent",
    "kgot": "KGoT",
    "agent": "tasks offered to the calling agent",
}
_ENGINES_NOT_YET: Mapping[str, str] = {
    "process": "a pool of processes",
    "mpi": "ranks of an MPI job",
    "dask": "a Dask cluster",
    "ray": "a Ray cluster",
}


def _import_string(value: str) -> str:
    module, _, name = value.partition(":")
    parts = [*module.split("."), *name.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise ValueError("expected package.module:function")
    return value


class FunctionSettings(BaseModel):
    """A system of Python functions of this process."""

    model_config = _FROZEN

    kind: Literal["function"]
    functions: Annotated[dict[str, Annotated[str, AfterValidator(_import_string)]], Field(min_length=1)]
    """Tool name → `package.module:function`."""
    engine: Literal["thread"] = "thread"
    """Where blocking functions run."""
    threads: Annotated[int, Field(ge=1, le=1000)] = 32
    """Blocking calls at once."""


class CommandSettings(BaseModel):
    """A system of declared commands."""

    model_config = _FROZEN

    kind: Literal["command"]
    commands: Annotated[dict[str, CommandSpec], Field(min_length=1)]
    """Tool name → the command."""


class McpSettings(McpServerSpec):
    """An MCP server as a system."""

    kind: Literal["mcp"]


SystemSettings: TypeAlias = FunctionSettings | CommandSettings | McpSettings

KINDS: Mapping[str, type[FunctionSettings] | type[CommandSettings] | type[McpSettings]] = {
    "command": CommandSettings,
    "function": FunctionSettings,
    "mcp": McpSettings,
}


def read_systems(documents: Sequence[Document], problems: list[Problem]) -> dict[str, SystemSettings]:
    """Return the systems of all documents; one of a later document replaces its namesake, and `null` removes it."""
    found: dict[str, SystemSettings] = {}
    for document in documents:
        section = document.values.get("systems")
        if not isinstance(section, Mapping):
            if section is not None:
                place = document.place(("systems",))
                problems.append(wrong_value(place, section, "systems by name"))
            continue
        for name, value in section.items():
            if value is None and name in found:
                del found[name]
            elif (system := _read_system(document, ("systems", name), name, value, problems)) is not None:
                found[name] = system
    return found


def _read_system(
    document: Document, path: KeyPath, name: str, value: Any, problems: list[Problem]
) -> SystemSettings | None:
    place = document.place(path)
    if problem := _name_problem(place, name):
        problems.append(problem)
        return None
    if not isinstance(value, Mapping):
        problems.append(wrong_value(place, value, f"keys with `kind: {' | '.join(KINDS)}`"))
        return None
    model = _model(document, path, value, problems)
    if model is None:
        return None
    engine = str(value.get("engine"))
    if model is FunctionSettings and (meaning := _ENGINES_NOT_YET.get(engine)) is not None:
        problems.append(_not_yet(document.place((*path, "engine")), engine, meaning, "write thread."))
        value = {key: item for key, item in value.items() if key != "engine"}
    try:
        system: SystemSettings = model.model_validate(value)
    except ValidationError as error:
        known = [*model.model_fields, *CommandSpec.model_fields, *CommandParameter.model_fields]
        problems += problems_of(error.errors(), document.place, document.written_at, known, path)
        return None
    return system


def _name_problem(place: str, name: str) -> Problem | None:
    if (meaning := _RESERVED.get(name)) is not None:
        return Problem(place, f"{name!r} is reserved: it {meaning}.", "choose another name.")
    if not re.fullmatch(NAME_PATTERN, name):
        return wrong_value(place, name, "a name of letters, digits, `_`, `-` and `.`")
    return None


def _model(
    document: Document, path: KeyPath, value: Mapping[str, Any], problems: list[Problem]
) -> type[FunctionSettings] | type[CommandSettings] | type[McpSettings] | None:
    """Return the model of the system's kind; None after adding a problem."""
    here = (*path, "kind")
    kind = value.get("kind")
    if kind is None:
        problems.append(Problem(document.place(here), "is missing.", f"add `kind: {' | '.join(KINDS)}`."))
    elif (meaning := _KINDS_NOT_YET.get(str(kind))) is not None:
        problems.append(_not_yet(document.place(here), str(kind), meaning, f"use one of {', '.join(KINDS)}."))
    elif str(kind) not in KINDS:
        problem = unknown_key(document.place(here), str(kind), KINDS)
        problems.append(Problem(problem.path, f"{str(kind)!r} is no kind of system.", problem.fix))
    else:
        return KINDS[str(kind)]
    return None


def _not_yet(place: str, name: str, meaning: str, fix: str) -> Problem:
    return Problem(place, f"{name!r} is not available yet ({meaning}).", fix)
