"""Playbooks: recipes for goals, written in YAML, checked whole when they are read. `docs/playbooks.md` describes them.

May import: orchestration.{documents, errors, expressions, problems}, planning.playbook_*, pydantic, stdlib.

A problem names the file and the line. Besides the form, each playbook is expanded with sample values, with every
optional part and without each, and the outcome is validated as any DAG: what is read can be planned with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from orchestration.documents import find_places, read_document
from orchestration.errors import ConfigurationError, InvalidDagError, Problem
from orchestration.expressions import has_references
from orchestration.planning.playbook_expansion import MAX_DEPTH, Expansion, expand, placeholders_in
from orchestration.planning.playbook_model import Playbook, Subtask
from orchestration.problems import joined, nearest, problems_in

MAX_FILE_BYTES = 1024 * 1024
"""Of one playbook; far more than anyone writes by hand."""
MAX_TASKS = 1000
"""Of one playbook with those it names in their places: a few small files could otherwise stand for billions."""

_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


class _File(Protocol):
    """A file of a folder or of the package."""

    @property
    def name(self) -> str: ...

    def read_bytes(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PlaybookLibrary:
    """Every playbook there is, by name, in the order they were read."""

    playbooks: Mapping[str, Playbook] = field(default_factory=dict)


def load_playbooks(folders: Sequence[Path] = ()) -> PlaybookLibrary:
    """Read the playbooks of the package, then those of `folders`; a later one replaces an earlier of its name.

    Raises:
        ConfigurationError: A folder or a playbook has mistakes; all of all files are listed.
    """
    reading = _Reading()
    package = files("orchestration.planning") / "playbooks"
    reading.take_all(sorted((file for file in package.iterdir() if _is_playbook(file.name)), key=_by_name))
    for folder in folders:
        try:
            found = sorted((path for path in folder.iterdir() if _is_playbook(path.name)), key=_by_name)
        except OSError as exc:
            reason = exc.strerror or str(exc)
            reading.report(
                str(folder), f"is no folder of playbooks ({reason}).", "Make it, or remove it from the list."
            )
            continue
        reading.take_all(found)
    reading.check_all()
    if reading.problems:
        raise ConfigurationError(reading.problems)
    return PlaybookLibrary({name: source.playbook for name, source in reading.sources.items()})


def _is_playbook(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) and not name.startswith(".")


def _by_name(file: _File) -> str:
    return file.name


@dataclass(frozen=True, slots=True)
class _Source:
    """A playbook and the text it was read from."""

    file: str
    text: str
    playbook: Playbook


@dataclass(slots=True)
class _Reading:
    """One reading of all files."""

    sources: dict[str, _Source] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def report(self, path: str, message: str, fix: str = "") -> None:
        self.problems.append(Problem(path, message, fix))

    def take_all(self, folder: Sequence[_File]) -> None:
        """Read the files of one folder; two of them must not have one name."""
        here: dict[str, str] = {}
        for file in folder:
            source = self._read(file)
            if source is None:
                continue
            name = source.playbook.name
            if name in here:
                self._report_at(
                    source, ("name",), f"is {name!r}, as in {here[name]}.", "Give it a name of its own."
                )
                continue
            here[name] = file.name
            self.sources[name] = source

    def _read(self, file: _File) -> _Source | None:
        try:
            content = file.read_bytes()
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as exc:
            self.report(file.name, f"can't be read: {exc}.", "Save it as UTF-8 text.")
            return None
        if len(content) > MAX_FILE_BYTES:
            self.report(
                file.name, f"has {len(content):,} bytes; at most {MAX_FILE_BYTES:,} are allowed.", "Split it."
            )
            return None
        try:
            document = read_document(text)
        except InvalidDagError as exc:
            for problem in exc.problems:
                self.report(f"{file.name}: {problem.path}", problem.message, problem.fix)
            return None
        try:
            return _Source(file.name, text, Playbook.model_validate(document))
        except ValidationError as exc:
            for problem in problems_in(exc, ""):
                self.problems.append(_placed(file.name, text, _steps(problem.path), problem))
            return None

    def _report_at(self, source: _Source, way: Sequence[str | int], message: str, fix: str = "") -> None:
        problem = Problem(joined("", way), message, fix)
        self.problems.append(_placed(source.file, source.text, tuple(way), problem))

    # What spans several values

    def check_all(self) -> None:
        """Check each playbook by itself, and then, when all are sound, what they expand to."""
        for source in self.sources.values():
            self._check(source)
        if self.problems:
            return
        sizes: dict[str, int] = {}
        for name, source in self.sources.items():
            cycle = self._cycle_from(name, (name,))
            if cycle:
                told = " → ".join(cycle)
                fix = "Let none of them name one before it."
                self._report_at(
                    source, ("subtasks",), f"name playbooks in a circle, or too deeply: {told}.", fix
                )
            elif self._size_of(name, sizes) > MAX_TASKS:
                told = f"stand for {sizes[name]:,} tasks with the playbooks they name"
                fix = f"Stay within {MAX_TASKS:,}."
                self._report_at(source, ("subtasks",), f"{told}; at most {MAX_TASKS:,} are allowed.", fix)
        if self.problems:
            return
        playbooks = {name: source.playbook for name, source in self.sources.items()}
        for source in self.sources.values():
            self._check_expansions(source, playbooks)

    def _check(self, source: _Source) -> None:
        playbook = source.playbook
        known = [subtask.task_id for subtask in playbook.subtasks]
        for index, subtask in enumerate(playbook.subtasks):
            way = ("subtasks", index)
            if subtask.task_id in known[:index]:
                self._report_at(
                    source,
                    (*way, "task_id"),
                    f"is {subtask.task_id!r} a second time.",
                    "Give each an id of its own.",
                )
            self._check_names(source, (*way, "depends_on"), subtask.depends_on, known, "subtask")
            if subtask.task_id in subtask.depends_on:
                self._report_at(source, (*way, "depends_on"), "names the subtask itself.", "Remove it.")
            if subtask.when is not None:
                self._check_names(
                    source, (*way, "when"), [subtask.when], list(playbook.parameters), "parameter"
                )
            if subtask.playbook is not None:
                self._check_call(source, way, subtask)
            parameters = ["goal", *playbook.parameters]
            for text_way, name in placeholders_in(subtask.texts(), way):
                self._check_names(source, text_way, [name], parameters, "parameter")
        for index, edge in enumerate(playbook.edges):
            for end in ("source_task_id", "target_task_id"):
                self._check_names(source, ("edges", index, end), [getattr(edge, end)], known, "subtask")

    def _check_names(
        self, source: _Source, way: Sequence[str | int], names: Sequence[str], known: Sequence[str], kind: str
    ) -> None:
        for name in names:
            if name not in known:
                near = nearest(name, known)
                listed = ", ".join(dict.fromkeys(known)) or "none"
                fix = f"Write {near!r}." if near else f"There are: {listed}."
                self._report_at(source, way, f"names the {kind} {name!r}, which there is not.", fix)

    def _check_call(self, source: _Source, way: Sequence[str | int], subtask: Subtask) -> None:
        named = self.sources.get(subtask.playbook or "")
        if named is None:
            self._check_names(
                source, (*way, "playbook"), [subtask.playbook or ""], list(self.sources), "playbook"
            )
            return
        parameters = named.playbook.parameters
        self._check_names(source, (*way, "with"), list(subtask.with_), list(parameters), "parameter")
        if has_references(subtask.with_):
            self._report_at(
                source,
                (*way, "with"),
                "holds a `${…}`; expected values that are known when the plan is made.",
                "Let a step of the other playbook take the output.",
            )
        for name, parameter in parameters.items():
            if parameter.required and name not in subtask.with_:
                self._report_at(
                    source,
                    way,
                    f"does not give {name!r}, which playbook {subtask.playbook!r} requires.",
                    "Add it to `with`.",
                )

    def _cycle_from(self, name: str, way: tuple[str, ...]) -> tuple[str, ...]:
        """Return a way through playbooks that comes back to itself or is too long; empty when there is none."""
        if len(way) > MAX_DEPTH:
            return way
        subtasks = self.sources[name].playbook.subtasks
        for named in dict.fromkeys(subtask.playbook for subtask in subtasks if subtask.playbook is not None):
            if named in way:
                return (*way, named)
            found = self._cycle_from(named, (*way, named))
            if found:
                return found
        return ()

    def _size_of(self, name: str, sizes: dict[str, int]) -> int:
        """Return how many tasks a playbook stands for; keeps what it found in `sizes`."""
        if name not in sizes:
            sizes[name] = sum(
                1 if subtask.playbook is None else self._size_of(subtask.playbook, sizes)
                for subtask in self.sources[name].playbook.subtasks
            )
        return sizes[name]

    def _check_expansions(self, source: _Source, playbooks: Mapping[str, Playbook]) -> None:
        for values in _sample_values(source.playbook):
            expansion = expand(source.playbook, values, playbooks)
            try:
                expansion.to_dag("sample", "")
            except InvalidDagError as exc:
                for problem in exc.problems:
                    name, way = _origin(problem.path, expansion, source.playbook.name)
                    origin = self.sources[name]
                    self.problems.append(_placed(origin.file, origin.text, way, problem))
                return


def _sample_values(playbook: Playbook) -> Iterator[dict[str, Any]]:
    """Yield values to try a playbook with: all parts on, all that can be off, and each of those off by itself."""
    full: dict[str, Any] = {"goal": "sample"}
    for name, parameter in playbook.parameters.items():
        full[name] = parameter.default or "sample"
    switches = list(dict.fromkeys(subtask.when for subtask in playbook.subtasks if subtask.when))
    yield full
    yield full | dict.fromkeys(switches, "")
    for switch in switches if len(switches) > 1 else ():
        yield full | {switch: ""}


def _origin(path: str, expansion: Expansion, name: str) -> tuple[str, tuple[str | int, ...]]:
    """Return the playbook, and the way in it, that a problem of an expanded DAG comes from."""
    steps = _steps(path)
    if len(steps) > 1 and steps[0] == "tasks":
        ids = [task["task_id"] for task in expansion.tasks]
        place = steps[1] if isinstance(steps[1], int) else ids.index(steps[1]) if steps[1] in ids else 0
        found, index = expansion.origins[place]
        return found, ("subtasks", index, *steps[2:])
    return name, ("edges" if steps[:1] == ("edges",) else "subtasks",)


def _steps(path: str) -> tuple[str | int, ...]:
    return tuple(int(index) if index.isdecimal() else index or name for index, name in _STEP.findall(path))


def _placed(file: str, text: str, way: tuple[str | int, ...], problem: Problem) -> Problem:
    """Return a problem under the file and line of the value it is about."""
    line = find_places(text, [way]).get(way, 1) if way else 1
    return Problem(f"{file}:{line}: {joined('', way) or 'playbook'}", problem.message, problem.fix)
