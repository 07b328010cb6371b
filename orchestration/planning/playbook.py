"""Playbooks: recipes for goals, written in YAML, checked whole when they are read. `docs/playbooks.md` describes them.

May import: orchestration.errors, planning.playbook_*, stdlib.

A problem names the file and the line (`playbook_reading.py`); what is read can be planned with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from orchestration.errors import ConfigurationError, Problem
from orchestration.planning.playbook_model import Playbook
from orchestration.planning.playbook_reading import File, Reading

_PLACE = re.compile(r"(.*?):(\d+): ")


@dataclass(frozen=True, slots=True)
class PlaybookLibrary:
    """Every playbook there is, by name, in the order they were read."""

    playbooks: Mapping[str, Playbook] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    """The file of each."""


@dataclass(frozen=True, slots=True)
class CheckedPlaybooks:
    """What a check of files has shown."""

    names: Sequence[str]
    """The playbooks that could be read."""
    problems: Sequence[Problem]
    """Each begins with `FILE:LINE: `, or with the file where it is about the whole of it."""


def load_playbooks(folders: Sequence[Path] = ()) -> PlaybookLibrary:
    """Read the playbooks of the package, then those of `folders`; a later one replaces an earlier of its name.

    Raises:
        ConfigurationError: A folder or a playbook has mistakes; all of all files are listed.
    """
    reading = Reading()
    _take_everything(reading, folders)
    reading.check()
    if reading.problems:
        raise ConfigurationError(reading.problems)
    return PlaybookLibrary(
        {name: source.playbook for name, source in reading.sources.items()},
        {name: source.path for name, source in reading.sources.items()},
    )


def check_playbooks(path: Path, folders: Sequence[Path] = ()) -> CheckedPlaybooks:
    """Check one playbook, or all of a folder, among those of the package and of `folders`.

    They may name each other, and a file those beside it; what has mistakes itself can't be named.

    Args:
        path: A file, whatever its name ends with, or a folder.
        folders: Those that are read besides, as in `load_playbooks`.
    """
    reading = Reading(tells_paths=True)
    home = path if path.is_dir() else path.parent
    _take_everything(reading, [*folders, *([] if path.is_dir() or not home.is_dir() else [home])])
    reading.drop_unsound()
    chosen: Sequence[File] = [path]
    if path.is_dir():
        chosen = _playbooks_of(path)
        if not chosen:
            reading.report(
                str(path), "has no playbook: no file in it ends with .yaml or .yml.", "Name another folder."
            )
    names = reading.take_all(chosen)
    reading.check(names)
    return CheckedPlaybooks(names, sorted(reading.problems, key=_file_and_line))


def _file_and_line(problem: Problem) -> tuple[str, int]:
    found = _PLACE.match(problem.path)
    return (found[1], int(found[2])) if found else (problem.path, 0)


def _take_everything(reading: Reading, folders: Sequence[Path]) -> None:
    """Read the playbooks of the package and of folders."""
    package = files("orchestration.planning") / "playbooks"
    reading.take_all(sorted((file for file in package.iterdir() if _is_playbook(file.name)), key=_by_name))
    for folder in folders:
        try:
            found = _playbooks_of(folder)
        except OSError as exc:
            reason = exc.strerror or str(exc)
            reading.report(
                str(folder), f"is no folder of playbooks ({reason}).", "Make it, or remove it from the list."
            )
            continue
        reading.take_all(found)


def _playbooks_of(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if _is_playbook(path.name)), key=_by_name)


def _is_playbook(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) and not name.startswith(".")


def _by_name(file: File) -> str:
    return file.name
