"""Which tasks of a new orchestration are what they were in an earlier one, so that its outputs can stand for theirs.

May import: orchestration.{fallbacks, models, ports}, orchestration.engine.{state, task_state}, stdlib.

A task is reused when it completed, does the same as before on the same system under the same declaration, sees the same
context, is fed by the same edges, and all its upstream tasks are reused. What only shapes how a task runs (priority,
estimates, limits, retries) may differ.

A list (`foreach`) is reused whole or not at all: its children are made anew. Of a task with parts, each part is looked
at by itself; the task is reused where all its parts are, and there are no others.
"""

from __future__ import annotations

import json
from collections.abc import Container

from orchestration.engine.state import State
from orchestration.engine.task_state import EdgeState, TaskState
from orchestration.fallbacks import fallback_nodes
from orchestration.models import TaskId, TaskNode, TaskStatus
from orchestration.ports import Needs


class Comparison:
    """Compares two orchestrations, task by task.

    Args:
        before: The earlier one.
        needs_before: The declarations it went by.
        state: The new one, freshly submitted.
        needs: The declarations it goes by.
        seen_whole: Systems that see more of a task than its tool, arguments, inputs and context.
    """

    def __init__(
        self, before: State, needs_before: Needs, state: State, needs: Needs, seen_whole: Container[str]
    ) -> None:
        self._before = before
        self._needs_before = needs_before
        self._state = state
        self._needs = needs
        self._seen_whole = seen_whole
        self._found: dict[TaskId, TaskState] = {}
        self._passed_over: set[TaskId] = set()
        """Tasks that were skipped over edges that are the same now; only ever asked about one."""
        self._opened: set[TaskId] = set()
        """Parents that begin as they did; only ever asked about one."""
        self._looked: set[TaskId] = set()
        """Parents that were looked at whole; only ever asked about one."""

    def sources(self) -> dict[TaskId, TaskState]:
        """Return, for each reusable task, the one whose output it takes: upstream first, a parent after its parts."""
        for task_id in self._state.dag.topological_sort():
            task = self._state.tasks[task_id]
            before = self._before.tasks.get(task_id)
            if before is not None and self._is_alike(before, task):
                self._look_at(task_id, before, task)
        return self._found

    def _look_at(self, task_id: TaskId, before: TaskState, task: TaskState) -> None:
        """Note what becomes of a task that does the same as before, if its upstreams are reused."""
        upstreams = [edge.source for edge in task.incoming]
        if before.status is TaskStatus.SKIPPED:
            if all(self._is_found(name) or name in self._passed_over for name in upstreams):
                self._passed_over.add(task_id)
        elif all(map(self._is_found, upstreams)):
            source = self._source(task_id)
            if task.is_composite and task.node.foreach is None:
                self._opened.add(task_id)
            elif source is not None:
                self._found[task_id] = source

    def _is_alike(self, before: TaskState, task: TaskState) -> bool:
        parent = task.node.parent
        return (
            (parent is None or parent in self._opened)
            and self._does_alike(before, task)
            and self._is_declared_alike(before, task)
        )

    def _does_alike(self, before: TaskState, task: TaskState) -> bool:
        was = before.primary or before.node
        if task.node.approval is not None:
            return False  # somebody is to agree to this run of it
        if task.node.acceptance not in (None, was.acceptance):
            return False  # what must hold of its output now, nobody looked at then
        if before.home is not None and before.primary is None:
            return False  # it went on elsewhere, and under which declaration there is not on record
        system = before.system if before.home is None else before.home[0]
        if (before.is_composite, was.parent, system) != (task.is_composite, task.node.parent, task.system):
            return False
        if _work(was) != _work(task.node) or _feeds(self._before, before) != _feeds(self._state, task):
            return False
        if _may_have_fallen_back(before) and (was.fallback, before.fallback_systems) != (
            task.node.fallback,
            task.fallback_systems,
        ):
            return False
        return task.system not in self._seen_whole or _words(self._before, was) == _words(
            self._state, task.node
        )

    def _is_declared_alike(self, before: TaskState, task: TaskState) -> bool:
        """Whether it would be run by the same declaration now."""
        ways = [(task.system, task.node.tool)]
        if _may_have_fallen_back(before):
            nodes = fallback_nodes(task.node)
            ways += zip(task.fallback_systems, (node.tool for node in nodes), strict=False)
        return all(
            self._needs_before.get(system, {}).get(tool or "") == self._needs.get(system, {}).get(tool or "")
            for system, tool in ways
        )

    def _source(self, task_id: TaskId) -> TaskState | None:
        """Return the task whose output stands for this one's, if it has one."""
        source = self._before.tasks[self._before.current(task_id)]
        return source if source.status is TaskStatus.COMPLETED and source.output is not None else None

    def _is_found(self, task_id: TaskId) -> bool:
        """Whether a task is reused; of a parent this is known once its parts were looked at."""
        if task_id in self._opened and task_id not in self._looked:
            self._looked.add(task_id)
            source = self._source(task_id)
            if source is not None and self._has_same_parts(task_id):
                self._found[task_id] = source
        return task_id in self._found

    def _has_same_parts(self, task_id: TaskId) -> bool:
        parts = self._state.tasks[task_id].children
        known = set(parts)
        # The tasks of an alternative stand in the place of a part; what an edit had added stands for nothing.
        has_more = any(
            child not in known and not self._before.tasks[child].tried
            for child in self._before.tasks[task_id].children
        )
        return not has_more and all(self._is_found(part) or part in self._passed_over for part in parts)


def _may_have_fallen_back(before: TaskState) -> bool:
    """Whether a fallback may have made a task's output: it took over, or may have for the items of a list."""
    return before.primary is not None or before.node.foreach is not None


def _work(node: TaskNode) -> tuple[object, ...]:
    """Return what decides about a task's output."""
    return (
        node.tool,
        node.description,
        json.dumps(node.arguments, sort_keys=True),
        json.dumps(node.foreach, sort_keys=True),
    )


def _words(state: State, node: TaskNode) -> tuple[object, ...]:
    """Return what a system that sees a task whole is told besides."""
    return state.dag.goal, node.system_preference, node.complexity_score


def _feeds(state: State, task: TaskState) -> set[tuple[str, tuple[str, ...], bool, str | None]]:
    """Return what decides about a task's inputs, as the DAG says it; what its parent hands on is the parent's."""
    return {
        (
            edge.edge.source_task_id,
            tuple(edge.edge.data_requirements),
            edge.edge.is_optional,
            edge.edge.condition,
        )
        for edge in task.incoming
        if not _is_handed_on(state, task, edge)
    }


def _is_handed_on(state: State, task: TaskState, edge: EdgeState) -> bool:
    return state.tasks[edge.source].node.parent != task.node.parent
