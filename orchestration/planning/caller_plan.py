"""The caller's own plan: a draft as language models send it becomes a validated DAG, or is refused with every mistake.

May import: orchestration.{dag, dag_file, errors, models, options, problems, validation},
orchestration.planning.{draft_findings, draft_task, draft_values}, stdlib.

What can mean only one thing is completed and said in the notes (ids, names of fields, dependencies given by title,
JSON inside strings, durations with a unit, tasks inside tasks). What could mean two things, or is not known, is refused
with a fix: nothing is guessed and nothing dropped, for a condition or an approval that is silently ignored would be
dangerous.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestration.dag import TaskDAG
from orchestration.dag_file import parse_document
from orchestration.errors import InvalidDagError, Problem
from orchestration.models import TaskEdge, TaskId, TaskNode
from orchestration.options import Limits
from orchestration.planning.draft_findings import Findings, one_each
from orchestration.planning.draft_task import named_fields, settle_values, tasks_in
from orchestration.planning.draft_values import (
    EDGE_FIELD_NAMES,
    FIELD_NAMES,
    Renaming,
    as_list,
    canonical_field,
    from_json_text,
    is_task_id,
    names_in,
    set_fields,
    slug,
    unique,
)
from orchestration.problems import nearest, shown
from orchestration.validation import normalized

_DEFAULT_LIMITS = Limits()
_BARE_REFERENCE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)(?:\.[A-Za-z0-9_-]+|\[[0-9]+\])*")
_BY_PLACE = re.compile(r"tasks\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class CallerPlan:
    """A caller's draft, understood and checked."""

    dag: TaskDAG
    notes: tuple[str, ...]
    """What was completed or changed."""
    delivers: TaskId | None = None
    """The task whose output stands for the whole, where the draft names one."""


def read_caller_plan(
    draft: object,
    *,
    edges: object = None,
    goal: str = "",
    dag_id: str | None = None,
    upstreams: Sequence[TaskId] = (),
    limits: Limits = _DEFAULT_LIMITS,
) -> CallerPlan:
    """Make a DAG of a draft.

    Args:
        draft: A list of tasks; or an object with `tasks` and perhaps `edges` and `delivers`; or either as JSON text.
            A task is an object, a `TaskNode`, or a text that describes it.
        edges: Edges beside the tasks' own `depends_on`.
        goal: What the whole is for.
        dag_id: Name of the DAG; made from the goal when absent.
        upstreams: Tasks outside the draft that deliver to its roots, so that those may name them in `${…}`.
        limits: Bounds on the DAG.

    Raises:
        InvalidDagError: The draft has mistakes; all are listed, each with a fix.
    """
    reading = DraftReading(limits=limits)
    document = reading.document(draft, edges)
    document |= {"dag_id": dag_id or slug(goal) or "plan", "goal": goal}
    outside = _add_outside(document, upstreams)
    dag: TaskDAG | None = None
    try:
        # Tasks outside may be of an alternative plan; a draft's own never look like one.
        dag = parse_document(document, limits, is_live=bool(outside))
        before = len(dag.edges)
        dag = normalized(dag, limits, is_live=bool(outside))
    except InvalidDagError as exc:
        reading.problems.extend(map(reading.placed, exc.problems))
    else:
        for edge in dag.edges[before:]:
            if edge.source_task_id in outside:
                reading.refuse(
                    f"tasks[{edge.target_task_id}].arguments",
                    f"name {edge.source_task_id!r}, whose output only the first tasks of the draft receive.",
                    "Let the first task hand the value on.",
                )
            else:
                joined = f"{edge.source_task_id} → {edge.target_task_id}"
                reading.note("Dependencies added because arguments name the task", joined)
    if dag is None or reading.problems:
        raise InvalidDagError(one_each(reading.problems))
    for task_id in outside:
        del dag.nodes[task_id]
    dag.edges = [edge for edge in dag.edges if edge.source_task_id not in outside]
    return CallerPlan(dag, tuple(reading.said()), reading.delivers)


