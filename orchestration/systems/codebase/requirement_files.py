"""Reads the files in which Python projects declare what they need.

May import: orchestration.systems.codebase.files, stdlib.
"""

from __future__ import annotations

import configparser
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestration.systems.codebase.files import SourceFile, Tree

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:[<>=!~;@(,]|$)")
_REQUIREMENTS = re.compile(r"requirements[^/]*\.(?:txt|in)$|requirements/[^/]+\.(?:txt|in)$")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One declared dependency."""

    name: str
    """Normalised: lower case, hyphens."""
    requirement: str
    """As written."""
    source: str
    """The file that declares it."""
    group: str
    """`dependencies` and `requirements` are for running; anything else is the name of an extra or a group."""


def normalized(name: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_requirements(tree: Tree) -> tuple[list[Requirement], list[str]]:
    """Return what the tree declares at its root, and the files that could not be understood."""
    found: list[Requirement] = []
    unreadable: list[str] = []
    for file in tree.files:
        try:
            found += _read(file)
        except (tomllib.TOMLDecodeError, configparser.Error, UnicodeDecodeError):
            unreadable.append(file.name)
    return sorted(set(found), key=lambda item: (item.source, item.group, item.name)), unreadable


def _read(file: SourceFile) -> Iterator[Requirement]:
    """Yield what one file declares; nothing for other files."""
    if file.name == "pyproject.toml":
        yield from _pyproject(tomllib.loads(file.read_text() or ""), file.name)
    elif file.name == "setup.cfg":
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(file.read_text() or "")
        lines = parser.get("options", "install_requires", fallback="").splitlines()
        yield from _parsed(lines, file.name, "dependencies")
    elif _REQUIREMENTS.match(file.name):
        group = "requirements" if file.name == "requirements.txt" else file.path.stem
        lines = [line.partition(" #")[0].strip() for line in (file.read_text() or "").splitlines()]
        yield from _parsed([line for line in lines if not line.startswith(("#", "-"))], file.name, group)


def _pyproject(document: Mapping[str, object], source: str) -> Iterator[Requirement]:
    """Yield the requirements of a pyproject.toml: standard tables, groups, and Poetry's."""
    project = _table(document, "project")
    yield from _parsed(_strings(project.get("dependencies")), source, "dependencies")
    for extra, entries in _table(project, "optional-dependencies").items():
        yield from _parsed(_strings(entries), source, extra)
    for group, entries in _table(document, "dependency-groups").items():
        yield from _parsed(_strings(entries), source, group)
    yield from _parsed(_strings(_table(document, "build-system").get("requires")), source, "build-system")
    poetry = _table(_table(document, "tool"), "poetry")
    names = [name for name in _table(poetry, "dependencies") if name.lower() != "python"]
    yield from _parsed(names, source, "dependencies")
    for group, content in _table(poetry, "group").items():
        if isinstance(content, Mapping):
            yield from _parsed(list(_table(content, "dependencies")), source, group)


def _table(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    """Return a sub-table, empty when it is missing or something else."""
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def _strings(value: object) -> list[str]:
    """Return the strings of a list; groups may also hold `{include-group = …}`."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _parsed(lines: Iterable[str], source: str, group: str) -> Iterator[Requirement]:
    """Yield the requirement each line states; links and options state none."""
    for line in lines:
        match = _NAME.match(line)
        if match:
            yield Requirement(normalized(match[1]), line.strip(), source, group)
