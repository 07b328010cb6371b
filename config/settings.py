"""The settings of a process: command line over environment over file over defaults, read once and checked
whole.

May import: config.*, orchestration.{errors, options, planning.model_options, redaction}, platformdirs, pydantic,
stdlib. Only the composition root reads settings; everything below gets plain values.

The file is the one that was named, else the one in the user's configuration folder, never one in the current
folder: a cloned repository must not declare commands. The packaged `advanced_orchestration.yaml` lies below
it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from config.document import Document, KeyPath, Recording, dotted, read_document
from config.keys import (
    CONFIG_VARIABLE,
    ENVIRONMENT,
    GIVEN_VARIABLES,
    KEYS,
    NOT_YET_AVAILABLE,
    ROOT,
    SECTIONS,
    VARIABLE_PREFIX,
    children,
    homes,
)
from config.mcp_servers import McpServers, read_mcp_servers
from config.mistakes import problems_of, unknown_key, wrong_value
from config.secrets import secrets_of
from config.systems_config import McpSettings, SystemSettings, UnusableSettings, read_systems
from orchestration.errors import ConfigurationError, Problem
from orchestration.options import OrchestratorOptions
from orchestration.planning.model_options import ModelOptions
from orchestration.redaction import secret_values

APP_NAME = "advanced-task-orchestration"
FILE_NAME = "advanced_orchestration.yaml"
PACKAGED_FILE = Path(__file__).with_name(FILE_NAME)
DATABASE_NAME = "orchestrations.db"
IN_PROCESS = "in-process"

_SECRET_CHARS = 4
# A shorter value of an environment variable is no secret, and blotting it out would garble messages.

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ThinkingCommand(BaseModel):
    """The Sequential Thinking MCP server as a program of its own; one process per plan."""

    model_config = _FROZEN

    command: Annotated[str, Field(min_length=1)]
    """The program."""
    args: tuple[str, ...] = ()
    """Its arguments."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables it gets besides the usual few."""
    warm: Annotated[int, Field(ge=0, le=16, strict=True)] = 1
    """Processes that `serve` keeps ready for the plans to come; 0 starts each with its plan."""


class Settings(BaseModel):
    """Everything a process is told from outside."""

    model_config = _FROZEN

    options: OrchestratorOptions = OrchestratorOptions()
    """How orchestrations run."""
    systems: dict[str, SystemSettings] = Field(default_factory=dict)
    """Where tasks run, by name; those of `mcp_servers_file` last."""
    unusable_systems: dict[str, UnusableSettings] = Field(default_factory=dict)
    """Systems that are declared and can't run, by name, with the reason: they fail alone."""
    sequential_thinking: ThinkingCommand | None = None
    """Where the thoughts of a plan go; None: the in-process server."""
    model: ModelOptions | None = None
    """The language model that plans; None: none does."""
    playbook_folders: tuple[Path, ...] = ()
    """Folders with the user's own playbooks, besides those of the package."""
    database: Path
    """The SQLite file with the state."""
    synchronous: Literal["normal", "full"] = "normal"
    """`normal` survives the death of any process; `full` a power cut as well, at the price of an fsync a
    batch.
    """
    log_level: Annotated[
        LogLevel, BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)
    ]
    """The least severity that is logged."""
    log_level_chosen: bool = False
    """Whether somebody asked for this level; commands that show progress are quieter otherwise."""
    source: Path | None = None
    """The file that was read besides the packaged one."""
    warnings: tuple[str, ...] = ()
    """What was found odd but does no harm."""
    secrets: tuple[str, ...] = Field(default=(), repr=False, exclude=True)
    """What must be neither stored nor shown when it comes back from a system (`secrets.py`)."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A value and where it came from."""

    value: Any
    written: Any
    place: str
    document: Document | None = None

    def place_of(self, path: KeyPath) -> str:
        return self.document.place(path) if self.document else self.place

    def written_at(self, path: KeyPath) -> Any:
        return self.document.written_at(path) if self.document else self.written


