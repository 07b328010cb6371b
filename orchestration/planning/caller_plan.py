"""The caller's own plan: a draft as language models send it becomes a validated DAG, or is refused with every mistake.

May import: orchestration.{dag, dag_file, errors, models, options, planning.draft_values, problems, validation}, stdlib.

What can mean only one thing is completed and said in the notes (ids, names of fields, dependencies given by title,
JSON inside strings, durations with a unit). What could mean two things, or is not known, is refused with a fix:
nothing is guessed and nothing dropped, for a condition or an approval that is silently ignored would be dangerous.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestration.dag import TaskDAG
from orchestration.dag_file import parse_document
from orchestration.errors import InvalidDagError, Problem
from orchestration.models import TaskEdge, TaskId, TaskNode, TaskStatus
from orchestration.options import Limits
from orchestration.planning.draft_values import (
    EDGE_FIELD_NAMES,
    FIELD_NAMES,
    as_list,
    canonical_field,
    from_json_text,
    is_task_id,
    names_in,
    seconds_of,
    set_fields,
    slug,
    unique,
    with_renamed_references,
)
from orchestration.problems import nearest, shown
from orchestration.validation import normalized

_DEFAULT_LIMITS = Limits()
_ANY_FIX = "Correct the value, or leave the field out."
_SHOWN_EXAMPLES = 5


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
    reading = _Reading(limits)
    document = reading.document(draft, edges)
    document |= {"dag_id": dag_id or slug(goal) or "plan", "goal": goal}
    outside = _add_outside(document, upstreams)
    dag: TaskDAG | None = None
    try:
        dag = parse_document(document, limits)
        before = len(dag.edges)
        dag = normalized(dag, limits)
    except InvalidDagError as exc:
        reading.problems.extend(exc.problems)
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
        raise InvalidDagError(_one_each(reading.problems))
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


def _one_each(problems: Sequence[Problem]) -> list[Problem]:
    """Return the first problem of each place, each with a fix: what follows from the first is no news."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.path, problem)
    return [
        problem if problem.fix else dataclasses.replace(problem, fix=_ANY_FIX) for problem in first.values()
    ]


@dataclass(slots=True)
class _Task:
    """One task of a draft on its way."""

    path: str
    fields: dict[str, Any]
    raw_id: str | None
    title: str | None
    task_id: TaskId = ""


@dataclass(slots=True)
class _Reading:
    """One reading of a draft: what was found so far."""

    limits: Limits
    problems: list[Problem] = field(default_factory=list)
    changes: dict[str, list[str]] = field(default_factory=dict)
    delivers: TaskId | None = None
    tasks: list[_Task] = field(default_factory=list)
    ids: dict[str, TaskId] = field(default_factory=dict)
    """By id as sent and as it is now."""
    by_name: dict[str, list[TaskId]] = field(default_factory=dict)
    """By id or title in any spelling; a title may be that of several tasks."""

    def note(self, what: str, example: str) -> None:
        self.changes.setdefault(what, []).append(example)

    def said(self) -> Iterator[str]:
        """Yield one sentence per kind of change, however many tasks it touched."""
        for what, examples in self.changes.items():
            told = ", ".join(examples[:_SHOWN_EXAMPLES])
            more = len(examples) - _SHOWN_EXAMPLES
            yield f"{what}: {told}{f' and {more} more' if more > 0 else ''}."

    def refuse(self, path: str, message: str, fix: str) -> None:
        self.problems.append(Problem(path, message, fix))

    def document(self, draft: object, edges: object) -> dict[str, Any]:
        """Return the draft as a document of the file format."""
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

    def _task(self, path: str, task: object) -> None:
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
        fields = self._named(path, plain, FIELD_NAMES)
        self._values(path, fields)
        title = fields.pop("title", None)
        raw_id = fields.pop("task_id", None)
        if raw_id is not None and (isinstance(raw_id, bool) or not isinstance(raw_id, str | int)):
            self.refuse(
                f"{path}.task_id", f"is {shown(raw_id)}; expected a text.", "Write a short speaking id."
            )
            raw_id = None
        title = str(title).strip() if isinstance(title, str | int | float) else None
        raw = str(raw_id).strip() if raw_id is not None else None
        self.tasks.append(_Task(path, fields, raw or None, title or None))

    def _named(self, path: str, sent: Mapping[Any, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
        """Return the fields under their own names; absent ones (null) left out."""
        fields: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for key, value in sent.items():
            own = canonical_field(str(key), aliases)
            if value is None:
                continue
            if own in fields and fields[own] != value:
                self.refuse(
                    f"{path}.{key}",
                    f"says the same as {origin[own]}, with another value.",
                    f"Keep only {own}.",
                )
                continue
            fields[own], origin[own] = value, str(key)
            if own not in {key, "title"}:
                self.note("Fields read under their own names", f"{key} as {own}")
        return fields

    def _values(self, path: str, fields: dict[str, Any]) -> None:
        """Put right, in place, values that are written in another form than the model's."""
        for name in ("arguments", "resource_requirements", "metadata"):
            plain = from_json_text(fields.get(name), "{")
            if isinstance(fields.get(name), str) and isinstance(plain, Mapping):
                fields[name] = plain
                self.note("Read from JSON inside a string", f"{path}.{name}")
        for name in ("estimated_time_seconds", "timeout_seconds"):
            if not isinstance(fields.get(name), str):
                continue
            seconds = seconds_of(fields[name])
            if seconds is None:
                self.refuse(
                    f"{path}.{name}",
                    f"is {shown(fields[name])}; expected a duration.",
                    'Write 300 or "5 min".',
                )
                del fields[name]
            else:
                self.note("Durations turned into seconds", f"{fields[name]} = {seconds:g}")
                fields[name] = seconds
        if isinstance(fields.get("priority"), str):
            fields["priority"] = fields["priority"].strip()
            if fields["priority"].lower() in {"normal", "default"}:
                self.note("Priorities read as MEDIUM", fields["priority"])
                fields["priority"] = "MEDIUM"
        if fields.get("system_preference") == "":
            del fields["system_preference"]
        status = fields.pop("status", None)
        if status is not None and str(status).lower() != TaskStatus.PENDING:
            self.note("Statuses left out, for every task starts as pending", f"{path}.status {shown(status)}")

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
        for task in self.tasks if renamed else ():
            if "arguments" in task.fields:
                task.fields["arguments"] = with_renamed_references(task.fields["arguments"], renamed)
            verify = task.fields.get("verify")
            if isinstance(verify, dict) and "arguments" in verify:
                arguments = with_renamed_references(verify["arguments"], renamed)
                task.fields["verify"] = {**verify, "arguments": arguments}

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
            if source is not None and source not in depends_on:
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
        edge = self._named(path, sent, EDGE_FIELD_NAMES)
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