def _add_outside(document: dict[str, Any], upstreams: Sequence[TaskId]) -> frozenset[TaskId]:
    """Let tasks stand in a document for those outside it; returns their ids. A task of its own has precedence."""
    own = {task["task_id"] for task in document["tasks"]}
    outside = [task_id for task_id in upstreams if task_id not in own]
    targets = {edge["target_task_id"] for edge in document["edges"]}
    for task in document["tasks"] if outside else ():
        if task["task_id"] not in targets and not task.get("depends_on"):
            task["depends_on"] = outside
    document["tasks"] = [*document["tasks"], *({"task_id": task_id} for task_id in outside)]
    return frozenset(outside)


@dataclass(slots=True)
class _Task:
    """One task of a draft on its way."""

    path: str
    fields: dict[str, Any]
    raw_id: str | None
    title: str | None
    inside: _Task | None = None
    """The task in which it was written."""
    task_id: TaskId = ""


@dataclass(slots=True)
class DraftReading(Findings):
    """One reading of a draft: what was found so far."""

    limits: Limits = _DEFAULT_LIMITS
    delivers: TaskId | None = None
    tasks: list[_Task] = field(default_factory=list)
    ids: dict[str, TaskId] = field(default_factory=dict)
    """By id as sent and as it is now."""
    by_name: dict[str, list[TaskId]] = field(default_factory=dict)
    """By id or title in any spelling; a title may be that of several tasks."""

    mentioned: frozenset[str] | None = None
    """Ids and titles of all tasks in lower case; collected when a text may be one of them."""
    adopted: list[tuple[str, str, _Task]] = field(default_factory=list)
    """Places and texts in a task's `subtasks` that name another task of the draft, and that task."""
    around: dict[TaskId, TaskId] = field(default_factory=dict)
    """The task each is a part of."""
    _draft: object = None

    def document(self, draft: object, edges: object) -> dict[str, Any]:
        """Return the draft as a document of the file format."""
        self._draft = draft
        plain = from_json_text(draft, "[{")
        if isinstance(draft, str) and plain is not draft:
            self.note("Read from JSON inside a string", "tasks")
        if isinstance(plain, Mapping) and "tasks" in plain:
            return self._whole(plain, edges)
        return self._parts(plain, edges)

    def _whole(self, plan: Mapping[Any, Any], edges: object) -> dict[str, Any]:
        for key in plan:
            if key not in {"tasks", "edges", "delivers", "dag_id", "goal", "thoughts", "notes"}:
                self.refuse(str(key), "is no part of a plan.", "Send tasks, edges and delivers only.")
        both = [*as_list(plan.get("edges")), *as_list(edges)]
        document = self._parts(from_json_text(plan["tasks"], "[{"), both)
        if plan.get("delivers") is not None:
            self.delivers = self._resolve("delivers", plan["delivers"])
        return document

    def _parts(self, tasks: object, edges: object) -> dict[str, Any]:
        if isinstance(tasks, Mapping):
            tasks = self._keyed(tasks)
        if not isinstance(tasks, Sequence) or isinstance(tasks, str | bytes):
            self.refuse(
                "tasks",
                f"is {shown(tasks)}; expected a list of tasks.",
                'Send a list such as [{"task_id": "fetch", "description": "Fetch the data"}].',
            )
            tasks = ()
        elif not tasks:
            self.refuse("tasks", "is empty; expected at least one task.", "Send the tasks of the plan.")
        elif len(tasks) > self.limits.max_tasks:
            limit = f"{self.limits.max_tasks:,}"
            self.refuse("tasks", f"has {len(tasks):,} tasks; at most {limit} are allowed.", "Split the plan.")
            tasks = ()
        for index, task in enumerate(tasks):
            self._task(f"tasks[{index}]", task)
        self._assign_ids()
        self._rename_references()
        self._place_parts()
        documents = [self._document_of(task) for task in self.tasks]
        own = [edge for document in documents for edge in document.pop("edges", ())]
        sent = self._edges(edges)
        return {"tasks": documents, "edges": [*own, *sent]}

    def _keyed(self, tasks: Mapping[Any, Any]) -> list[Any]:
        """Return the tasks of an object `{id: task}`; one that is a single task itself is that task."""
        if not tasks or not all(isinstance(value, Mapping) for value in tasks.values()):
            return [tasks] if tasks else []
        self.note("Ids taken from the keys of an object of tasks", f"{len(tasks)} tasks")
        return [{"task_id": key, **value} for key, value in tasks.items()]

    # One task

    def _task(self, path: str, task: object, inside: _Task | None = None, depth: int = 0) -> None:
        if isinstance(task, TaskNode):
            plain: object = set_fields(task)
        else:
            plain = from_json_text(task, "{")
        if isinstance(plain, str) and plain.strip():
            self.note("Tasks made of a description alone", shown(plain))
            plain = {"description": plain.strip()}
        if not isinstance(plain, Mapping):
            fix = 'Send an object such as {"task_id": "fetch", "description": "Fetch the data"}.'
            self.refuse(path, f"is {shown(task)}; expected a task.", fix)
            plain = {}  # keeps its place, so that later findings name the right index
        elif not any(plain.values()):
            fix = "Say what is to be done in its description."
            self.refuse(path, "says nothing.", fix)
        fields = named_fields(self, path, plain, FIELD_NAMES)
        settle_values(self, path, fields, self._is_mentioned)
        parts = fields.pop("subtasks", None)
        title = fields.pop("title", None)
        raw_id = fields.pop("task_id", None)
        if raw_id is not None and (isinstance(raw_id, bool) or not isinstance(raw_id, str | int)):
            self.refuse(
                f"{path}.task_id", f"is {shown(raw_id)}; expected a text.", "Write a short speaking id."
            )
            raw_id = None
        title = str(title).strip() if isinstance(title, str | int | float) else None
        raw = str(raw_id).strip() if raw_id is not None else None
        read = _Task(path, fields, raw or None, title or None, inside)
        self.tasks.append(read)
        if parts is not None:
            self._parts_of(read, parts, depth + 1)

    def _parts_of(self, task: _Task, sent: object, depth: int) -> None:
        """Read the tasks inside a task; a text that names another task of the draft makes that one a part."""
        path = f"{task.path}.subtasks"
        parts = from_json_text(sent, "[{")
        if isinstance(parts, Mapping):
            parts = self._keyed(parts)
        if isinstance(parts, str) and not names_in(parts):
            return
        if not isinstance(parts, Sequence) or isinstance(parts, str | bytes):
            fix = 'Send a list such as [{"task_id": "fetch", "description": "Fetch the data"}].'
            self.refuse(path, f"is {shown(sent)}; expected a list of tasks.", fix)
            return
        if depth > self.limits.max_hierarchy_depth:
            limit = self.limits.max_hierarchy_depth
            told = f"lie deeper than {limit} tasks inside each other, which is the limit."
            self.refuse(path, told, "Make the plan flatter.")
            return
        if len(self.tasks) + len(parts) > self.limits.max_tasks:
            told = f"bring the plan to more than {self.limits.max_tasks:,} tasks, which is the limit."
            self.refuse(path, told, "Split the plan.")
            return
        for index, part in enumerate(parts):
            place = f"{path}[{index}]"
            if isinstance(part, str) and self._is_mentioned(part):
                self.adopted.append((place, part, task))
            else:
                self._task(place, part, task, depth)

    def _is_mentioned(self, text: str) -> bool:
        """Whether a text is the id or title of a task of the draft."""
        if self.mentioned is None:
            names: set[str] = set()
            for task in tasks_in(self._draft):
                for key, value in task.items() if isinstance(task, Mapping) else ():
                    if canonical_field(str(key), FIELD_NAMES) in {"task_id", "title"}:
                        names.add(str(value).strip().lower())
                if len(names) > 2 * self.limits.max_tasks:
                    break
            self.mentioned = frozenset(names)
        return text.strip().lower() in self.mentioned

    # Ids and names

    def _assign_ids(self) -> None:
        """Give every task an id: its own, where that can be one, else one made from its id, title or description."""
        taken = {task.raw_id for task in self.tasks if task.raw_id is not None and is_task_id(task.raw_id)}
        for index, task in enumerate(self.tasks):
            if task.raw_id is not None and is_task_id(task.raw_id):
                task.task_id = task.raw_id
            else:
                told = task.raw_id or task.title or str(task.fields.get("description", ""))
                task.task_id = unique(slug(told) or f"task-{index + 1}", taken)
                if task.raw_id is not None:
                    self.note("Ids changed to letters, digits, - and _", f"{task.raw_id} to {task.task_id}")
                else:
                    self.note("Ids made for tasks without one", task.task_id)
            names = [name for name in (task.raw_id, task.task_id, task.title) if name is not None]
            self.ids |= dict.fromkeys((name for name in (task.raw_id, task.task_id) if name), task.task_id)
            for spelling in dict.fromkeys((*(name.lower() for name in names), *map(slug, names))):
                self.by_name.setdefault(spelling, []).append(task.task_id)

    def _resolve(self, path: str, name: object) -> TaskId | None:
        """Return the id of the task a dependency names by id or title; None when that is refused."""
        if isinstance(name, bool) or not isinstance(name, str | int):
            self.refuse(path, f"is {shown(name)}; expected the id of a task.", "Write a task_id.")
            return None
        wanted = str(name).strip()
        if wanted in self.ids:
            return self.ids[wanted]
        ids = list(dict.fromkeys(self.by_name.get(wanted.lower()) or self.by_name.get(slug(wanted)) or ()))
        if len(ids) == 1:
            self.note("Dependencies given by title or in another spelling", f"{wanted} is {ids[0]}")
            return ids[0]
        if ids:
            self.refuse(
                path, f"{shown(wanted)} is the title of {len(ids)} tasks.", f"Write {ids[0]} or {ids[1]}."
            )
            return None
        if wanted.isdigit():
            self.refuse(
                path,
                f"is {wanted}, and no task has that id; it is not clear whether counting starts at 0 or at 1.",
                "Give every task a task_id and name those.",
            )
            return None
        near = nearest(wanted, [task.task_id for task in self.tasks])
        known = ", ".join(dict.fromkeys(task.task_id for task in self.tasks[:10]))
        fix = f"Did you mean {near!r}?" if near else f"The tasks are: {known}."
        self.refuse(path, f"names task {shown(wanted)}, which is not in the plan.", fix)
        return None

    def _rename_references(self) -> None:
        """Let `${…}` follow ids that were changed."""
        renamed = {
            task.raw_id: task.task_id for task in self.tasks if task.raw_id and task.raw_id != task.task_id
        }
        renamed |= {
            task.title: task.task_id
            for task in self.tasks
            if task.title
            and task.title not in renamed
            and len(set(self.by_name.get(task.title.lower(), ()))) == 1
        }
        renamed = {old: new for old, new in renamed.items() if old != new}
        renaming = Renaming(renamed) if renamed else None
        for task in self.tasks:
            if renaming is not None:
                task.fields = renaming.of_task(task.fields)
            bare = task.fields.get("foreach")
            found = _BARE_REFERENCE.fullmatch(bare.strip()) if isinstance(bare, str) else None
            if found is not None and found[1] in self.ids.values():
                task.fields["foreach"] = f"${{{found[0]}}}"
                self.note("Lists to go through written as references", f"{bare} as ${{{found[0]}}}")

    # Parts

    def _place_parts(self) -> None:
        """Give each task that is a part of another one that one's id as its `parent`."""
        nested = [task for task in self.tasks if task.inside is not None]
        outer = dict.fromkeys(task.inside.task_id for task in nested if task.inside is not None)
        for task_id in outer:
            self.note("Tasks inside a task made its parts", task_id)
        adopted: dict[TaskId, TaskId] = {}
        for place, name, parent in self.adopted:
            found = self._resolve(place, name)
            if found is not None:
                adopted[found] = parent.task_id
        for task in self.tasks:
            named = task.fields.pop("parent", None)
            inside = task.inside.task_id if task.inside is not None else adopted.get(task.task_id)
            if isinstance(named, str) and not names_in(named):
                named = None
            own = self._resolve(f"{task.path}.parent", named) if named is not None else None
            if own is not None and inside is not None and own != inside:
                told = f"is {own!r}, but the task is among the subtasks of {inside!r}."
                self.refuse(f"{task.path}.parent", told, "Keep one of the two.")
            if own or inside:
                task.fields["parent"] = self.around[task.task_id] = own or inside or ""

    def _is_inside(self, task_id: TaskId, other: TaskId) -> bool:
        """Whether a task is a part of another one, or of a part of it."""
        for _ in range(self.limits.max_hierarchy_depth + 1):
            task_id = self.around.get(task_id, "")
            if task_id == other:
                return True
        return False

    def placed(self, problem: Problem) -> Problem:
        """Return a problem with the place in the draft: a task inside another one stands elsewhere in the document."""
        found = _BY_PLACE.match(problem.path)
        if found is None or int(found[1]) >= len(self.tasks) or found[1] in self.ids:
            return problem
        return dataclasses.replace(problem, path=self.tasks[int(found[1])].path + problem.path[found.end() :])

    # Dependencies

    def _document_of(self, task: _Task) -> dict[str, Any]:
        """Return a task as a document; dependencies with fields of their own stand in its `edges`."""
        document: dict[str, Any] = {"task_id": task.task_id, **task.fields}
        if task.title:
            if not str(document.get("description", "")).strip():
                document["description"] = task.title
            elif task.title != task.raw_id:
                metadata = document.get("metadata", {})
                if isinstance(metadata, Mapping):
                    document["metadata"] = {"title": task.title, **metadata}
        if "depends_on" not in document:
            return document
        path = f"{task.path}.depends_on"
        depends_on: list[TaskId] = []
        edges: list[dict[str, Any]] = []
        for place, named in self._dependencies(path, document.pop("depends_on")):
            if isinstance(named, Mapping):
                edge = self._edge(place, {"target_task_id": task.task_id, **_source_named(named)})
                edges += [edge] if edge else []
                continue
            source = self._resolve(place, named)
            if source is None or source in depends_on:
                continue
            if self.around and (
                self._is_inside(task.task_id, source) or self._is_inside(source, task.task_id)
            ):
                what = "Dependencies between a task and its parts left out, for it is done with them"
                self.note(what, f"{source} → {task.task_id}")
                continue
            depends_on.append(source)
        if depends_on:
            document["depends_on"] = depends_on
        if edges:
            document["edges"] = edges
        return document

    def _dependencies(self, path: str, sent: object) -> Iterator[tuple[str, object]]:
        plain = from_json_text(sent, "[{")
        if isinstance(plain, str):
            whole = plain.strip().lower()
            names = [plain] if whole in self.by_name else names_in(plain)
            if names:
                self.note("Dependencies turned from a text into a list", f"{path} {shown(plain)}")
            plain = names
        if isinstance(plain, Mapping | int):
            plain = [plain]
        if not isinstance(plain, Sequence):
            self.refuse(
                path, f"is {shown(sent)}; expected a list of task ids.", 'Write a list such as ["fetch"].'
            )
            return
        yield from ((f"{path}[{index}]", name) for index, name in enumerate(plain))

    def _edges(self, sent: object) -> list[dict[str, Any]]:
        found = []
        for index, edge in enumerate(as_list(sent)):
            path = f"edges[{index}]"
            if isinstance(edge, TaskEdge):
                plain: object = set_fields(edge)
            elif isinstance(edge, Sequence) and not isinstance(edge, str) and len(edge) == 2:
                plain = {"source_task_id": edge[0], "target_task_id": edge[1]}
            else:
                plain = from_json_text(edge, "{")
            if not isinstance(plain, Mapping):
                fix = 'Send an object such as {"source_task_id": "fetch", "target_task_id": "load"}.'
                self.refuse(path, f"is {shown(edge)}; expected an edge.", fix)
                continue
            read = self._edge(path, plain)
            found += [read] if read else []
        return found

    def _edge(self, path: str, sent: Mapping[Any, Any]) -> dict[str, Any] | None:
        edge = named_fields(self, path, sent, EDGE_FIELD_NAMES)
        for end in ("source_task_id", "target_task_id"):
            if end not in edge:
                self.refuse(f"{path}.{end}", "is missing.", "Write the id of a task.")
                return None
            edge[end] = self._resolve(f"{path}.{end}", edge[end])
        if isinstance(edge.get("data_requirements"), str):
            edge["data_requirements"] = names_in(edge["data_requirements"])
        return None if None in (edge["source_task_id"], edge["target_task_id"]) else edge


def _source_named(dependency: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a dependency written as an object, its task under the name an edge gives it."""
    names = {"task_id", "task", "id", "taskId"}
    return {("source_task_id" if key in names else key): value for key, value in dependency.items()}