def load_settings(
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the settings.

    Args:
        config: The file named on the command line.
        environ: The environment; empty when absent.
        overrides: Values of the command line by dotted key (`storage.database`); None means not given.

    Returns:
        The settings, complete and checked.

    Raises:
        ConfigurationError: There are mistakes; it lists every one with its place.
    """
    environ = environ or {}
    problems: list[Problem] = []
    source = config_path(config, environ)
    documents = [read_document(PACKAGED_FILE, environ, problems)]
    if source is not None:
        documents.append(read_document(source, environ, problems))
    entries: dict[KeyPath, _Entry] = {}
    for document in documents:
        entries.update(_entries_of(document, problems))
    systems, unusable = read_systems(documents, problems)
    entries.pop(("systems",), None)
    taken: dict[str, str] = {}
    named = entries.pop(("mcp_servers_file",), None)
    others = _mcp_servers(named, Recording(environ, taken), systems, unusable, problems)
    entries.update(_from_environment(environ))
    entries.update(_from_command_line(overrides or {}))
    unusable |= others.unusable
    settings = _validated(entries, systems, problems)
    if settings is None or problems:
        raise ConfigurationError(_told(problems, documents))
    level_entry = entries[ROOT, "log_level"]
    return settings.model_copy(
        update={
            "source": source,
            "warnings": (
                *_odd_variables(environ),
                *others.warnings,
                *starmap(unusable_warning, unusable.items()),
            ),
            "secrets": secrets_of(
                [*(document.used for document in documents), taken],
                systems.values(),
                environ,
                _keys(settings),
            ),
            "unusable_systems": unusable,
            "log_level_chosen": level_entry.document is not documents[0],
        }
    )


def unusable_warning(name: str, found: UnusableSettings) -> str:
    """Return the line of `Settings.warnings` about a system that can't run."""
    return f"System {name!r} can't run: {found.reason}"


def _keys(settings: Settings) -> Iterator[str]:
    """Yield what planners are given and nobody else is to see."""
    if settings.model is not None and settings.model.api_key is not None:
        yield settings.model.api_key.get_secret_value()
    if settings.sequential_thinking is not None:
        yield from secret_values(settings.sequential_thinking.env)


def config_path(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file to read besides the packaged one.

    Args:
        config: The file named on the command line.
        environ: The environment, which may name one.

    Returns:
        The named file, whether it exists or not; else the user's own where there is one; else None.
    """
    if config is not None:
        return config.expanduser()
    if named := environ.get(CONFIG_VARIABLE, "").strip():
        return Path(named).expanduser()
    own = user_config_folder() / FILE_NAME
    return own if own.exists() else None


def user_config_folder() -> Path:
    """Return the platform's folder for this user's configuration of this program."""
    from platformdirs import user_config_path

    return user_config_path(APP_NAME, appauthor=False)


def user_data_folder() -> Path:
    """Return the platform's folder for this user's data of this program."""
    from platformdirs import user_data_path

    return user_data_path(APP_NAME, appauthor=False)


def _told(problems: list[Problem], documents: list[Document]) -> list[Problem]:
    """Return the problems in the order of the files' lines, one a place, without values of environment variables."""
    secrets = [
        (value, name)
        for document in documents
        for name, value in document.used.items()
        if len(value) >= _SECRET_CHARS
    ]

    def line(problem: Problem) -> tuple[int, int]:
        for index, document in enumerate(documents):
            if problem.path.startswith(prefix := f"{document.source}:"):
                digits = problem.path.removeprefix(prefix).partition(":")[0]
                return index, int(digits) if digits.isdigit() else 0
        return len(documents), 0

    def hidden(text: str) -> str:
        for value, name in secrets:
            text = text.replace(value, f"${{{name}}}")
        return text

    # A variable that is missing makes its value wrong as well: the first finding at a place says it all.
    first = {problem.path: problem for problem in reversed(problems)}
    return [
        Problem(problem.path, hidden(problem.message), problem.fix)
        for problem in sorted(problems, key=line)
        if problem is first[problem.path]
    ]


def _entries_of(document: Document, problems: list[Problem]) -> dict[KeyPath, _Entry]:
    """Return the known keys of a file; unknown ones and those not available yet are problems."""
    found: dict[KeyPath, _Entry] = {}
    elsewhere = homes()

    def visit(section: Mapping[str, Any], at: KeyPath) -> None:
        for key, value in section.items():
            path = (*at, key)
            if (meaning := NOT_YET_AVAILABLE.get(path)) is not None:
                problems.append(
                    Problem(document.place(path), f"is not available yet ({meaning}).", "remove it for now.")
                )
            elif path in KEYS:
                found[path] = _Entry(value, document.written_at(path), document.place(path), document)
            elif path not in SECTIONS:
                problems.append(unknown_key(document.place(path), key, children(at), elsewhere))
            elif isinstance(value, Mapping):
                visit(value, path)
            elif value is not None:
                problems.append(
                    wrong_value(document.place(path), value, f"keys ({', '.join(children(path))})")
                )

    visit(document.values, ())
    return found


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[KeyPath, _Entry]]:
    """Yield what the environment sets; an empty variable counts as absent."""
    for variable, path in ENVIRONMENT.items():
        text = environ.get(variable, "").strip()
        if text:
            yield path, _Entry(text, text, f"environment variable {variable}")


def _from_command_line(overrides: Mapping[str, Any]) -> Iterator[tuple[KeyPath, _Entry]]:
    by_name = {dotted(path): path for path in KEYS}
    for name, value in overrides.items():
        if value is not None:
            yield by_name[name], _Entry(value, value, f"command line: {name}")


def _validated(
    entries: Mapping[KeyPath, _Entry], systems: Mapping[str, SystemSettings], problems: list[Problem]
) -> Settings | None:
    """Check the values and return the settings; None when there is none to return."""
    raw: dict[str, Any] = {"systems": dict(systems), "database": user_data_folder() / DATABASE_NAME}
    raw["playbook_folders"] = tuple(
        folder for folder in [user_config_folder() / "playbooks"] if folder.is_dir()
    )
    key_of: dict[KeyPath, KeyPath] = {}
    for path, entry in entries.items():
        target = KEYS[path]
        value = _prepared(path, entry, problems)
        if value is _REFUSED:
            continue
        key_of[target] = path
        level = raw
        for step in target[:-1]:
            level = level.setdefault(str(step), {})
        level[str(target[-1])] = value
    try:
        return Settings(**raw)
    except ValidationError as error:
        for finding in error.errors():
            target, path = _origin(finding["loc"], key_of)
            entry = entries[path]
            finding["loc"] = finding["loc"][len(target) :]
            known = (ModelOptions if path == ("model",) else ThinkingCommand).model_fields
            problems += problems_of([finding], entry.place_of, entry.written_at, known, path)
        return None


def _origin(location: KeyPath, key_of: Mapping[KeyPath, KeyPath]) -> tuple[KeyPath, KeyPath]:
    """Return the setting a finding is about and the key that set it."""
    for length in range(len(location), 0, -1):
        if (path := key_of.get(location[:length])) is not None:
            return location[:length], path
    raise LookupError(location)


_REFUSED = object()
_DEFAULTS = OrchestratorOptions()


def _prepared(path: KeyPath, entry: _Entry, problems: list[Problem]) -> Any:
    """Return the value as the settings want it, or `_REFUSED` after adding a problem."""
    value = entry.value
    if path == ("storage", "database"):
        return _database(entry, problems)
    if path == ("playbook_folders",):
        return _folders(entry, problems)
    if path == ("sequential_thinking",):
        return _thinking(entry, problems)
    if path == ("model",):
        return _model(entry, problems)
    if path == (ROOT, "task_execution", "timeout_seconds") and str(value).lower() in {"none", "null"}:
        return None
    if KEYS[path][0] == "options":
        default: Any = _DEFAULTS
        for step in KEYS[path][1:]:
            default = getattr(default, str(step))
        # Python's True is a 1 and pydantic takes it for one; in a file it is a slip.
        if isinstance(value, bool) and not isinstance(default, bool):
            problems.append(
                wrong_value(entry.place, value, "text" if isinstance(default, str) else "a number")
            )
            return _REFUSED
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(wrong_value(entry.place, entry.written, "a finite number"))
            return _REFUSED
    return value


def _database(entry: _Entry, problems: list[Problem]) -> Any:
    text = str(entry.value) if isinstance(entry.value, (str, Path)) else ""
    if not text.strip():
        problems.append(wrong_value(entry.place, entry.written, "the path of a database file"))
        return _REFUSED
    if "://" in text:
        scheme = text.split("://", 1)[0]
        problems.append(
            Problem(
                entry.place, f"databases at {scheme}:// are not available yet.", "give the path of a file."
            )
        )
        return _REFUSED
    return _beside(entry, text)


def _folders(entry: _Entry, problems: list[Problem]) -> Any:
    if not isinstance(entry.value, list) or not all(isinstance(item, str) and item for item in entry.value):
        problems.append(wrong_value(entry.place, entry.written, "a list of folders"))
        return _REFUSED
    folders = [_beside(entry, item) for item in entry.value]
    for index, folder in enumerate(folders):
        if not folder.is_dir():
            place = entry.place_of(("playbook_folders", index))
            problems.append(
                Problem(place, f"{str(folder)!r} is not a folder.", "create it or correct the path.")
            )
    return tuple(folders)


def _thinking(entry: _Entry, problems: list[Problem]) -> Any:
    if entry.value == IN_PROCESS:
        return None
    if isinstance(entry.value, Mapping):
        return entry.value
    problems.append(wrong_value(entry.place, entry.written, f"{IN_PROCESS!r} or {{command: …, args: […]}}"))
    return _REFUSED


def _model(entry: _Entry, problems: list[Problem]) -> Any:
    if isinstance(entry.value, str) and entry.value.strip():
        return {"name": entry.value.strip()}
    if not isinstance(entry.value, Mapping):
        if entry.value is not None:
            problems.append(wrong_value(entry.place, entry.written, '{name: "provider:model", …}'))
            return _REFUSED
        return None
    key = entry.value.get("api_key")
    if key is not None and (not isinstance(key, str) or not key.strip()):
        # The value itself is never shown: it may be a key that only lacks its quotes.
        place = entry.place_of(("model", "api_key"))
        problems.append(Problem(place, "is no text, or empty.", "write api_key: ${NAME_OF_A_VARIABLE}."))
        return _REFUSED
    return entry.value


def _mcp_servers(
    entry: _Entry | None,
    environ: Mapping[str, str],
    systems: dict[str, SystemSettings],
    unusable: Mapping[str, UnusableSettings],
    problems: list[Problem],
) -> McpServers:
    """Read the file of MCP servers that another program keeps, where one is named, and add its systems."""
    if entry is None or entry.value is None:
        return McpServers()
    if not isinstance(entry.value, str) or not entry.value.strip():
        problems.append(wrong_value(entry.place, entry.written, "the path of a JSON file"))
        return McpServers()
    source = _beside(entry, entry.value)
    found = read_mcp_servers(
        source, environ, taken=[*systems, *unusable], place=entry.place, problems=problems
    )
    for name, spec in found.servers.items():
        systems[name] = McpSettings(kind="mcp", **spec.model_dump(exclude_unset=True))
    return found


def _beside(entry: _Entry, text: str) -> Path:
    """Return a path; a relative one in a file counts from that file's folder."""
    path = Path(text).expanduser()
    return entry.document.source.absolute().parent / path if entry.document else path


def _odd_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each variable that carries this program's prefix and means nothing."""
    known = [*ENVIRONMENT, CONFIG_VARIABLE, *GIVEN_VARIABLES]
    for name in sorted(environ):
        if name.startswith(VARIABLE_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.6)
            hint = f" Did you mean {near[0]}?" if near else ""
            yield f"Environment variable {name} means nothing to this program.{hint}"
