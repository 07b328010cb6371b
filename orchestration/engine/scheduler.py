"""Chooses which ready task starts next, over all orchestrations of an engine, within the slots there are.

May import: orchestration.{dag, models, options}, orchestration.engine.{gates, prioritizer, ready_queue, state,
task_state}, stdlib.

Prior art: list scheduling with upward ranks (see `prioritizer.py`). Adaptive: expected durations are corrected by what
tasks of the same kind really took, and the queue is ranked anew as results come in.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from orchestration.dag import DEFAULT_DURATION_SECONDS
from orchestration.engine.gates import Gates
from orchestration.engine.prioritizer import DynamicTaskPrioritizer
from orchestration.engine.ready_queue import Admits, Key, RankedQueue, ReadyQueue, StrictQueue
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.models import OrchestrationId, OrchestrationMode, OrchestrationStatus, TaskId, TaskStatus

_RERANK_GROWTH = 2.0
"""Results between two rankings grow by this factor: learning is quickest early, and it costs O(log n) rankings."""

_GOES_ON = frozenset({OrchestrationStatus.RUNNING, OrchestrationStatus.PLANNING})

Kind = tuple[str, str | None]


def _anything(_system: str) -> bool:
    return True


@dataclass(slots=True)
class SlotPool:
    """How many attempts may run at once; engines of one orchestrator share one."""

    limit: int
    used: int = 0
    lent: int = 0
    """Slots that attempts lend to what they wait for: an orchestration of their own."""
    gates: Gates = field(default_factory=Gates)
    """How much each system takes."""

    @property
    def is_free(self) -> bool:
        """Whether an attempt may start."""
        return self.used < self.limit + self.lent


@dataclass(slots=True)
class _Observed:
    """What tasks of one kind took so far."""

    count: int = 0
    seconds: float = 0.0
    estimated_count: int = 0
    estimated_seconds: float = 0.0
    """Sum of the estimates of those that had one."""
    actual_of_estimated_seconds: float = 0.0


@dataclass(slots=True)
class DurationModel:
    """Expected durations: a task's estimate, scaled by how its kind kept to its estimates; else its kind's mean."""

    default_seconds: float = DEFAULT_DURATION_SECONDS
    is_informed: bool = False
    """Whether any estimate or measurement is known; if not, only ratios mean something."""
    observed: dict[Kind, _Observed] = field(default_factory=dict)

    @classmethod
    def of(cls, state: State) -> DurationModel:
        """Return a model that knows the estimates of a DAG."""
        known = [
            task.node.estimated_time_seconds
            for task in state.tasks.values()
            if task.node.estimated_time_seconds is not None
        ]
        return cls(sum(known) / len(known), True) if known else cls()

    def observe(self, task: TaskState) -> None:
        """Learn from a completed task."""
        seconds = task.duration_us / 1_000_000
        entry = self.observed.setdefault((task.system, task.node.tool), _Observed())
        entry.count += 1
        entry.seconds += seconds
        estimate = task.node.estimated_time_seconds
        if estimate is not None:
            entry.estimated_count += 1
            entry.estimated_seconds += estimate
            entry.actual_of_estimated_seconds += seconds
        self.is_informed = True

    @property
    def scale(self) -> float:
        """Return how durations so far compare to what was expected of them: 2 when everything took twice as long."""
        entries = self.observed.values()
        estimated = sum(entry.estimated_seconds for entry in entries)
        if estimated > 0:
            return sum(entry.actual_of_estimated_seconds for entry in entries) / estimated
        count = sum(entry.count for entry in entries)
        if not count or self.default_seconds <= 0:
            return 1.0
        return sum(entry.seconds for entry in entries) / count / self.default_seconds

    def expected(self, task: TaskState) -> float:
        """Return the expected duration of one attempt, in seconds."""
        entry = self.observed.get((task.system, task.node.tool))
        estimate = task.node.estimated_time_seconds
        if estimate is None:
            return self.default_seconds if entry is None else entry.seconds / entry.count
        if entry is None or entry.estimated_seconds <= 0:
            return estimate
        return estimate * entry.actual_of_estimated_seconds / entry.estimated_seconds


class _Entry:
    """One orchestration in the scheduler."""

    __slots__ = (
        "durations",
        "is_adaptive",
        "keys",
        "next_rerank",
        "queue",
        "ranked_at_scale",
        "results",
        "state",
    )

    def __init__(
        self, state: State, durations: DurationModel, keys: dict[TaskId, Key], *, is_adaptive: bool
    ) -> None:
        self.state = state
        self.durations = durations
        self.keys = keys
        self.is_adaptive = is_adaptive
        self.results = 0
        self.next_rerank = 1
        self.ranked_at_scale = 1.0
        self.queue: ReadyQueue = (
            StrictQueue(state) if state.mode is OrchestrationMode.SIMPLE else RankedQueue(state, keys)
        )


class AdaptiveTaskScheduler:
    """Orders what is ready and starts it within the concurrency limit.

    Args:
        slots: How many attempts may run at once.
        prioritizer: Ranks the tasks.
        is_adaptive: False: one ranking, made when an orchestration is taken over.
    """

    def __init__(
        self, slots: SlotPool, prioritizer: DynamicTaskPrioritizer | None = None, *, is_adaptive: bool = True
    ) -> None:
        self.slots = slots
        self.prioritizer = prioritizer or DynamicTaskPrioritizer()
        self._is_adaptive = is_adaptive
        self._entries: dict[OrchestrationId, _Entry] = {}
        self._systems: set[str] = set()
        """Every system that ever had a ready task; only ever counted."""
        self._now_us = 0
        """When it was last asked for a task."""

    def add(self, state: State) -> None:
        """Take an orchestration in, with whatever of it is ready."""
        durations = DurationModel.of(state)
        for task in state.tasks.values():
            if task.output is not None and task.attempt and not task.is_reused:
                durations.observe(task)
        is_adaptive = self._is_adaptive and state.mode is OrchestrationMode.ADAPTIVE
        entry = _Entry(state, durations, {}, is_adaptive=is_adaptive)
        self._entries[state.orchestration_id] = entry
        self._rank(entry)
        for task_id, task in state.tasks.items():
            if task.status is TaskStatus.READY and task_id not in state.held:
                self.ready(state, task_id)

    def remove(self, orchestration_id: OrchestrationId) -> None:
        """Forget an orchestration."""
        self._entries.pop(orchestration_id, None)

    def ready(self, state: State, task_id: TaskId) -> None:
        """Take in a task that has become ready."""
        self._systems.add(state.tasks[task_id].system)
        self._entries[state.orchestration_id].queue.push(task_id)

    def completed(self, state: State, task: TaskState) -> None:
        """Learn from a completed task, and rank anew when enough has been learned."""
        entry = self._entries[state.orchestration_id]
        entry.durations.observe(task)
        self.slots.gates.took(task.system, task.duration_us)
        entry.results += 1
        if entry.is_adaptive and entry.results >= entry.next_rerank:
            entry.next_rerank = int(entry.results * _RERANK_GROWTH) + 1
            self._rank(entry)

    def revised(self, state: State) -> None:
        """Rank anew after the graph has changed."""
        self._rank(self._entries[state.orchestration_id])

    def _rank(self, entry: _Entry) -> None:
        tasks, durations = entry.state.tasks, entry.durations
        entry.keys = self.prioritizer.keys(entry.state, lambda task_id: durations.expected(tasks[task_id]))
        entry.ranked_at_scale = durations.scale
        entry.queue.rerank(entry.keys)

    def started(self, task: TaskState, now_us: int) -> None:
        """Give a slot to a task that starts."""
        self.slots.used += 1
        self.slots.gates.started(task.system, now_us)

    def ended(self, task: TaskState) -> None:
        """Take back the slot of a task whose attempt ends."""
        self.slots.used -= 1
        self.slots.gates.ended(task.system)

    def next(self, now_us: int) -> tuple[State, TaskState] | None:
        """Return the task that should start now; None when no slot is free or nothing may start.

        Args:
            now_us: Wall time: systems may be closed for a while, or have a declared rate.
        """
        self._now_us = now_us
        if not self.slots.is_free:
            return None
        best = self._best(self._admits)
        if best is not None and self._may_hold_its_share(best[1].system):
            slots, busy = self.slots, self._busy()
            if slots.gates.gives_way(best[1].system, busy, slots.limit):
                best = self._best(lambda system: self._admits_next(system, busy)) or best
        return best

    def _may_hold_its_share(self, system: str) -> bool:
        """Whether it is worth looking, over all that is ready, whether a system holds its share of the slots."""
        slots = self.slots
        most = len(self._systems.union(slots.gates.loads))
        return most > 1 and slots.gates.running_on(system) >= -(-slots.limit // most)

    def _best(self, admits: Admits) -> tuple[State, TaskState] | None:
        best: tuple[Key, State, TaskId] | None = None
        for entry in self._entries.values():
            if entry.state.status not in _GOES_ON:
                continue
            head = entry.queue.head(admits)
            if head is not None and (best is None or head[0] < best[0]):
                best = (head[0], entry.state, head[1])
        return None if best is None else (best[1], best[1].tasks[best[2]])

    def _admits(self, system: str) -> bool:
        return self.slots.gates.admits(system, self._now_us)

    def _admits_next(self, system: str, busy: Collection[str]) -> bool:
        """Whether a system takes something, and need not give way itself."""
        slots = self.slots
        return self._admits(system) and not slots.gates.gives_way(system, busy, slots.limit)

    def _busy(self) -> set[str]:
        """Return the systems with work, ready or under way."""
        busy = {name for name, load in self.slots.gates.loads.items() if load.running}
        for entry in self._entries.values():
            if entry.state.status in _GOES_ON:
                busy.update(entry.queue.systems())
        return busy

    @property
    def is_hungry(self) -> bool:
        """Whether something could start if only a slot were free."""
        return self._best(self._admits) is not None

    def wakes_us(self, now_us: int) -> int | None:
        """Return when a system takes something again that has ready tasks and is closed for a time; None for never."""
        if self.slots.gates.are_open:
            return None
        found = (
            self.slots.gates.opens_at_us(system, now_us)
            for entry in self._entries.values()
            if entry.state.status in _GOES_ON
            for system in entry.queue.systems()
        )
        return min((opens_us for opens_us in found if opens_us is not None), default=None)

    def expected_seconds(self, state: State, task: TaskState) -> float | None:
        """Return a task's expected duration, or None when nothing is known to go by."""
        entry = self._entries.get(state.orchestration_id)
        if entry is None or not entry.durations.is_informed:
            return None
        return entry.durations.expected(task)

    def remaining_seconds(self, state: State, now_us: int) -> float | None:
        """Estimate how long the orchestration still needs; None when nothing is known to go by.

        The greater of the longest path from a running or the most urgent ready task, and the remaining work spread
        over all slots. Both go by the expected durations, scaled by how durations so far compared to them; the work is
        the number of unsettled tasks times their mean.
        """
        entry = self._entries.get(state.orchestration_id)
        if state.unsettled == 0:
            return 0.0
        if entry is None or not entry.durations.is_informed:
            return None
        scale = entry.durations.scale
        since_ranking = scale / entry.ranked_at_scale if entry.ranked_at_scale > 0 else 1.0
        longest = 0.0
        for task_id in state.running:
            spent = (now_us - (state.tasks[task_id].started_at_us or now_us)) / 1_000_000
            longest = max(longest, -entry.keys.get(task_id, (0.0, 0.0))[1] * since_ranking - spent)
        head = entry.queue.head(_anything)
        if head is not None:
            longest = max(longest, -head[0][1] * since_ranking)
        work = state.unsettled * entry.durations.default_seconds * scale
        workers = 1 if state.mode is OrchestrationMode.SIMPLE else self.slots.limit
        return max(longest, work / workers)
