"""What an orchestration's state is made of, and the moves every change is made with: statuses, edges, readiness.

May import: orchestration.{dag, errors, models}, orchestration.engine.{events, inputs, task_state, transitions}, stdlib.

Theory of operation: each task counts its undecided incoming edges and its dead required ones, so that settling a task
costs O(out-degree). A composite (a parent, a `foreach`) counts its unsettled children. What a change makes possible is
collected in `newly_ready`, `newly_dead` and `newly_closed`; the engine drains them after each event, replay throws them
away.
"""

from __future__ import annotations

from collections import deque

from orchestration.dag import TaskDAG
from orchestration.engine.events import CancelReason, EdgeVerdict, Recorded
from orchestration.engine.inputs import TaskDefaults
from orchestration.engine.task_state import EdgeState, TaskState
from orchestration.engine.transitions import ORCHESTRATION_TRANSITIONS, TASK_TRANSITIONS
from orchestration.errors import InvalidTransitionError
from orchestration.models import (
    SETTLED,
    ErrorRecord,
    JsonObject,
    OrchestrationId,
    OrchestrationMode,
    OrchestrationStatus,
    TaskEdge,
    TaskId,
    TaskStatus,
)

LONGEST_WAIT_SECONDS = 365 * 24 * 3600.0
"""What any wait is cut to, whoever asked for it: an instant must stay a number that can be stored and slept to."""

WAITING = frozenset({TaskStatus.PENDING, TaskStatus.PAUSED})
"""Statuses of tasks whose edges are not all decided."""

OVER = SETTLED | {TaskStatus.SUPERSEDED}
"""Statuses in which nothing more happens to a task by itself."""

_STORY_LENGTH = 20
"""Events an error about an illegal move carries: enough to see how it came about."""


