"""What operations do to a graph, in order, each on what the ones before left; all are tried, to find all mistakes.

May import: orchestration.{models, problems}, orchestration.edits.{drafts, graph, operations, replacements},
orchestration.planning.draft_values, pydantic, stdlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import ValidationError

from orchestration.edits.drafts import Drafted, read_drafts
from orchestration.edits.operations import Operation
from orchestration.edits.replacements import Replacing
from orchestration.models import TaskEdge, TaskId
from orchestration.planning.draft_values import names_in
from orchestration.problems import problems_in


class Workbench(Replacing):
    """Carries operations out."""

    def carry_out(self, operations: Sequence[Operation]) -> None:
        """Carry operations out, in order."""
        self._drafts = read_drafts(operations, self.nodes, self._limits)
        self.problems += self._drafts.problems
        self.notes += self._drafts.notes
        for operation in operations:
            match operation.op:
                case "add":
                    self._add(operation)
                case "set":
                    self._set(operation)
                case "remove":
                    self._remove(operation)
                case "link":
                    self._link(operation)
                case "unlink":
                    self._unlink(operation)
                case "skip":
                    self._skip(operation)
                case "priority":
                    self._priority(operation)
                case _:
                    self._replace(operation)

    # Tasks

    def _add(self, operation: Operation) -> None:
        drafted = self._drafts.by_operation.get(operation.index, Drafted())
        for node in drafted.nodes:
            self._add_one(operation, node)
        for edge in drafted.edges:
            self._join(operation, edge)

    def _remove(self, operation: Operation) -> None:
        task_id = self._find(operation)
        if task_id is None:
            return
        parent = self.nodes[task_id].parent
        if parent in self.nodes and not self._siblings(task_id):
            told = f"takes {task_id!r} out, the last part of {parent!r}."
            self._refuse(operation, told, f"Remove {parent!r} instead, or add a part to it first.")
            return
        if operation.fields.get("reconnect"):
            self._reconnect(operation, task_id)
        self._take_out(operation, task_id)

    def _siblings(self, task_id: TaskId) -> list[TaskId]:
        parent = self.nodes[task_id].parent
        return [other for other, node in self.nodes.items() if node.parent == parent and other != task_id]

    def _reconnect(self, operation: Operation, task_id: TaskId) -> None:
        """Let what depends on a task depend on what it depends on."""
        upstream = self._incoming(task_id)
        for after in self._outgoing(task_id):
            target = after.target_task_id
            if after.condition is not None or after.data_requirements:
                what = "condition" if after.condition is not None else "data_requirements"
                self._refuse(
                    operation,
                    f"can't reconnect {target!r}: its edge has {what} about the output of {task_id!r}.",
                    f"Remove {task_id!r} without `reconnect`, and link what {target!r} is to wait for.",
                    "reconnect",
                )
                continue
            for before in upstream:
                if (before.source_task_id, target) not in self.edges:
                    optional = before.is_optional or after.is_optional
                    self._join(operation, replace(before, target_task_id=target, is_optional=optional))

    def _skip(self, operation: Operation) -> None:
        task_id = self._find(operation)
        if task_id is None:
            return
        if self._statuses is None:
            self._refuse(
                operation,
                f"is about task {task_id!r} of a plan; only a run skips tasks.",
                f'Take it out: {{"op": "remove", "task_id": "{task_id}", "reconnect": true}}.',
            )
            return
        reason = operation.fields.get("reason")
        self.skipped[task_id] = reason.strip() if isinstance(reason, str) else ""
        self.trace.tasks[task_id] = operation

    # Edges

    def _link(self, operation: Operation) -> None:
        fields = operation.fields
        source, target = self._find(operation, "source_task_id"), self._find(operation, "target_task_id")
        given = {
            key: fields[key] for key in ("condition", "data_requirements", "is_optional") if key in fields
        }
        if isinstance(given.get("data_requirements"), str):
            given["data_requirements"] = names_in(given["data_requirements"])
        for name, empty in (("data_requirements", []), ("is_optional", False)):
            if name in given and given[name] is None:
                given[name] = empty
        if given.get("condition") == "":
            given["condition"] = None
        if source is None or target is None:
            return
        before = self.edges.get((source, target), TaskEdge(source, target))
        try:
            edge = replace(before, **given)
        except ValidationError as exc:
            self.problems += problems_in(exc, operation.path)
            return
        if (source, target) in self.edges and edge == before:
            self.notes.append(f"{operation.path}: the edge {source} → {target} is there already.")
            return
        self._join(operation, edge)

    def _unlink(self, operation: Operation) -> None:
        source, target = self._find(operation, "source_task_id"), self._find(operation, "target_task_id")
        if source is None or target is None:
            return
        if (source, target) not in self.edges:
            upstream = [edge.source_task_id for edge in self._incoming(target)]
            told = f"takes out the edge {source} → {target}, which is not there."
            fix = f"{target!r} depends on: {', '.join(upstream) or 'nothing'}."
            if (target, source) in self.edges:
                fix = f"The edge leads the other way: unlink {target} → {source}."
            self._refuse(operation, told, fix)
            return
        self._cut(operation, (source, target))
