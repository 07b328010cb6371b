"""The `systems:` part of the configuration: each kind's own keys, checked before anything is made of them.

May import: config.{document, mistakes}, orchestration.{errors, models}, the specifications of orchestration.systems,
pydantic, stdlib. The systems themselves are made by the composition root.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from config.document import Document, KeyPath
from config.mistakes import problems_of, shown, wrong_value
from orchestration.errors import Problem
from orchestration.models import AGENT
from orchestration.systems.agent import LEASE_SECONDS
from orchestration.systems.alita_spec import AlitaSpec
from orchestration.systems.command_spec import CommandParameter, CommandSpec
from orchestration.systems.http_parameters import HttpParameter
from orchestration.systems.http_spec import HttpOperation, HttpSpec
from orchestration.systems.kgot_spec import KgotOptions, KgotSpec
from orchestration.systems.mcp_spec import McpServerSpec

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
"""A system's name: it is written in tasks, paths and addresses."""

_KIND_CHARS = 40
# Longest word of a kind nobody knows that is shown as one.

_RESERVED = {"auto": "lets the router choose"}
_ENGINES_NOT_YET: Mapping[str, str] = {
    "mpi": "ranks of an MPI job",
    "dask": "a Dask cluster",
    "ray": "a Ray cluster",
}


class RateSettings(BaseModel):
    """How often a system may be asked."""

    model_config = _FROZEN

    requests: Annotated[int, Field(ge=1)]
    """Attempts that may start, in any …"""
    per_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """… such time; as many at once at the beginning."""


class PolicySettings(BaseModel):
    """What every kind may say about how it may be asked."""

    model_config = _FROZEN

    max_concurrent: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Attempts at once; further ones wait without a slot. Found out for systems of other people when absent."""
    rate: RateSettings | None = None
    """Attempts that may start in a time; as many as there are when absent."""


def _import_string(value: str) -> str:
    module, _, name = value.partition(":")
    parts = [*module.split("."), *name.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise ValueError("expected package.module:function")
    return value


class FunctionSettings(PolicySettings):
    """A system of Python functions, in threads or worker processes."""

    kind: Literal["function"]
    functions: Annotated[dict[str, Annotated[str, AfterValidator(_import_string)]], Field(min_length=1)]
    """Tool name → `package.module:function`."""
    engine: Literal["thread", "process"] = "thread"
    """Where blocking functions run: threads of this process, or worker processes that a time limit really ends."""
    threads: Annotated[int, Field(ge=1, le=1000)] = 32
    """Blocking calls at once, in threads."""
    workers: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Worker processes at once; as many as there are processors when absent."""
    max_tasks_per_worker: Annotated[int, Field(ge=1)] | None = None
    """After so many calls a worker process is replaced; never when absent."""
    memory_mb: Annotated[int, Field(ge=16)] | None = None
    """Most address space of one worker process, in MiB; without a limit when absent."""
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    """Environment variables of worker processes besides the few they inherit."""

    @model_validator(mode="after")
    def _fits_its_engine(self) -> FunctionSettings:
        if self.engine == "thread":
            for name in ("workers", "max_tasks_per_worker", "memory_mb", "env"):
                if getattr(self, name):
                    raise ValueError(f"{name} goes with `engine: process`")
        return self


class CommandSettings(PolicySettings):
    """A system of declared commands."""

    kind: Literal["command"]
    commands: Annotated[dict[str, CommandSpec], Field(min_length=1)]
    """Tool name → the command."""


class McpSettings(McpServerSpec, PolicySettings):
    """An MCP server as a system."""

    kind: Literal["mcp"]


class HttpSettings(HttpSpec, PolicySettings):
    """Declared operations of an HTTP service as a system."""

    kind: Literal["http"]


class AlitaSettings(AlitaSpec, PolicySettings):
    """An Alita manager agent as a system."""

    kind: Literal["alita"]


class KgotSettings(KgotSpec, PolicySettings):
    """KGoT as a system."""

    kind: Literal["kgot"]


class AgentSettings(BaseModel):
    """Tasks that are offered to the calling agent."""

    model_config = _FROZEN

    kind: Literal["agent"]
    lease_seconds: Annotated[float, Field(gt=0, le=7 * 24 * 3600, allow_inf_nan=False)] = LEASE_SECONDS
    """How long a claim holds without a report."""


SystemSettings: TypeAlias = (
    FunctionSettings
    | CommandSettings
    | McpSettings
    | HttpSettings
    | AlitaSettings
    | KgotSettings
    | AgentSettings
)

KINDS: Mapping[str, type[SystemSettings]] = {
    "command": CommandSettings,
    "function": FunctionSettings,
    "mcp": McpSettings,
    "http": HttpSettings,
    "alita": AlitaSettings,
    "kgot": KgotSettings,
    "agent": AgentSettings,
}