class StateBase:
    """One orchestration's fields and elementary moves.

    Args:
        orchestration_id: Its id.
        dag: The validated, normalised DAG it was submitted with.
    """

    def __init__(self, orchestration_id: OrchestrationId, dag: TaskDAG) -> None:
        self.orchestration_id = orchestration_id
        self.dag = dag
        self.mode = OrchestrationMode.HIERARCHICAL
        self.context: JsonObject = {}
        self.defaults = TaskDefaults()
        self.can_replan = False
        self.asks_caller = False
        self.allows_agent = False
        self.status = OrchestrationStatus.RUNNING
        self.tasks: dict[TaskId, TaskState] = {}
        self.counts: dict[TaskStatus, int] = {}
        """Tasks per status, composites left out."""
        self.composites: dict[TaskStatus, int] = {}
        """Composites per status."""
        self.running: dict[TaskId, None] = {}
        """Running tasks, longest first."""
        self.unsettled = 0
        self.is_whole = True
        """Whether its plan has been made to the end."""
        self.revision = 1
        self.replacement: dict[TaskId, TaskId] = {}
        """Superseded task → the task that stands for it."""
        self.removed: set[TaskId] = set()
        """Tasks a revision removed; only ever asked about one."""
        self.last_seq = 0
        self.last_at_us = 0
        self.submitted_at_us = 0
        self.first_started_at_us: int | None = None
        self.last_settled_at_us: int | None = None
        self.finished_at_us: int | None = None
        self.attempts = 0
        self.work_us = 0
        self.cost = 0.0
        self.reason = ""
        """Why it is paused or cancelled."""
        self.timeout_seconds: float | None = None
        self.deadline_us: int | None = None
        """When its time is over; None for never."""
        self.ended_by: CancelReason | None = None
        """Why it was cancelled; None while it was not."""
        self.warnings: list[str] = []
        self.newly_ready: list[TaskId] = []
        self.newly_dead: deque[tuple[TaskId, TaskId, ErrorRecord | None]] = deque()
        """Target, upstream (or parent) and, where the edge could not be decided, why."""
        self.newly_closed: deque[TaskId] = deque()
        """Composites whose children have all settled."""
        self.touched: dict[TaskId, None] = {}
        """Tasks that changed since the journal last took note, in the order of their first change."""
        self.held: set[TaskId] = set()
        """Ready tasks that wait for something else than a slot: an answer, or the rest of the plan. Only ever asked
        about one."""
        self._story: deque[Recorded] = deque(maxlen=_STORY_LENGTH)

    @property
    def total_tasks(self) -> int:
        """Return how many executable tasks there are; superseded ones and composites don't count."""
        everything = len(self.tasks) - sum(self.composites.values())
        return everything - self.counts.get(TaskStatus.SUPERSEDED, 0)

    def current(self, task_id: TaskId) -> TaskId:
        """Return the task that now stands for `task_id`."""
        while task_id in self.replacement:
            task_id = self.replacement[task_id]
        return task_id

    def is_tolerated(self, task: TaskState) -> bool:
        """Whether a failed task is one its dependents can live with: it has some, and none was skipped over it.

        A part that the other parts can't live with makes the parent fail: what depends on that one counts.
        """
        if self.is_borne(task) or task.node.parent is None:
            return self.is_borne(task)
        parent = self.tasks[task.node.parent]
        return parent.status is TaskStatus.FAILED and self.is_tolerated(parent)

    def is_borne(self, task: TaskState) -> bool:
        """Whether something depends on a failed task, and nothing was skipped over it."""
        return bool(task.outgoing) and not any(
            edge.delivers is False
            and not edge.edge.is_optional
            and self.tasks[edge.target].status is TaskStatus.SKIPPED
            for edge in task.outgoing
        )

    # Edges and readiness

    def _add_edge(self, edge: TaskEdge) -> EdgeState:
        """Join two tasks by an undecided edge, from what stands for its upstream now."""
        state = EdgeState(edge, self.current(edge.source_task_id), edge.target_task_id)
        self.tasks[state.source].outgoing.append(state)
        target = self.tasks[edge.target_task_id]
        target.incoming.append(state)
        target.undecided += 1
        return state

    def _decide_edge(self, edge: EdgeState, delivers: bool) -> None:
        """Decide an edge whose upstream settled before it was there."""
        target = self.tasks[edge.target]
        edge.delivers = delivers
        target.undecided -= 1
        target.dead += not delivers and not edge.edge.is_optional

    def _make_ready(self, task: TaskState) -> None:
        task.due_at_us = None
        self._move(task, TaskStatus.READY)
        self.newly_ready.append(task.node.task_id)

    def _start_as_another(self, task: TaskState) -> None:
        """Let a task that has become something else start; where it was ready already, it is looked at anew."""
        if task.status is TaskStatus.READY:
            self.held.discard(task.node.task_id)
            self.newly_ready.append(task.node.task_id)
        else:
            self._make_ready(task)

    def _may_begin(self, task: TaskState) -> bool:
        """Whether every edge is decided, none that is required is dead, and the parent has begun."""
        return not task.undecided and not task.dead and not self._waits_for_parent(task)

    def _waits_for_parent(self, task: TaskState) -> bool:
        parent = task.node.parent
        return parent is not None and self.tasks[parent].status is not TaskStatus.EXPANDED

    def _begin_if_possible(self, task: TaskState) -> None:
        """Make a waiting task ready when nothing keeps it."""
        if task.status in WAITING and self._may_begin(task):
            if task.status is TaskStatus.PAUSED:  # what stood between it and the replanned task failed
                task.paused_by.clear()
                self._move(task, TaskStatus.PENDING)
            self._make_ready(task)

    # Attempts and outcomes

    def _end_attempt(self, task: TaskState, now: int) -> None:
        """Book the time of an attempt that ended, whatever its outcome."""
        self.running.pop(task.node.task_id, None)
        spent = max(0, now - (task.started_at_us or now))
        task.duration_us += spent
        self.work_us += spent
        task.stopping = None
        task.reported = None

    def _settle(
        self, task: TaskState, status: TaskStatus, now: int, verdicts: tuple[EdgeVerdict, ...] = ()
    ) -> None:
        """Give a task its outcome and decide its outgoing edges."""
        self._move(task, status)
        task.finished_at_us = now
        self.last_settled_at_us = now
        self.unsettled -= 1
        if task.is_composite and task.open_children:  # it never began: no part of it will
            self.newly_dead.extend((child, task.node.task_id, None) for child in task.children)
        if task.node.parent is not None:
            self._child_settled(task.node.parent)
        if not task.outgoing:
            return
        completed = status is TaskStatus.COMPLETED
        told = {verdict.target_task_id: verdict for verdict in verdicts} if verdicts else None
        for edge in task.outgoing:
            if edge.delivers is not None:
                continue  # decided before a retry, and its target stayed as it was
            verdict = told.get(edge.target) if told else None
            edge.delivers = completed if verdict is None else verdict.delivers
            if verdict is not None and verdict.warning:
                self.warnings.append(verdict.warning)
            target = self.tasks[edge.target]
            target.undecided -= 1
            if not edge.delivers and not edge.edge.is_optional:
                target.dead += 1
                if target.status not in OVER:
                    error = verdict.error if verdict is not None else None
                    self.newly_dead.append((edge.target, task.node.task_id, error))
            elif target.undecided == 0:
                self._begin_if_possible(target)

    def _child_settled(self, parent_id: TaskId) -> None:
        """Note that a part of a composite has its outcome."""
        parent = self.tasks[parent_id]
        parent.open_children -= 1
        if parent.open_children == 0 and parent.status is TaskStatus.EXPANDED:
            self.newly_closed.append(parent_id)

    def _release_paused(self, task: TaskState) -> None:
        """Let go of the tasks that waited for a replanning of `task` to end."""
        if task.status is not TaskStatus.REPLANNING:
            return
        for other in self.tasks.values():
            if task.node.task_id in other.paused_by:
                other.paused_by.discard(task.node.task_id)
                if not other.paused_by and other.status is TaskStatus.PAUSED:
                    self._move(other, TaskStatus.PENDING)

    # Moves by the tables

    def _count(self, task: TaskState, change: int) -> None:
        """Count a task in or out of its status."""
        counts = self.composites if task.is_composite else self.counts
        counts[task.status] = counts.get(task.status, 0) + change

    def _move(self, task: TaskState, status: TaskStatus) -> None:
        """Change a task's status by the table."""
        before = task.status
        if status not in TASK_TRANSITIONS[before]:
            story = [
                entry
                for entry in self._story
                if getattr(entry.event, "task_id", None) in (None, task.node.task_id)
            ]
            raise InvalidTransitionError(f"Task {task.node.task_id!r}", before, status, story)
        task.status = status
        self.touched[task.node.task_id] = None
        counts = self.composites if task.is_composite else self.counts
        counts[before] -= 1
        counts[status] = counts.get(status, 0) + 1

    def _move_self(self, status: OrchestrationStatus) -> None:
        """Change the orchestration's status by the table."""
        if status not in ORCHESTRATION_TRANSITIONS[self.status]:
            raise InvalidTransitionError(
                f"Orchestration {self.orchestration_id!r}", self.status, status, tuple(self._story)
            )
        self.status = status
