"""Reads playbooks from files and finds what is wrong with them, each mistake with its file and line.

May import: orchestration.{documents, errors, expressions, models, problems}, planning.playbook_*, pydantic, stdlib.

Besides the form, each playbook is expanded with sample values, with every optional part and without each, and the
outcome is validated as any DAG. One that has mistakes, or names one that has, is not expanded: what is found then would
be the same mistake again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from orchestration.documents import find_places, read_document
from orchestration.errors import InvalidDagError, Problem
from orchestration.expressions import has_references
from orchestration.models import NOT_YET_AVAILABLE, TaskEdge, TaskNode
from orchestration.planning.playbook_expansion import MAX_DEPTH, Expansion, expand, placeholders_in
from orchestration.planning.playbook_model import GoalPattern, Parameter, Playbook, Subtask
from orchestration.problems import joined, nearest, problems_in, unknown_key

MAX_FILE_BYTES = 1024 * 1024
"""Of one playbook; far more than anyone writes by hand."""
MAX_TASKS = 1000
"""Of one playbook with those it names in their places: a few small files could otherwise stand for billions."""

_LINE = re.compile(r"line (\d+), column (\d+)")
_TASK_FIELDS = tuple(each.name for each in fields(TaskNode))
_STEP_FIELDS = (*Subtask.model_fields, "with", *(name for name in _TASK_FIELDS if name != "task_id"))
_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


class File(Protocol):
    """A file of a folder or of the package."""

    @property
    def name(self) -> str:
        """Return the last part of its path."""
        ...

    def read_bytes(self) -> bytes:
        """Return what is in it.

        Raises:
            OSError: It can't be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A playbook and the text it was read from."""

    file: str
    """What problems call the file."""
    path: str
    """Where it is."""
    text: str
    playbook: Playbook


