"""A configuration file as it was written: its values, the line of every key, and `${NAME}` taken from the
environment.

May import: orchestration.errors, yaml, stdlib. What the keys mean is said in `settings.py`.

Values are kept twice, as written and with the environment put in, so that a message about a bad value never
prints the secret an environment variable held.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from orchestration.errors import Problem

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of a document to a value."""

MAX_FILE_BYTES = 1024 * 1024
"""A configuration is written by hand; something larger is the wrong file."""

_MAX_VALUES = 100_000
# YAML aliases can make a small file mean a huge one; nothing anybody writes comes near this.

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Document:
    """One configuration file."""

    source: Path
    """Where it was read."""
    written: Mapping[str, Any] = field(default_factory=dict)
    """The values as they stand in the file."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The same with `${NAME}` replaced."""
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """The line of every key and list item, counted from 1."""
    used: Mapping[str, str] = field(default_factory=dict)
    """The environment variables that were put in, with their values."""
    unset: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For each system that names variables nobody has set: why it can't run. It fails alone."""
    twice: Mapping[str, str] = field(default_factory=dict)
    """For each name that two systems have: that it is so. Nobody can say which was meant, so it fails alone."""

    def place(self, path: KeyPath) -> str:
        """Say where `path` stands, as `FILE:LINE: dotted.path`; a key that is missing has the line of its
        parent.
        """
        for length in range(len(path), -1, -1):
            if (line := self.lines.get(path[:length])) is not None:
                return f"{self.source}:{line}: {dotted(path)}"
        return f"{self.source}: {dotted(path)}"

    def written_at(self, path: KeyPath) -> Any:
        """Return the value at `path` as written; None when there is none."""
        value: Any = self.written
        for step in path:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return None
        return value


def dotted(path: KeyPath) -> str:
    """Spell a path for readers: `systems.local.commands.count.argv[0]`."""
    shown = ""
    for step in path:
        shown += f"[{step}]" if isinstance(step, int) else f".{step}" if shown else step
    return shown


def read_document(source: Path, environ: Mapping[str, str], problems: list[Problem]) -> Document:
    """Read a configuration file; every mistake in it is added to `problems`.

    Args:
        source: The file.
        environ: Where `${NAME}` is looked up.
        problems: Gets one entry per mistake; a document that can't be read at all is returned empty.

    Returns:
        What could be read; complete when no problem was added.
    """
    text = _read_text(source, problems)
    if text is None:
        return Document(source)
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(source)
        lines: dict[KeyPath, int] = {}
        twice: dict[str, str] = {}
        found = len(problems)
        _note_lines(node, (), lines, source, problems, twice)
        value = loader.construct_document(node) if len(problems) == found else {}
    except yaml.MarkedYAMLError as error:
        problems.append(_syntax_problem(source, error))
        return Document(source)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems.append(Problem(str(source), f"can't be read as YAML: {error}."))
        return Document(source)
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        problems.append(
            Problem(
                str(source),
                f"holds {type(value).__name__}; expected keys with values.",
                "begin with `advanced_orchestration:` or `systems:`.",
            )
        )
        return Document(source)
    document = Document(source, value, value, lines)
    used: dict[str, str] = {}
    filling = _Filling(document, Recording(environ, used), problems)
    values = filling.filled(value, ())
    return Document(source, value, values, lines, used, filling.unset, twice)


class Recording(Mapping[str, str]):
    """The environment; remembers what was taken from it."""

    def __init__(self, environ: Mapping[str, str], used: dict[str, str]) -> None:
        self._environ, self._used = environ, used

    def __getitem__(self, name: str) -> str:
        self._used[name] = value = self._environ[name]
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


def _read_text(source: Path, problems: list[Problem]) -> str | None:
    try:
        if source.stat().st_size > MAX_FILE_BYTES:
            problems.append(
                Problem(str(source), f"is over {MAX_FILE_BYTES:,} bytes; is it a configuration file?")
            )
            return None
        return source.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problems.append(Problem(str(source), "there is no such configuration file.", "check the path."))
    except IsADirectoryError:
        problems.append(Problem(str(source), "is a folder; expected a YAML file."))
    except UnicodeDecodeError as error:
        problems.append(Problem(str(source), f"is not UTF-8 text (byte {error.start}).", "save it as UTF-8."))
    except OSError as error:
        problems.append(Problem(str(source), f"can't be read: {error.strerror or error}."))
    return None


def _syntax_problem(source: Path, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else str(source)
    what = ", ".join(part for part in (error.context, error.problem) if part)
    return Problem(place, f"broken YAML: {what}.", "check the indentation, colons and quotes there.")


def _note_lines(
    node: yaml.Node,
    path: KeyPath,
    lines: dict[KeyPath, int],
    source: Path,
    problems: list[Problem],
    twice: dict[str, str],
) -> None:
    """Record where everything below `node` stands; keys must be text and may stand once.

    A system that stands twice is its own fault alone, and told in `twice`; any other key is a mistake.
    """
    lines.setdefault(path, node.start_mark.line + 1)
    if len(lines) > _MAX_VALUES:
        raise ValueError(f"it stands for over {_MAX_VALUES:,} values")
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, (*path, index), lines, source, problems, twice)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            problems.append(
                Problem(f"{source}:{line}", f"key {key.value!r} is not text.", "put it in quotes.")
            )
            continue
        here = (*path, key.value)
        if here in lines:
            told = Problem(
                f"{source}:{line}: {dotted(here)}", f"stands on line {lines[here]} already.", "keep one."
            )
            if path == ("systems",):
                twice[key.value] = str(told)
            else:
                problems.append(told)
            continue
        lines[here] = line
        _note_lines(value, here, lines, source, problems, twice)


class _Filling:
    """Puts the environment into a document.

    Args:
        document: As it was written.
        environ: The environment.
        problems: Gets what can't be replaced.
    """

    def __init__(self, document: Document, environ: Mapping[str, str], problems: list[Problem]) -> None:
        self.unset: dict[str, list[str]] = {}
        self._document = document
        self._environ = environ
        self._problems = problems

    def filled(self, value: Any, path: KeyPath) -> Any:
        """Return `value` with every `${NAME}` replaced."""
        if isinstance(value, dict):
            return {key: self.filled(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        return _VARIABLE.sub(lambda match: self._variable(match, path), value)

    def _variable(self, match: re.Match[str], path: KeyPath) -> str:
        name = match.group(1)
        if name is None:
            return "${"
        if not match.group().endswith("}") or not _VARIABLE_NAME.fullmatch(name):
            message = f"{match.group()!r} names no environment variable."
            fix = "write ${NAME} with letters, digits and _, or $${ for a literal ${."
            self._problems.append(Problem(self._document.place(path), message, fix))
            return ""
        if name in self._environ:
            return self._environ[name]
        self._note_unset(name, path)
        return ""

    def _note_unset(self, name: str, path: KeyPath) -> None:
        message = f"environment variable {name} is not set."
        problem = Problem(
            self._document.place(path), message, f"set {name}, or write $${{ for a literal ${{."
        )
        if path[0] == "systems" and len(path) > 2:
            self.unset.setdefault(str(path[1]), []).append(str(problem))
        else:
            self._problems.append(problem)
