"""Whether a change may be made, and at which operation's door it is laid when it may not.

May import: orchestration.{dag, errors, expressions, models}, orchestration.edits.{graph, operations},
orchestration.engine.{edit_rules, inputs, state, task_state}, stdlib.

Three questions are asked of a whole change: what does a run allow of it (the engine's own rules, which are asked again
when the change arrives there), what may a model do in a person's name, and is the graph sound afterwards.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestration.dag import TaskDAG
from orchestration.edits.graph import Pair, Trace
from orchestration.edits.operations import Operation
from orchestration.engine.edit_rules import edit_refusal
from orchestration.engine.inputs import GraphChange
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import Problem
from orchestration.expressions import compile_condition
from orchestration.models import SETTLED, Acceptance, TaskEdge, TaskId, TaskNode, TaskStatus

CALLER = "caller"
"""Who a model is in the log of revisions."""

_TASK_PLACE = re.compile(r"^tasks\[(.+?)\](?=$|\.)")
_EDGE_PLACE = re.compile(r"^edges\[(.+)→(.+?)\]")


class ChangeCheck:
    """Asks about one change.

    Args:
        before: The graph as it is.
        change: What is to become of it.
        trace: Which operation wanted what.
        whole: How problems that are no operation's are named: `undo_to`.
        command: What a person types for the same, but for the operations.
    """

    def __init__(
        self, before: TaskDAG, change: GraphChange, trace: Trace, *, whole: str, command: str
    ) -> None:
        self._before = before
        self._change = change
        self._trace = trace
        self._whole = whole
        self._command = command

    # What a run allows

    def of_run(self, state: State) -> Iterator[Problem]:
        """Yield what a running orchestration does not allow of the change."""
        change = self._change
        said: set[TaskId] = set()
        for task_id, action, by in self._touched():
            task = state.tasks.get(task_id)
            reason = edit_refusal(task, action) if task is not None and task_id not in said else None
            if task is not None and reason is not None:
                said.add(task_id)
                yield Problem(self._path(by), *_words(self._told(by), task_id, task, action, reason))
        for node in change.changed:
            before = self._before.nodes[node.task_id]
            if node.parent != before.parent:
                by = self._trace.tasks.get(node.task_id)
                told = f"{self._told(by)}a running orchestration's task can't become a part of another one."
                yield Problem(f"{self._path(by)}.parent", told, "Remove it, and add it as a part.")

    def _touched(self) -> Iterator[tuple[TaskId, str, Operation | None]]:
        """Yield every task the change touches, how, and which operation wants it."""
        change, trace = self._change, self._trace
        added = {node.task_id for node in change.added}
        for node in change.changed:
            yield node.task_id, "set", trace.tasks.get(node.task_id)
        for task_id in change.removed:
            yield task_id, "remove", trace.gone.get(task_id)
        for task_id in change.skipped:
            yield task_id, "skip", trace.tasks.get(task_id)
        for source, target in change.unlinked:
            yield target, "link", trace.edges.get((source, target))
        for edge in change.linked:
            if edge.target_task_id not in added:
                yield edge.target_task_id, "link", self._of_edge(edge)
        for node in change.added:
            if node.parent is not None and node.parent not in added:
                yield node.parent, "parent", trace.tasks.get(node.task_id)

    def _of_edge(self, edge: TaskEdge) -> Operation | None:
        pair = (edge.source_task_id, edge.target_task_id)
        return self._trace.edges.get(pair) or self._trace.tasks.get(edge.target_task_id)

    # What a model may do

    def of_caller(self, after: TaskDAG | None) -> Iterator[Problem]:
        """Yield what only a person may do: take away, or weaken, what protects somebody's work.

        Args:
            after: The graph afterwards, where it is sound.
        """
        change, before = self._change, self._before
        guarded = {
            task_id
            for task_id, node in before.nodes.items()
            if node.approval == "person" and node.status not in SETTLED
        }
        for node in change.changed:
            yield from self._weakened(before.nodes[node.task_id], node, is_guarded=node.task_id in guarded)
        for task_id in change.removed:
            by = self._trace.gone.get(task_id)
            if task_id in guarded:
                yield self._forbidden(by, f"task {task_id!r} needs a person's approval")
            elif by is not None and by.op == "replace" and not before.nodes[task_id].idempotent:
                yield self._forbidden(by, f"task {task_id!r} must not be repeated, nor done in another way")
        said: set[Pair] = set()
        linked = {(edge.source_task_id, edge.target_task_id): edge for edge in change.linked}
        old_edges = {(edge.source_task_id, edge.target_task_id): edge for edge in before.edges}
        for pair in change.unlinked:
            if pair[0] in guarded and _is_weaker(linked.get(pair), old_edges[pair]):
                said.add(pair)
                yield self._past(pair, self._trace.edges.get(pair))
        if after is None:
            return
        for guard in sorted(guarded & after.nodes.keys()):
            lost = _behind(before, guard) - _behind(after, guard)
            for task_id in [each for each in after.nodes if each in lost and (guard, each) not in said]:
                yield self._past((guard, task_id), self._cutter())

    def _weakened(self, old: TaskNode, node: TaskNode, *, is_guarded: bool) -> Iterator[Problem]:
        """Yield what a changed task asks less of than before."""
        by = self._trace.tasks.get(node.task_id)
        if is_guarded:
            told = f"the approval of task {node.task_id!r} is a person's"
            # Without items nobody would be asked; elsewhere in the hierarchy nothing might wait for it.
            for field in ("approval", "foreach", "parent"):
                if getattr(node, field) != getattr(old, field):
                    yield self._forbidden(by, told, f".{field}")
        if old.acceptance is not None and _as_routed(node.acceptance, old.acceptance) != old.acceptance:
            yield self._forbidden(
                by, f"what must hold of task {node.task_id!r} before it counts", ".acceptance"
            )
        if not old.idempotent:
            for field in ("idempotent", "verify"):
                if getattr(node, field) != getattr(old, field):
                    yield self._forbidden(by, f"task {node.task_id!r} must not be repeated", f".{field}")

    def _past(self, pair: Pair, by: Operation | None) -> Problem:
        told = f"{pair[1]!r} waits for task {pair[0]!r}, which needs a person's approval"
        return self._forbidden(by, told)

    def _cutter(self) -> Operation | None:
        """Return an operation that took something out of the way between two tasks."""
        return next(reversed([*self._trace.unlinked.values(), *self._trace.gone.values()]), None)

    def _forbidden(self, by: Operation | None, told: str, field: str = "") -> Problem:
        command = self._command if by is None else f"{self._command} --op {shlex.quote(by.as_sent)}"
        return Problem(
            f"{self._path(by)}{field if by is not None else ''}",
            f"{self._told(by)}{told}; only a person may change that.",
            f"Show the user this command: `{command}`.",
        )

    # Whether the graph is sound

    def of_graph(self, problems: Sequence[Problem]) -> Iterator[Problem]:
        """Yield what is wrong with the graph as a whole, named by the operations that made it so."""
        for problem in problems:
            yield self._laid(problem)

    def _laid(self, problem: Problem) -> Problem:
        for task_id, by in self._trace.gone.items():
            if f"names task {task_id!r}" in problem.message:
                told = f"{self._told(by)}takes task {task_id!r} out, but {problem.path}: {problem.message}"
                fix = f"Change that in the same edit, before; or replace {task_id!r} by another task."
                return Problem(by.path, told, fix)
        found = _TASK_PLACE.match(problem.path)
        if found is not None and found[1] in self._trace.tasks:
            by = self._trace.tasks[found[1]]
            return replace(
                problem,
                path=by.path + problem.path[found.end() :],
                message=f"{self._told(by)}tasks[{found[1]}] {problem.message}",
            )
        edge = _EDGE_PLACE.match(problem.path)
        if edge is not None and (edge[1], edge[2]) in self._trace.edges:
            by = self._trace.edges[edge[1], edge[2]]
            return replace(
                problem, path=by.path + problem.path[edge.end() :], message=self._told(by) + problem.message
            )
        for (source, target), by in reversed(self._trace.edges.items()):
            if f"{source} → {target}" in problem.message:
                return replace(problem, path=by.path, message=f"{self._told(by)}the edges {problem.message}")
        if self._trace.unlinked and found is not None:
            for (_, target), by in self._trace.unlinked.items():
                if target == found[1]:
                    return replace(
                        problem, path=by.path, message=f"{self._told(by)}{problem.path} {problem.message}"
                    )
        return problem

    def came_back(self, pairs: Sequence[Pair]) -> Iterator[Problem]:
        """Yield that edges somebody wanted gone are there again, for arguments name their upstream."""
        for pair in pairs:
            by = self._trace.unlinked.get(pair)
            if by is not None:
                told = f"{by.told}: {pair[1]!r} names {pair[0]!r} in a reference, so it depends on it all the same."
                yield Problem(by.path, told, f"Change what {pair[1]!r} refers to in the same edit.")

    def _path(self, by: Operation | None) -> str:
        return self._whole if by is None else by.path

    def _told(self, by: Operation | None) -> str:
        return "" if by is None else f"{by.told}: "


_WORDS = {
    "set": "changed",
    "remove": "removed",
    "skip": "skipped",
    "link": "linked or unlinked",
    "parent": "given parts",
}


def _words(begin: str, task_id: TaskId, task: TaskState, action: str, reason: str) -> tuple[str, str]:
    """Return why a task is left as it is, and what to do instead."""
    why, _, fix = reason.partition("; ")
    status = (
        f"{task.status}, attempt {task.attempt}" if task.status is TaskStatus.RUNNING else str(task.status)
    )
    told = f"{begin}task {task_id!r} ({status}) can't be {_WORDS[action]}"
    if task.is_settled:
        told += ": what has ended is frozen"
    elif not why.startswith(f"it is {task.status}") or " and " in why:
        told += f": {why}"
    if task.status in {TaskStatus.FAILED, TaskStatus.CANCELLED}:
        fix = "retry it first, or add another task in its place"
    elif task.is_settled:
        fix = "add another task, or change what comes after it"
    return (
        f"{told}.",
        f"{fix[:1].upper()}{fix[1:]}." if fix else "Change another task, or what comes after it.",
    )


def _is_weaker(after: TaskEdge | None, before: TaskEdge) -> bool:
    """Whether less is asked of an edge than before."""
    if after is None:
        return True
    return (after.is_optional and not before.is_optional) or after.condition != before.condition


def _behind(dag: TaskDAG, task_id: TaskId) -> set[TaskId]:
    """Return what does not run unless a task completes, however far behind it."""
    downstream: dict[TaskId, list[TaskId]] = {}
    for edge in dag.flattened_edges():
        if edge.is_optional or (
            edge.condition is not None and compile_condition(edge.condition).names_status
        ):
            continue  # it may deliver, or not matter, when its upstream was skipped
        downstream.setdefault(edge.source_task_id, []).append(edge.target_task_id)
    found: set[TaskId] = set()
    waiting = [task_id]
    while waiting:
        for target in downstream.get(waiting.pop(), ()):
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found


def _as_routed(acceptance: Acceptance | None, before: Acceptance) -> Acceptance | None:
    """Return a check restated as it was first written with the system that was found for it since."""
    if acceptance is None or acceptance.system_preference is not None or acceptance.tool != before.tool:
        return acceptance
    return replace(acceptance, system_preference=before.system_preference)
