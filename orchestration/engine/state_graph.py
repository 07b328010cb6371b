"""How the graph of a state changes: laid out, extended, edited, expanded, an alternative spliced in, tasks reopened.

May import: orchestration.models, orchestration.engine.{events, references, state_base, task_state}, stdlib. Decides
nothing: the events say what changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from orchestration.engine.events import (
    EdgeDecided,
    OrchestrationSubmitted,
    PlanEdited,
    PlanExtended,
    PlanRevised,
    RetryRequested,
    TaskExpanded,
)
from orchestration.engine.references import renamed_references
from orchestration.engine.state_base import LONGEST_WAIT_SECONDS, OVER, WAITING, StateBase
from orchestration.engine.task_state import EdgeState, TaskState, fingerprint
from orchestration.models import OrchestrationStatus, TaskEdge, TaskId, TaskNode, TaskStatus

_STILL_OPEN = "It was cancelled; whether the effect of its latest attempt happened is not known."


class GraphState(StateBase):
    """Changes the graph."""

    def _begin(self, event: OrchestrationSubmitted, now: int) -> None:
        """Lay out the tasks; those without upstreams are ready."""
        self.mode = event.mode
        self.context = event.context
        self.defaults = event.defaults
        self.can_replan = event.can_replan
        self.asks_caller = event.asks_caller
        self.allows_agent = event.allows_agent
        self.submitted_at_us = now
        self.timeout_seconds = event.timeout_seconds
        self._set_deadline(now)
        if event.is_planning:
            self.status = OrchestrationStatus.PLANNING
            self.is_whole = False
        parents = {node.parent for node in self.dag.nodes.values() if node.parent is not None}
        for position, node in enumerate(self.dag.nodes.values()):
            task = TaskState(node, position, event.routes.get(node.task_id, ""))
            task.is_composite = node.foreach is not None or node.task_id in parents
            self.tasks[node.task_id] = task
        for edge in self.dag.edges:
            self._add_edge(edge)
        self.unsettled = len(self.tasks)
        composites = 0
        self._note_routes(event.others, event.fallback_routes, event.reasons)
        for task_id, task in self.tasks.items():
            composites += task.is_composite
            if task.node.parent is not None:
                parent = self.tasks[task.node.parent]
                parent.children.append(task_id)
                parent.open_children += 1
        self.counts = {TaskStatus.PENDING: len(self.tasks) - composites}
        self.composites = {TaskStatus.PENDING: composites} if composites else {}
        for task in self.tasks.values():
            if task.undecided == 0 and task.node.parent is None:
                self._make_ready(task)

    def _set_deadline(self, now: int) -> None:
        if self.timeout_seconds is not None:
            self.deadline_us = now + round(min(self.timeout_seconds, LONGEST_WAIT_SECONDS) * 1_000_000)

    # Tasks come and go

    def _lay_all(self, nodes: Iterable[TaskNode], routes: Mapping[TaskId, str]) -> list[TaskState]:
        """Put new tasks in, parents and parts in any order."""
        laid = [self._lay(node, routes) for node in nodes]
        for task in laid:
            if task.node.parent is not None:
                parent = self.tasks[task.node.parent]
                parent.children.append(task.node.task_id)
                self._open_part(parent)
                self._make_composite(parent)
        return laid

    def _lay(self, node: TaskNode, routes: Mapping[TaskId, str]) -> TaskState:
        """Put a new task in, or one back that a revision had removed; it has no edges yet."""
        task_id = node.task_id
        before = self.tasks.get(task_id)
        if before is not None:
            self._count(before, -1)
            self.removed.discard(task_id)
        position = len(self.tasks) if before is None else before.position
        task = TaskState(node, position, routes.get(task_id, ""))
        task.is_composite = node.foreach is not None
        if before is not None:
            task.generation = before.generation + 1
        self.tasks[task_id] = task
        self.touched[task_id] = None
        self.unsettled += 1
        self._count(task, 1)
        return task

    def _open_part(self, parent: TaskState) -> None:
        """Count a part more that has not settled."""
        if parent.status is TaskStatus.EXPANDED and parent.open_children == 0:
            parent.generation += 1  # what is being gathered lacks this one
        parent.open_children += 1

    def _make_composite(self, task: TaskState) -> None:
        if not task.is_composite:
            self._count(task, -1)
            task.is_composite = True
            self._count(task, 1)

    def _note_routes(
        self,
        others: Mapping[TaskId, tuple[str, ...]],
        fallbacks: Mapping[TaskId, tuple[str, ...]],
        reasons: Mapping[TaskId, str],
    ) -> None:
        for task_id, reason in reasons.items():
            self.tasks[task_id].chosen_because = reason
        for task_id, systems in others.items():
            self.tasks[task_id].others = tuple(systems)
        for task_id, systems in fallbacks.items():
            self.tasks[task_id].fallback_systems = tuple(systems)

    def _link(self, edges: Iterable[TaskEdge], decided: Iterable[EdgeDecided]) -> None:
        """Add edges; those whose upstream has settled are decided as the event says."""
        told = {(each.source_task_id, each.verdict.target_task_id): each.verdict for each in decided}
        for edge in edges:
            state = self._add_edge(edge)
            verdict = told.get((edge.source_task_id, edge.target_task_id))
            if verdict is not None:
                self._decide_edge(state, verdict.delivers)
                if verdict.warning:
                    self.warnings.append(verdict.warning)
                if verdict.error is not None:
                    self.newly_dead.append((state.target, state.source, verdict.error))

    def _unlink(self, edge: EdgeState) -> None:
        """Take an edge away."""
        target = self.tasks[edge.target]
        self.tasks[edge.source].outgoing.remove(edge)
        target.incoming.remove(edge)
        if edge.delivers is None:
            target.undecided -= 1
        elif not edge.delivers and not edge.edge.is_optional:
            target.dead -= 1

    def _look_again(self, task: TaskState) -> None:
        """Put a task whose edges changed where it belongs now.

        What was asked about a ready one, or agreed to, was about other inputs: that is to be asked anew.
        """
        if task.status in {TaskStatus.READY, TaskStatus.AWAITING_APPROVAL, TaskStatus.OFFERED}:
            self._forget_approval(task)
            self._forget_claim(task)
            self.held.discard(task.node.task_id)
            task.generation += 1
            if task.undecided or task.dead:
                self._move(task, TaskStatus.PENDING)
            elif task.status is TaskStatus.READY:
                self.newly_ready.append(task.node.task_id)
            else:
                self._make_ready(task)
        if task.status not in WAITING:
            return
        if task.dead:
            dead = next(
                edge for edge in task.incoming if edge.delivers is False and not edge.edge.is_optional
            )
            self.newly_dead.append((task.node.task_id, dead.source, None))
        else:
            self._begin_if_possible(task)

    def _forget_approval(self, task: TaskState) -> None:
        task.asked_digest = task.approved_digest = None

    def _forget_claim(self, task: TaskState) -> None:
        """Let no late report count: what is to be done now is something else."""
        task.claim = task.worker = None

    # Revisions

    def _splice(self, event: PlanRevised) -> None:
        """Put an alternative sub-DAG in the place of a task."""
        old = self.tasks[event.task_id]
        self._release_paused(old)
        self._move(old, TaskStatus.SUPERSEDED)
        old.is_asked = False
        old.note = f"replaced by {event.delivers}"
        self.unsettled -= 1
        decided = {edge.source: edge.delivers for edge in old.incoming}
        tried = old.all_tried | {fingerprint(event.tasks)}
        new_ids = {node.task_id for node in event.tasks}
        for task in self._lay_all(event.tasks, event.routes):
            task.replans = old.replans + 1
            task.tried = tried
            task.index = old.index
        if old.node.parent is not None:
            parent = self.tasks[old.node.parent]
            parent.open_children -= 1
            parent.children.remove(event.task_id)
        self._note_routes(event.others, event.fallback_routes, event.reasons)
        for edge in event.edges:
            state = self._add_edge(edge)
            if (
                edge.source_task_id not in new_ids
            ):  # inherited: its upstream settled before the failed task ran
                self._decide_edge(state, decided.get(edge.source_task_id) or False)
        successor = self.tasks[event.delivers]
        for edge_state in old.outgoing:
            edge_state.source = event.delivers
            successor.outgoing.append(edge_state)
        old.outgoing = []
        self.replacement[event.task_id] = event.delivers
        self.revision = event.revision
        for node in event.tasks:
            self._begin_if_possible(self.tasks[node.task_id])

    def _edit(self, event: PlanEdited) -> None:
        """Change the graph as somebody wants it."""
        self.revision = event.revision
        again: dict[TaskId, None] = {}
        for source, target in event.unlinked:
            for edge in [edge for edge in self.tasks[target].incoming if edge.source == source]:
                self._unlink(edge)
                again[target] = None
        for task_id in event.removed:
            task = self.tasks[task_id]
            again |= dict.fromkeys(edge.target for edge in task.outgoing)
            self._remove(task, f"removed by revision {event.revision}")
        for node in event.changed:
            self._change(self.tasks[node.task_id], node, event.routes)
        self._lay_all(event.added, event.routes)
        again |= dict.fromkeys(node.task_id for node in event.added)
        self._note_routes(event.others, event.fallback_routes, event.reasons)
        self._link(event.linked, event.decided)
        again |= dict.fromkeys(edge.target_task_id for edge in event.linked)
        for task_id in again:
            if task_id not in event.skipped:
                self._feed_late(self.tasks[task_id])
                self._look_again(self.tasks[task_id])

    def _remove(self, task: TaskState, note: str) -> None:
        """Take a task that has not begun out of the graph."""
        for edge in [*task.incoming, *task.outgoing]:
            self._unlink(edge)
        self._forget_approval(task)
        self.held.discard(task.node.task_id)
        self._move(task, TaskStatus.SUPERSEDED)
        self.removed.add(task.node.task_id)
        self.unsettled -= 1
        task.note = note
        if task.node.parent is not None:
            self.tasks[task.node.parent].children.remove(task.node.task_id)
            self._child_settled(task.node.parent)

    def _change(self, task: TaskState, node: TaskNode, routes: Mapping[TaskId, str]) -> None:
        """Give a task that has not begun, or waits, what it is from now on; whatever was agreed to is void."""
        is_composite = node.foreach is not None or bool(task.children)
        if is_composite != task.is_composite:
            self._count(task, -1)
            task.is_composite = is_composite
            self._count(task, 1)
        self.touched[node.task_id] = None
        if self._changes_only_rank(task, node):
            task.node = replace(task.node, priority=node.priority)
            if task.primary is not None:
                task.primary = replace(task.primary, priority=node.priority)
            return
        task.node = node
        task.primary = task.home = None
        task.fallbacks = task.failures = 0
        task.generation += 1  # what was done under the key so far was something else
        task.system = routes.get(node.task_id, task.system)
        task.others = task.fallback_systems = ()
        task.chosen_because = ""
        self._forget_approval(task)
        self._forget_claim(task)
        self.held.discard(node.task_id)
        if task.status is TaskStatus.REPLANNING:
            self._release_paused(task)
            task.is_asked = False
            task.replans += 1
        if task.status not in WAITING:
            if task.status is not TaskStatus.READY:
                task.note = None
            self._start_as_another(task)

    def _changes_only_rank(self, task: TaskState, node: TaskNode) -> bool:
        """Whether a task stays what it was planned as but for its priority, however its references are written."""
        renamed = {task_id: self.current(task_id) for task_id in self.replacement}
        before = renamed_references(task.primary or task.node, renamed)
        return renamed_references(replace(node, priority=before.priority), renamed) == before

    def _extend(self, event: PlanExtended) -> None:
        """Take in more of a plan that is still being made."""
        self._lay_all(event.tasks, event.routes)
        self._note_routes(event.others, event.fallback_routes, event.reasons)
        self._link(event.edges, event.decided)
        for node in event.tasks:
            self._feed_late(self.tasks[node.task_id])
            self._look_again(self.tasks[node.task_id])

    # Composites

    def _expand(self, event: TaskExpanded) -> None:
        """Let a task's children begin, making those of a `foreach`; its own data is theirs."""
        parent = self.tasks[event.task_id]
        if event.count is not None:
            self._make_items(parent, event.count)
        self._move(parent, TaskStatus.EXPANDED)
        parent.is_expanded = True
        parent.items = event.count
        self.held.discard(event.task_id)
        for task_id in parent.children:
            child = self.tasks[task_id]
            self._feed(parent, child)
            self._begin_if_possible(child)
        if parent.open_children == 0:
            self.newly_closed.append(event.task_id)

    def _make_items(self, parent: TaskState, count: int) -> None:
        """Make the children of a `foreach`; of one that begins anew, those that are not there yet."""
        task_id = parent.node.task_id
        names = {f"{task_id}[{index}]": index for index in range(count)}
        nodes = [
            replace(parent.node, task_id=name, foreach=None, parent=task_id)
            for name in names
            if name not in self.tasks
        ]
        for child in self._lay_all(nodes, {}):
            child.index = names[child.node.task_id]
            child.system = parent.system
            child.others = parent.others
            child.chosen_because = parent.chosen_because
            child.fallback_systems = parent.fallback_systems
        for name in parent.children:
            child = self.tasks[name]
            if child.index is not None and child.index >= count and child.status not in OVER:
                self.newly_dead.append((name, task_id, None))

    def _feed(self, parent: TaskState, child: TaskState) -> None:
        """Feed a child that waits for no other one what its parent is fed."""
        if any(self.tasks[edge.source].node.parent == child.node.parent for edge in child.incoming):
            return
        there = {edge.edge.source_task_id for edge in child.incoming}
        for edge in parent.incoming:
            if edge.edge.source_task_id in there:
                continue
            copy = EdgeState(
                replace(edge.edge, target_task_id=child.node.task_id), edge.source, child.node.task_id
            )
            copy.delivers = edge.delivers
            child.undecided += copy.delivers is None  # the parent is to begin anew, and its upstream as well
            child.dead += copy.delivers is False and not copy.edge.is_optional
            child.incoming.append(copy)
            self.tasks[edge.source].outgoing.append(copy)

    def _feed_late(self, child: TaskState) -> None:
        """Feed a part that came, or was cut loose, when its parent had begun."""
        parent = child.node.parent
        if (
            parent is not None
            and self.tasks[parent].is_expanded
            and child.status is not TaskStatus.SUPERSEDED
        ):
            self._feed(self.tasks[parent], child)

    # Retry

    def _reopen(self, event: RetryRequested, now: int) -> None:
        """Make tasks pending again, in a new generation, and undecide the edges among them and to what still waits.

        An edge from one of them to a task that ran is not touched: what was decided once, and acted upon, stands, until
        that task is retried itself.
        """
        again = set(event.task_ids)
        anew = [task_id for task_id in event.task_ids if not self.tasks[task_id].is_open]
        undone = [
            edge
            for task_id in event.task_ids
            for edge in self.tasks[task_id].outgoing
            if edge.delivers is not None
            and (
                (edge.target in again and not self.tasks[edge.target].is_open)
                or self.tasks[edge.target].never_ran
                or self.tasks[edge.target].status in WAITING
            )
        ]
        undone += [
            edge
            for task_id in anew
            for edge in self.tasks[task_id].incoming
            if edge.delivers is not None
            and edge.source not in again
            and self.tasks[edge.source].status not in OVER  # retried before, while this one ran
        ]
        for task_id in event.task_ids:
            self._begin_anew(self.tasks[task_id])
        for edge in undone:
            target = self.tasks[edge.target]
            target.dead -= not edge.delivers and not edge.edge.is_optional
            target.undecided += 1
            edge.delivers = None
        self._open_again(anew)
        if self.status.is_terminal:
            self.finished_at_us = None
            self.reason = ""
            self.ended_by = None
            self._set_deadline(now)
            self._move_self(OrchestrationStatus.RUNNING if self.is_whole else OrchestrationStatus.PLANNING)

    def _begin_anew(self, task: TaskState) -> None:
        """Make a settled task pending, as it was before its first attempt, but for what is still to be decided."""
        self.unsettled += 1
        task.finished_at_us = None
        if task.node.parent is not None:
            self._open_part(self.tasks[task.node.parent])
        if task.is_open:  # cancelled while it ran, or waited for a decision: that is still to be decided
            task.note = _STILL_OPEN
            self._move(task, TaskStatus.UNKNOWN)
            return
        self._move(task, TaskStatus.PENDING)
        if task.attempt:
            task.generation += 1
        if task.primary is not None:
            task.node, task.primary = task.primary, None
            task.fallbacks = 0
        if task.home is not None:
            (task.system, task.others), task.home = task.home, None
        self._forget_approval(task)
        self._forget_claim(task)
        task.failed_by = ()
        task.is_asked = False
        task.failures = 0
        task.is_unclear = False
        task.note = None
        task.paused_by.clear()

    def _open_again(self, task_ids: list[TaskId]) -> None:
        """Let reopened tasks begin where nothing keeps them; parents before their parts."""
        tasks = [self.tasks[task_id] for task_id in task_ids]
        for task in sorted(tasks, key=self._depth):
            if task.status not in WAITING:
                continue
            if task.is_composite and task.is_expanded and self._may_begin(task):
                self._move(task, TaskStatus.EXPANDED)
                if task.open_children == 0:
                    self.newly_closed.append(task.node.task_id)
            else:
                self._look_again(task)

    def _depth(self, task: TaskState) -> int:
        depth = 0
        while task.node.parent is not None:
            task = self.tasks[task.node.parent]
            depth += 1
        return depth
