"""A DAG as a file: YAML or JSON in, `TaskDAG` out, and back. The format is described in `docs/dag-file.md`.

May import: orchestration.{dag, dag_places, documents, errors, hierarchy_rules, models, options, problems, task_fields,
validation}, pydantic, stdlib.

What was written is read back as the same DAG, edge for edge. Two readers: `parse_document` (and `load_dag`)
trusts nothing and reports every mistake at once; `dag_from_json` reads what `dag_to_json` wrote into the
storage.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestration import documents
from orchestration.dag import TaskDAG
from orchestration.dag_places import MAX_PLACES, with_lines
from orchestration.errors import InvalidArgumentError, InvalidDagError, Problem
from orchestration.hierarchy_rules import RUNS_NOTHING
from orchestration.models import NOT_YET_AVAILABLE, Json, JsonObject, TaskEdge, TaskId, TaskNode
from orchestration.options import Limits
from orchestration.problems import problems_in, shown, unknown_key
from orchestration.task_fields import field_problems, without_unknown
from orchestration.validation import validate

DOCUMENT_KEYS = ("dag_id", "goal", "timeout_seconds", "defaults", "tasks", "edges", "metadata")
TASK_KEYS = (*(field.name for field in dataclasses.fields(TaskNode)), "depends_on")
EDGE_KEYS = tuple(field.name for field in dataclasses.fields(TaskEdge))
DEFAULTABLE_KEYS = (
    "system_preference",
    "tool",
    "priority",
    "estimated_time_seconds",
    "complexity_score",
    "resource_requirements",
    "max_retries",
    "backoff_factor",
    "timeout_seconds",
    "heartbeat_timeout_seconds",
    "idempotent",
    "skills",
    "cache",
    "approval",
    "cost",
)
"""Task fields that `defaults` may fill for every task that does not give them itself."""
_DEFAULT_LIMITS = Limits()
_Pair = tuple[TaskId, TaskId]


# --- Reading ------------------------------------------------------------------------------------------------


def load_dag(source: str | PathLike[str], limits: Limits = _DEFAULT_LIMITS) -> TaskDAG:
    """Read a DAG from a file, or from a text.

    Args:
        source: A path; or the YAML or JSON itself, which a `str` is taken for when it has more than one line
        or
            starts with `{`.
        limits: How large the DAG may be.

    Raises:
        InvalidArgumentError: There is no such file, or it can't be read.
        InvalidDagError: The DAG has mistakes; all are listed, with their lines.
    """
    is_text = isinstance(source, str) and ("\n" in source or source.lstrip().startswith("{"))
    text = str(source) if is_text else _read_text(Path(source))
    reader = _Reader(documents.read_document(text), limits)
    dag = reader.read()
    if reader.problems:
        raise InvalidDagError(with_lines(reader.problems, text, reader.task_places, reader.edge_places))
    return dag


def parse_document(
    document: Mapping[str, Any], limits: Limits = _DEFAULT_LIMITS, *, is_live: bool = False
) -> TaskDAG:
    """Make a DAG of a document that was read already, an inline `dag` argument for example.

    Args:
        document: What was read.
        limits: How large the DAG may be.
        is_live: Whether it may have tasks that only a run makes (`~n`, `[n]`).

    Raises:
        InvalidDagError: The document has mistakes; all are listed.
    """
    reader = _Reader(document, limits, is_live=is_live)
    dag = reader.read()
    if reader.problems:
        raise InvalidDagError(reader.problems)
    return dag


def dag_from_json(data: bytes) -> TaskDAG:
    """Read a DAG that `dag_to_json` wrote, without asking again whether it is sound."""
    document = json.loads(data)
    dag = TaskDAG(
        document["dag_id"],
        document.get("goal", ""),
        metadata=document.get("metadata"),
        timeout_seconds=document.get("timeout_seconds"),
    )
    for task in document["tasks"]:
        upstreams = task.pop("depends_on", ())
        node = TaskNode(**task)
        dag.nodes[node.task_id] = node
        dag.edges.extend([TaskEdge(upstream, node.task_id) for upstream in upstreams])
    dag.edges.extend([TaskEdge(**edge) for edge in document.get("edges", ())])
    return dag


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > documents.MAX_TEXT_BYTES:
            raise InvalidArgumentError(
                "path", str(path), f"a file of at most {documents.MAX_TEXT_BYTES:,} bytes", "split the DAG"
            )
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InvalidArgumentError(
            "path",
            str(path),
            "an existing DAG file (YAML or JSON)",
            "check the path; it is relative to the current folder",
        ) from None
    except UnicodeDecodeError as exc:
        raise InvalidArgumentError(
            "path", str(path), f"a text in UTF-8, but byte {exc.start} is not", "save the file as UTF-8"
        ) from None
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise InvalidArgumentError(
            "path", str(path), f"a DAG file that can be read ({reason})", "check the path and its permissions"
        ) from exc


class _Reader:
    """One reading of a document: the DAG as far as it could be made, and every mistake."""

    def __init__(self, document: object, limits: Limits, *, is_live: bool = False) -> None:
        self.document = document
        self.limits = limits
        self.is_live = is_live
        self.problems: list[Problem] = []
        self.task_places: dict[TaskId, int] = {}
        """Where each task stands in `tasks`."""
        self.edge_places: dict[_Pair, documents.Path] = {}
        """Where each edge is written."""

    def read(self) -> TaskDAG:
        """Return the DAG; it is only worth something when there are no `problems`."""
        if not isinstance(self.document, Mapping):
            self._report(
                "document", f"is {shown(self.document)}; expected a mapping with {', '.join(DOCUMENT_KEYS)}."
            )
            return TaskDAG("")
        document = self.document
        self._refuse_unknown("", document, DOCUMENT_KEYS)
        dag = TaskDAG(
            self._text(document, "dag_id", required=True),
            self._text(document, "goal"),
            metadata=self._mapping(document, "metadata"),
            timeout_seconds=document.get("timeout_seconds"),
        )
        defaults = self._defaults(self._mapping(document, "defaults"))
        short = self._tasks(dag, self._list(document, "tasks", required=True), defaults)
        entries = self._edges(self._list(document, "edges"))
        written = {(edge.source_task_id, edge.target_task_id) for edge in entries}
        dag.edges = [
            edge for edge in short if (edge.source_task_id, edge.target_task_id) not in written
        ] + entries
        if dag.nodes or not self.problems:
            self.problems += [
                problem
                for problem in validate(dag, self.limits, is_live=self.is_live)
                if not self._is_known(problem)
            ]
        return dag

    def _is_known(self, problem: Problem) -> bool:
        """Whether a finding about the whole only repeats one about a part."""
        return any(known.path == problem.path for known in self.problems[:MAX_PLACES])

    def _report(self, path: str, message: str, fix: str = "") -> None:
        self.problems.append(Problem(path, message, fix))

    def _text(self, document: Mapping[str, Any], key: str, *, required: bool = False) -> str:
        value = document.get(key)
        if isinstance(value, str):
            return value
        if value is not None:
            self._report(key, f"is {shown(value)}; expected a text.", f'Quote it: "{value}".')
        elif required:
            self._report(key, "is missing.", f"Add `{key}: a-speaking-name`.")
        return "unnamed" if required else ""

    def _mapping(self, document: Mapping[str, Any], key: str) -> dict[str, Any]:
        value = document.get(key)
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return dict(value)
        self._report(key, f"is {shown(value)}; expected a mapping.")
        return {}

    def _list(self, document: Mapping[str, Any], key: str, *, required: bool = False) -> list[Any]:
        value = document.get(key)
        if isinstance(value, list | tuple):
            return list(value)
        if value is not None:
            self._report(key, f"is {shown(value)}; expected a list.")
        elif required:
            self._report(key, "is missing.", "Add a list with at least one task.")
        return []

    def _refuse_unknown(self, path: str, given: Mapping[Any, Any], known: tuple[str, ...]) -> None:
        for key in given:
            if not isinstance(key, str):
                self._report(path or "document", f"has the key {key!r}; expected a text.", "Quote it.")
            elif known is TASK_KEYS and key in NOT_YET_AVAILABLE:
                self._report(
                    f"{path}.{key}",
                    f"is not available yet ({NOT_YET_AVAILABLE[key]}); nothing would honour it.",
                    "Remove it.",
                )
            elif key not in known:
                self.problems.append(unknown_key(path, key, known))

    def _defaults(self, given: dict[str, Any]) -> dict[str, Any]:
        if not given:
            return {}
        self._refuse_unknown("defaults", given, TASK_KEYS)
        for key in given:
            if key in TASK_KEYS and key not in DEFAULTABLE_KEYS:
                self._report(
                    f"defaults.{key}",
                    "can't be a default; every task has its own.",
                    f"Defaults are: {', '.join(DEFAULTABLE_KEYS)}.",
                )
        chosen = {key: value for key, value in given.items() if key in DEFAULTABLE_KEYS}
        try:
            TaskNode(task_id="defaults", **chosen)
        except ValidationError as exc:
            self.problems += problems_in(exc, "defaults")
            return {}
        return chosen

    def _tasks(self, dag: TaskDAG, given: list[Any], defaults: dict[str, Any]) -> list[TaskEdge]:
        """Add the tasks; return the edges their `depends_on` stands for."""
        edges: list[TaskEdge] = []
        parents = {
            task["parent"] for task in given if isinstance(task, Mapping) and _is_text(task.get("parent"))
        }
        of_parents = {key: value for key, value in defaults.items() if key not in RUNS_NOTHING}
        for index, task in enumerate(given):
            path = f"tasks[{index}]"
            if not isinstance(task, Mapping):
                self._report(path, f"is {shown(task)}; expected a mapping with at least a task_id.")
                continue
            is_parent = bool(parents) and _is_text(task.get("task_id")) and task["task_id"] in parents
            node = self._task(path, task, of_parents if is_parent else defaults)
            if node is None:
                continue
            if node.task_id in dag.nodes:
                self._report(
                    f"{path}.task_id",
                    f"is {node.task_id!r}, as is tasks[{self.task_places[node.task_id]}].",
                    "Give each task an id of its own.",
                )
                continue
            dag.nodes[node.task_id] = node
            self.task_places[node.task_id] = index
            edges += self._depends_on(path, index, node.task_id, task.get("depends_on"))
        return edges

    def _task(self, path: str, task: Mapping[str, Any], defaults: dict[str, Any]) -> TaskNode | None:
        if not task.keys() <= _TASK_KEY_SET:
            self._refuse_unknown(path, task, TASK_KEYS)
        if not task.keys().isdisjoint(_RECORDS):
            task = without_unknown(path, task, self.problems)
        fields = {**defaults, **{key: value for key, value in task.items() if key in _FIELD_SET}}
        try:
            return TaskNode(**fields)
        except ValidationError as exc:
            self.problems += field_problems(exc, path, fields)
        parent = fields.get("parent")
        for kept in (parent, None) if _is_text(parent) else (None,):
            try:  # stands in, so that edges to it are no mistake
                return TaskNode(task_id=fields.get("task_id", ""), parent=kept)
            except ValidationError:
                continue
        return None

    def _depends_on(self, path: str, index: int, task_id: TaskId, given: object) -> list[TaskEdge]:
        if given is None:
            return []
        if not isinstance(given, list | tuple) or not all(isinstance(item, str) for item in given):
            self._report(
                f"{path}.depends_on",
                f"is {shown(given)}; expected a list of task ids.",
                "Write [first, second].",
            )
            return []
        edges = []
        for place, upstream in enumerate(given):
            self.edge_places[upstream, task_id] = ("tasks", index, "depends_on", place)
            edges.append(TaskEdge(upstream, task_id))
        return edges

    def _edges(self, given: list[Any]) -> list[TaskEdge]:
        edges: list[TaskEdge] = []
        for index, entry in enumerate(given):
            path = f"edges[{index}]"
            if not isinstance(entry, Mapping):
                self._report(
                    path, f"is {shown(entry)}; expected a mapping with source_task_id and target_task_id."
                )
                continue
            self._refuse_unknown(path, entry, EDGE_KEYS)
            try:
                edge = TaskEdge(**{key: value for key, value in entry.items() if key in EDGE_KEYS})
            except ValidationError as exc:
                self.problems += problems_in(exc, path)
                continue
            self.edge_places[edge.source_task_id, edge.target_task_id] = ("edges", index)
            edges.append(edge)
        return edges


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_RECORDS = frozenset({"fallback", "verify", "cache", "acceptance"})
_TASK_KEY_SET = frozenset(TASK_KEYS)
_FIELD_SET = _TASK_KEY_SET - {"depends_on"}

# --- Writing ------------------------------------------------------------------------------------------------


def dag_to_document(dag: TaskDAG) -> JsonObject:
    """Return a DAG as the document `parse_document` reads: fields that hold their defaults are left out.

    Plain edges become `depends_on` as far as reading them back gives the edges in the same order.
    """
    position = {task_id: index for index, task_id in enumerate(dag.nodes)}
    short: dict[TaskId, list[Json]] = {}
    reached = taken = 0
    for edge in dag.edges:
        place = position.get(edge.target_task_id, -1)
        if place < reached or edge.data_requirements or edge.is_optional or edge.condition is not None:
            break
        short.setdefault(edge.target_task_id, []).append(edge.source_task_id)
        reached = place
        taken += 1
    document: JsonObject = {"dag_id": dag.dag_id}
    if dag.goal:
        document["goal"] = dag.goal
    if dag.timeout_seconds is not None:
        document["timeout_seconds"] = _value(dag.timeout_seconds)
    document["tasks"] = [_task_document(node, short.get(task_id)) for task_id, node in dag.nodes.items()]
    if taken < len(dag.edges):
        document["edges"] = [_fields(edge, _EDGE_DEFAULTS) for edge in dag.edges[taken:]]
    if dag.metadata:
        document["metadata"] = dag.metadata
    return document


def dag_to_json(dag: TaskDAG) -> bytes:
    """Return a DAG as compact JSON in UTF-8; equal DAGs give equal bytes."""
    return json.dumps(
        dag_to_document(dag), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    ).encode()


def dump_yaml(dag: TaskDAG) -> str:
    """Return a DAG as YAML."""
    return documents.write_yaml(dag_to_document(dag))


def _defaults_of(cls: Any) -> tuple[tuple[str, object], ...]:
    """Return each field's name with its default; a field without one gets a default that equals nothing."""
    found = []
    for field in dataclasses.fields(cls):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append((field.name, default))
    return tuple(found)


_TASK_DEFAULTS = _defaults_of(TaskNode)[1:]
_EDGE_DEFAULTS = _defaults_of(TaskEdge)


def _task_document(node: TaskNode, upstreams: list[Json] | None) -> JsonObject:
    document: JsonObject = {"task_id": node.task_id}
    if upstreams:
        document["depends_on"] = upstreams
    return document | _fields(node, _TASK_DEFAULTS)


def _fields(record: object, defaults: tuple[tuple[str, object], ...]) -> JsonObject:
    """Return the fields that do not hold their default, as JSON."""
    document: JsonObject = {}
    for name, default in defaults:
        value = getattr(record, name)
        if value is default or value == default:
            continue
        document[name] = _value(value)
    return document


def _value(value: Any) -> Any:
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, StrEnum):
        return value.value
    if type(value) is float and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value, _defaults_of(type(value)))
    return value
