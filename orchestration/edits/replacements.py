"""What `replace` does: other tasks in the place of one, whether it has not begun or failed and asks how to go on.

May import: orchestration.{acceptances, dag, errors, hierarchy, models, problems, validation},
orchestration.edits.{drafts, fields, graph, operations}, orchestration.engine.references,
orchestration.planning.draft_values, stdlib.

The new tasks' roots get what led to the old one; what came after it comes after the one that delivers, and every
reference follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from orchestration.acceptances import both
from orchestration.dag import TaskDAG
from orchestration.edits.drafts import Drafted
from orchestration.edits.fields import FieldEditing
from orchestration.edits.graph import Alternative
from orchestration.edits.operations import Operation
from orchestration.engine.references import renamed_references
from orchestration.errors import InvalidDagError
from orchestration.hierarchy import Hierarchy
from orchestration.models import TaskEdge, TaskId, TaskNode, TaskStatus
from orchestration.planning.draft_values import slug
from orchestration.problems import shown
from orchestration.validation import normalized


class Replacing(FieldEditing):
    """Puts tasks in the place of others."""

    def _brought(self, operation: Operation) -> Drafted:
        """Return the tasks an operation brings; that there are none is refused."""
        drafted = self._drafts.by_operation.get(operation.index, Drafted())
        if not drafted.nodes and not self._drafts.problems:
            self._refuse(operation, "brings no task.", "Send the tasks that take its place.", "tasks")
        return drafted

    def _replace(self, operation: Operation) -> None:
        task_id = self._find(operation)
        drafted = self._brought(operation)
        delivers = self._delivering(operation, drafted) if drafted.nodes else None
        if task_id is None or delivers is None:
            return
        if self._statuses is not None and self._statuses.get(task_id) is TaskStatus.REPLANNING:
            self._answer(operation, task_id, drafted, delivers)
            return
        old = self.nodes[task_id]
        incoming, outgoing = self._incoming(task_id), self._outgoing(task_id)
        self._take_out(operation, task_id)
        for node in drafted.nodes:
            is_parent = any(other.parent == node.task_id for other in drafted.nodes)
            stands = _standing_for(node, old, is_parent=is_parent, delivers=node.task_id == delivers)
            self._add_one(operation, stands, instead_of=task_id)
        names = {node.task_id for node in drafted.nodes}
        for edge in drafted.edges:
            if edge.source_task_id == task_id and task_id not in names:
                told = f"lets {edge.target_task_id!r} depend on {task_id!r}, whose place it takes."
                self._refuse(operation, told, f"Name what {task_id!r} depends on, or nothing.", "tasks")
            else:
                self._join(operation, edge)
        for root in _roots(drafted):
            for edge in incoming:
                if (edge.source_task_id, root) not in self.edges:
                    self._join(operation, replace(edge, target_task_id=root))
        for edge in outgoing:
            self._join(operation, replace(edge, source_task_id=delivers))
        if delivers != task_id:
            self._follow(operation, {task_id: delivers})

    def _add_one(self, operation: Operation, node: TaskNode, instead_of: TaskId = "") -> None:
        task_id = node.task_id
        if task_id in self.nodes:
            self._refuse(
                operation,
                f"brings task {task_id!r}, but there is one of that id already.",
                "Change that one with `set`, or give the new one another id.",
                "task",
            )
            return
        if "~" in task_id or "[" in task_id:
            told = f"brings task {task_id!r}; only a run makes ids with `~` and `[n]`."
            self._refuse(operation, told, "Use letters, digits, `_` and `-`.", "task")
            return
        away = self._away.get(task_id)
        if away is not None and not away.may_return and task_id != instead_of:
            told = f"brings task {task_id!r}, but one of that id {away.told}; ids are not used twice."
            self._refuse(operation, told, "Give the new one another id.", "task")
            return
        self.nodes[task_id] = node
        self.trace.tasks[task_id] = operation
        self.trace.gone.pop(task_id, None)
        if self._spellings is not None:
            self._spellings.setdefault(task_id.lower(), []).append(task_id)

    def _take_out(self, operation: Operation, task_id: TaskId) -> None:
        """Take a task and its parts out of the graph, with their edges."""
        has_parts = any(node.parent is not None for node in self.nodes.values())
        children = Hierarchy(self.nodes).children if has_parts else {}
        waiting = [task_id]
        while waiting:
            found = waiting.pop()
            if found in self.nodes:
                waiting += children.get(found, ())
                for pair in list(self._by_end.get(found, ())):
                    self._lose(pair)
                del self.nodes[found]
                self.skipped.pop(found, None)
                self.trace.gone[found] = operation

    def _follow(self, operation: Operation, renamed: Mapping[TaskId, TaskId]) -> None:
        """Let every reference to a replaced task name what delivers in its place."""
        for task_id, node in self.nodes.items():
            followed = renamed_references(node, renamed)
            if followed != node:
                self.nodes[task_id] = followed
                self.trace.tasks.setdefault(task_id, operation)

    def _answer(self, operation: Operation, task_id: TaskId, drafted: Drafted, delivers: TaskId) -> None:
        """Take a plan for a task that failed and asks how to go on."""
        sources = dict.fromkeys(edge.source_task_id for edge in self._incoming(task_id))
        dag = TaskDAG(task_id.partition("~")[0])
        own = {node.task_id for node in drafted.nodes}
        for source in sources:
            if source not in own:
                dag.add_task(TaskNode(source))
        try:
            for node in drafted.nodes:
                dag.add_task(node)
            dag.edges = [edge for edge in drafted.edges if {edge.source_task_id, edge.target_task_id} <= own]
            roots = _roots(drafted)
            dag.edges += [TaskEdge(source, root) for source in sources for root in roots if source not in own]
            for edge in drafted.edges:
                if edge.source_task_id not in own and edge.source_task_id not in sources:
                    told = f"depends on {edge.source_task_id!r}, which {task_id!r} does not depend on."
                    fix = f"Use what {task_id!r} depends on: {', '.join(sources) or 'nothing'}."
                    self._refuse(operation, told, fix, "tasks")
            count = len(dag.edges)
            whole = normalized(dag, self._limits, is_live=True)
        except InvalidDagError as exc:
            self.problems += [
                replace(problem, path=f"{operation.path}.{problem.path}") for problem in exc.problems
            ]
            return
        for edge in whole.edges[count:]:
            if edge.source_task_id not in own:
                told = f"{edge.target_task_id!r} names {edge.source_task_id!r}, whose output only the first tasks get."
                self._refuse(operation, told, "Let the first task hand the value on.", "tasks")
        whole.nodes = {name: node for name, node in whole.nodes.items() if name in own}
        whole.edges = [edge for edge in whole.edges if edge.source_task_id in own]
        self.alternative = Alternative(task_id, whole, delivers, operation)
        self.trace.tasks[task_id] = operation

    def _delivering(self, operation: Operation, drafted: Drafted) -> TaskId | None:
        """Return the new task whose output stands for the replaced one's; None when that is refused."""
        own = [node.task_id for node in drafted.nodes if node.parent is None]
        sent = operation.fields.get("delivers")
        if sent is not None:
            named = str(sent).strip()
            found = [name for name in own if name == named] or [
                node.task_id
                for node in drafted.nodes
                if node.parent is None and slug(named) in {slug(node.task_id), slug(node.description)}
            ]
            if len(found) == 1:
                return found[0]
            told = f"is {shown(sent)}, which is none of the new tasks."
            self._refuse(operation, told, f"Write one of {', '.join(own)}.", "delivers")
            return None
        sources = {edge.source_task_id for edge in drafted.edges}
        leaves = [name for name in own if name not in sources]
        if len(leaves) == 1:
            return leaves[0]
        told = f"is missing, and the new tasks end in {len(leaves)} ({', '.join(leaves[:5])})."
        fix = "Name the one whose output stands for that of the replaced task."
        self._refuse(operation, told, fix, "delivers")
        return None


def _roots(drafted: Drafted) -> Iterator[TaskId]:
    """Yield the tasks of a replacement that wait for none of its others."""
    own = {node.task_id for node in drafted.nodes}
    fed = {edge.target_task_id for edge in drafted.edges if edge.source_task_id in own}
    yield from (node.task_id for node in drafted.nodes if node.parent is None and node.task_id not in fed)


def _standing_for(node: TaskNode, old: TaskNode, *, is_parent: bool, delivers: bool) -> TaskNode:
    """Return a task that takes part in standing for another one.

    As for an alternative that is spliced in: what stands for a task that must not be repeated must not be either, and
    whoever had to agree to that task has to agree to this one. A parent does nothing itself: its parts are guarded.
    """
    if is_parent:
        return replace(node, parent=old.parent if node.parent is None else node.parent)
    idempotent = node.idempotent and old.idempotent
    approval = "person" if "person" in {node.approval, old.approval} else node.approval or old.approval
    return replace(
        node,
        idempotent=idempotent,
        verify=None if idempotent else node.verify,
        approval=approval,
        cache=node.cache if idempotent and approval is None else None,
        parent=old.parent if node.parent is None else node.parent,
        acceptance=both(old.acceptance, node.acceptance) if delivers else node.acceptance,
    )