@dataclass(frozen=True, slots=True)
class UnusableSettings:
    """A system that is declared and can't run as it is."""

    kind: str
    """What it would be, as it was written."""
    reason: str
    """Why it can't run, with what to do; without any value of a variable."""


_INNER: Mapping[type[BaseModel], Sequence[str]] = {
    CommandSettings: [*CommandSpec.model_fields, *CommandParameter.model_fields],
    HttpSettings: [*HttpOperation.model_fields, *HttpParameter.model_fields],
    KgotSettings: [*KgotOptions.model_fields],
}
"""Keys inside a kind's own, for suggestions."""


def read_systems(
    documents: Sequence[Document], problems: list[Problem]
) -> tuple[dict[str, SystemSettings], dict[str, UnusableSettings]]:
    """Return the systems of all documents, and those that can't run while everything else goes on: they are of a kind
    nobody knows, stand twice, or name an environment variable that is not set.

    One of a later document replaces its namesake, and `null` removes it.
    """
    found: dict[str, SystemSettings] = {}
    unusable: dict[str, UnusableSettings] = {}
    for document in documents:
        section = document.values.get("systems")
        if not isinstance(section, Mapping):
            if section is not None:
                place = document.place(("systems",))
                problems.append(wrong_value(place, section, "systems by name"))
            continue
        for name, value in section.items():
            was_there = found.pop(name, None) or unusable.pop(name, None)
            if (fault := _fault(document, name, value)) is not None:
                unusable[name] = fault
            elif value is None and was_there is not None:
                continue
            elif (system := _read_system(document, ("systems", name), name, value, problems)) is not None:
                found[name] = system
    return found, unusable


def _fault(document: Document, name: str, value: Any) -> UnusableSettings | None:
    """Return why one system can't run while the others do; None where nothing is wrong, or what is wrong is a mistake
    of the whole configuration.
    """
    written = document.written_at(("systems", name))
    told = written.get("kind") if isinstance(written, Mapping) else None
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if _name_problem("", name) is not None or (kind is not None and _agent_problem("", name, kind)):
        return None
    reasons = [document.twice[name]] if name in document.twice else []
    if kind is not None:
        unset = document.unset.get(name, ())
        reasons += unset
        if not unset and str(kind) not in KINDS:
            reasons.append(str(_unknown_kind(document.place(("systems", name, "kind")), told)))
    if not reasons:
        return None
    return UnusableSettings("unknown" if told is None else str(told)[:_KIND_CHARS], " ".join(reasons))


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
    kind = value.get("kind")
    if kind is None:
        here = document.place((*path, "kind"))
        problems.append(Problem(here, "is missing.", f"add `kind: {' | '.join(KINDS)}`."))
        return None
    if problem := _agent_problem(place, name, kind):
        problems.append(problem)
        return None
    model = KINDS[str(kind)]  # of an unknown kind it would be a fault of this system alone
    engine = str(value.get("engine"))
    if model is FunctionSettings and (meaning := _ENGINES_NOT_YET.get(engine)) is not None:
        problems.append(_not_yet(document.place((*path, "engine")), engine, meaning, "write thread."))
        value = {key: item for key, item in value.items() if key != "engine"}
    try:
        system: SystemSettings = model.model_validate(value)
    except ValidationError as error:
        known = [*model.model_fields, *_INNER.get(model, ())]
        problems += problems_of(error.errors(), document.place, document.written_at, known, path)
        return None
    return system


def _agent_problem(place: str, name: str, kind: object) -> Problem | None:
    """Return why a name and the kind `agent` don't go together; None when they do."""
    if (name == AGENT) is (kind == AGENT):
        return None
    told = (
        f"{name!r} is of kind {kind!r}; the calling agent is the one system of kind 'agent', and called so."
    )
    return Problem(place, told, "write `agent: {kind: agent}`, or choose another name and kind.")


def _name_problem(place: str, name: str) -> Problem | None:
    if (meaning := _RESERVED.get(name)) is not None:
        return Problem(place, f"{name!r} is reserved: it {meaning}.", "choose another name.")
    if not re.fullmatch(NAME_PATTERN, name):
        return wrong_value(place, name, "a name of letters, digits, `_`, `-` and `.`")
    return None


def _unknown_kind(place: str, kind: object) -> Problem:
    near = difflib.get_close_matches(str(kind), KINDS, 1, 0.6)
    fix = f"write {near[0]!r}." if near else f"the kinds are {', '.join(KINDS)}."
    return Problem(place, f"{shown(kind)} is no kind of system.", fix)


def _not_yet(place: str, name: str, meaning: str, fix: str) -> Problem:
    return Problem(place, f"{name!r} is not available yet ({meaning}).", fix)