@dataclass(slots=True)
class Reading:
    """One reading of files, and what was found wrong."""

    sources: dict[str, Source] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    tells_paths: bool = False
    """Whether problems name a file by its path, not by its name alone."""

    def report(self, path: str, message: str, fix: str = "") -> None:
        """Note a problem of a whole file or folder."""
        self.problems.append(Problem(path, message, fix))

    def take_all(self, folder: Sequence[File]) -> list[str]:
        """Read the files of one folder and return the playbooks' names; two of them must not have one name.

        A playbook replaces one of its name that was read before.
        """
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
        return list(here)

    def _read(self, file: File) -> Source | None:
        told = str(file) if self.tells_paths else file.name
        if isinstance(file, Path) and file.exists() and not file.is_file():  # a pipe would be waited for
            self.report(told, "is no plain file.", "Save the playbook as one.")
            return None
        try:
            content = file.read_bytes()
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as exc:
            self.report(told, f"can't be read: {exc}.", "Save it as UTF-8 text.")
            return None
        if len(content) > MAX_FILE_BYTES:
            self.report(
                told, f"has {len(content):,} bytes; at most {MAX_FILE_BYTES:,} are allowed.", "Split it."
            )
            return None
        try:
            document = read_document(text)
        except InvalidDagError as exc:
            for problem in exc.problems:
                self.report(_place_of_syntax(told, problem.path), problem.message, problem.fix)
            return None
        try:
            return Source(told, str(file), text, Playbook.model_validate(document))
        except ValidationError as exc:
            for problem in _mistakes_of_form(exc):
                self.problems.append(_placed(told, text, _steps(problem.path), problem))
            return None

    def _report_at(self, source: Source, way: Sequence[str | int], message: str, fix: str = "") -> None:
        problem = Problem(joined("", way), message, fix)
        self.problems.append(_placed(source.file, source.text, tuple(way), problem))

    # What spans several values

    def drop_unsound(self) -> None:
        """Forget the playbooks that have mistakes, and those that name one: the rest may be named all the same."""
        while True:
            unsound = self._check_all(self.sources)
            self.problems.clear()
            if not unsound:
                return
            for name in unsound:
                del self.sources[name]

    def check(self, names: Collection[str] | None = None) -> None:
        """Check each playbook by itself, then those that are sound, and name only such, as what they expand to.

        Args:
            names: Those to check; all when absent.
        """
        chosen = list(self.sources) if names is None else [name for name in self.sources if name in names]
        unsound = self._check_all(chosen)
        playbooks = {name: source.playbook for name, source in self.sources.items()}
        for name in chosen:
            if not unsound & self._reached_from(name):
                self._check_expansions(self.sources[name], playbooks)

    def _check_all(self, names: Collection[str]) -> set[str]:
        """Check everything but the expansions; return those that have mistakes."""
        unsound: set[str] = set()
        sizes: dict[str, int] = {}
        for name in names:
            before = len(self.problems)
            self._check(self.sources[name])
            if len(self.problems) > before:
                unsound.add(name)
        misnamed = frozenset(unsound)
        for name in names:
            if misnamed & self._reached_from(name):
                continue
            source = self.sources[name]
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
            else:
                continue
            unsound.add(name)
        return unsound

    def _reached_from(self, name: str) -> set[str]:
        """Return a playbook and all it names, directly or not."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name in self.sources and name not in found:
                found.add(name)
                waiting += [
                    subtask.playbook
                    for subtask in self.sources[name].playbook.subtasks
                    if subtask.playbook is not None
                ]
        return found

    def _check(self, source: Source) -> None:
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
            for key in subtask.task_fields():
                if key not in _TASK_FIELDS and key not in NOT_YET_AVAILABLE:
                    unknown = unknown_key(joined("", way), key, _STEP_FIELDS)
                    self._report_at(source, (*way, key), unknown.message, unknown.fix)
            parameters = ["goal", *playbook.parameters]
            for text_way, name in placeholders_in(subtask.texts(), way):
                self._check_names(source, text_way, [name], parameters, "parameter")
        for index, edge in enumerate(playbook.edges):
            for end in ("source_task_id", "target_task_id"):
                self._check_names(source, ("edges", index, end), [getattr(edge, end)], known, "subtask")
        self._check_order(source)

    def _check_order(self, source: Source) -> None:
        """Find subtasks that wait for each other."""
        upstreams: dict[str, list[str]] = {
            subtask.task_id: [name for name in subtask.depends_on if name != subtask.task_id]
            for subtask in source.playbook.subtasks
        }
        for edge in source.playbook.edges:
            if edge.source_task_id != edge.target_task_id:
                upstreams.setdefault(edge.target_task_id, []).append(edge.source_task_id)
        try:
            TopologicalSorter(upstreams).prepare()
        except CycleError as exc:
            circle: list[str] = list(exc.args[1])
            ids = [subtask.task_id for subtask in source.playbook.subtasks]
            place = min(ids.index(task_id) for task_id in circle if task_id in ids)
            told = f"closes a circle: {' → '.join(_turned(circle, ids[place]))}."
            self._report_at(source, ("subtasks", place), told, "Remove one of these dependencies.")

    def _check_names(
        self, source: Source, way: Sequence[str | int], names: Sequence[str], known: Sequence[str], kind: str
    ) -> None:
        for name in names:
            if name not in known:
                near = nearest(name, known)
                listed = ", ".join(dict.fromkeys(known)) or "none"
                fix = f"Write {near!r}." if near else f"There are: {listed}."
                self._report_at(source, way, f"names the {kind} {name!r}, which there is not.", fix)

    def _check_call(self, source: Source, way: Sequence[str | int], subtask: Subtask) -> None:
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

    def _check_expansions(self, source: Source, playbooks: Mapping[str, Playbook]) -> None:
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


def _mistakes_of_form(exc: ValidationError) -> Iterator[Problem]:
    """Yield the mistakes of a document's form; an unknown key with the one that was meant."""
    unknown = {
        joined("", error["loc"]): error["loc"] for error in exc.errors() if error["type"] == "extra_forbidden"
    }
    for problem in problems_in(exc, ""):
        way = unknown.get(problem.path)
        if way is None:
            yield problem
            continue
        known = _known_at(way)
        told = unknown_key(joined("", way[:-1]), str(way[-1]), known)
        yield Problem(problem.path, told.message, told.fix)


def _known_at(way: Sequence[str | int]) -> list[str]:
    """Return the keys that may stand where an unknown one does."""
    if len(way) == 1:
        return list(Playbook.model_fields)
    if way[0] == "edges":
        return [each.name for each in fields(TaskEdge)]
    return list((Parameter if len(way) == 3 else GoalPattern).model_fields)


def _place_of_syntax(file: str, place: str) -> str:
    """Return the file and line of what the reader of YAML found."""
    found = _LINE.fullmatch(place)
    return f"{file}:{found[1]}: column {found[2]}" if found else f"{file}: {place}"


def _turned(circle: Sequence[str], first: str) -> list[str]:
    """Return a circle, whose last is its first, so that it begins with `first`."""
    open_ended = list(circle[:-1])
    start = open_ended.index(first)
    return [*open_ended[start:], *open_ended[:start], first]


def _sample_values(playbook: Playbook) -> Iterator[dict[str, Any]]:
    """Yield values to try a playbook with: all parts on, all that can be off, and each of those off by itself."""
    full: dict[str, Any] = {"goal": "sample"}
    for name, parameter in playbook.parameters.items():
        full[name] = parameter.typed(parameter.default or "sample")
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
