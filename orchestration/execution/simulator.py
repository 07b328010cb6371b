"""Runs a DAG through the real engine under virtual time: what would it take, before anything runs.

May import: orchestration.{dag, errors, models, options}, orchestration.engine.*, stdlib.

Every task succeeds at its first attempt, every edge delivers and whoever is asked agrees at once: what a condition or a
person will say can't be known beforehand. A list that is not known yet has an assumed number of items.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict

from orchestration.dag import TaskDAG
from orchestration.engine.effects import Effect, FindItems, GatherOutputs, StartAttempt
from orchestration.engine.engine import Engine
from orchestration.engine.events import OrchestrationSubmitted, Recorded
from orchestration.engine.inputs import (
    Input,
    ItemsFound,
    OutputRef,
    OutputsGathered,
    ReportSuccess,
    TakeOver,
    TaskDefaults,
)
from orchestration.engine.prioritizer import DynamicTaskPrioritizer
from orchestration.engine.scheduler import AdaptiveTaskScheduler, SlotPool
from orchestration.engine.state import State, replay
from orchestration.errors import InvalidArgumentError
from orchestration.models import OrchestrationMode, TaskId
from orchestration.options import OrchestratorOptions

_NOTHING = OutputRef(sha256="", size_bytes=0)
_ID = "simulation"


def simulate(
    dag: TaskDAG,
    *,
    workers: int | None = None,
    mode: OrchestrationMode | None = None,
    options: OrchestratorOptions | None = None,
    durations: Mapping[TaskId, float] | None = None,
    assumed_items: int = 1,
) -> dict[str, Any]:
    """Return what running a DAG would take.

    Args:
        dag: A valid DAG.
        workers: Attempts at once; the options' concurrency when absent.
        mode: SIMPLE, HIERARCHICAL or ADAPTIVE; the options' default when absent.
        options: Ranking policy and defaults.
        durations: True seconds per task; the DAG's estimates then only guide the ranking. Tasks not named take their
            expected duration. A `foreach`'s is that of each of its items.
        assumed_items: How many items a list has that is not known before the run.

    Returns:
        `makespan_seconds`, `lower_bound_seconds` (no schedule can be shorter), `critical_path` (task ids), `cost`,
        `utilization` (busy part of all workers' time, 0 to 1), `workers`, `mode`, and `schedule`: a list of
        `{task_id, start_seconds, finish_seconds, worker}` by start. Where lists are not known yet, `assumed_items` says
        how many items were assumed, by task.

    Raises:
        InvalidArgumentError: `workers` or `assumed_items` is less than 1, or a duration is negative or of an unknown
            task.
        CycleError: The edges form a cycle.
        UnknownDependencyError: An edge names a task that is not there.
    """
    options = options or OrchestratorOptions()
    mode = mode or options.default_mode
    workers = options.concurrency if workers is None else workers
    if workers < 1:
        raise InvalidArgumentError("workers", workers, "1 or more")
    if assumed_items < 1:
        raise InvalidArgumentError("assumed_items", assumed_items, "1 or more")
    dag.validate_dependencies()
    seconds = {**dag.expected_durations(), **_checked(dag, durations or {})}
    items = item_counts(dag, assumed_items)
    state = _state(dag, mode)
    scheduler = AdaptiveTaskScheduler(
        SlotPool(1 if mode is OrchestrationMode.SIMPLE else workers),
        DynamicTaskPrioritizer(options.prioritization),
        is_adaptive=options.enable_adaptive_scheduling,
    )
    schedule = _Run(Engine(scheduler), state, seconds, items).to_its_end(workers)
    makespan = max((entry["finish_seconds"] for entry in schedule), default=0.0)
    work = sum(entry["finish_seconds"] - entry["start_seconds"] for entry in schedule)
    used = 1 if mode is OrchestrationMode.SIMPLE else workers
    parents = dag.parents()
    runs = {task_id: items.get(task_id, 1) for task_id in dag.nodes if task_id not in parents}
    spent = sum(seconds[task_id] * count for task_id, count in runs.items())
    once = {task_id: seconds[task_id] if runs.get(task_id) else 0.0 for task_id in dag.nodes}
    path = dag.critical_path(once)
    document: dict[str, Any] = {
        "dag_id": dag.dag_id,
        "mode": mode.value,
        "workers": used,
        "total_tasks": sum(runs.values()),
        "makespan_seconds": makespan,
        "lower_bound_seconds": max(path.seconds, spent / used),
        "critical_path": list(path.task_ids),
        "cost": sum((dag.nodes[task_id].cost or 0.0) * count for task_id, count in runs.items()),
        "utilization": work / (makespan * used) if makespan else 1.0,
        "schedule": schedule,
    }
    if assumed := assumed_lists(dag):
        document["assumed_items"] = dict.fromkeys(assumed, assumed_items)
    return document


def item_counts(dag: TaskDAG, assumed_items: int = 1) -> dict[TaskId, int]:
    """Return how many items each `foreach` of a DAG has: as many as its list, or the assumed number."""
    return {
        task_id: len(node.foreach) if isinstance(node.foreach, list) else assumed_items
        for task_id, node in dag.nodes.items()
        if node.foreach is not None
    }


def assumed_lists(dag: TaskDAG) -> list[TaskId]:
    """Return the tasks whose lists are known only when what they name has run."""
    return [task_id for task_id, node in dag.nodes.items() if isinstance(node.foreach, str)]


class Estimate(TypedDict):
    """What a DAG is expected to take, before anything ran."""

    tasks: int
    width: int
    """The most tasks on one level."""
    critical_path_seconds: float
    """No schedule can be shorter, however many workers there are."""
    expected_seconds: float
    """On the given workers, as the engine would go about it."""


def estimate(dag: TaskDAG, workers: int) -> Estimate:
    """Return what a valid DAG is expected to take on `workers` workers.

    Raises:
        InvalidArgumentError: `workers` is less than 1.
    """
    simulated = simulate(dag, workers=workers, mode=OrchestrationMode.HIERARCHICAL)
    return Estimate(
        tasks=len(dag.nodes) - len(dag.parents()),
        width=dag.width(),
        critical_path_seconds=round(dag.critical_path().seconds, 3),
        expected_seconds=round(simulated["makespan_seconds"], 3),
    )


def _checked(dag: TaskDAG, durations: Mapping[TaskId, float]) -> Mapping[TaskId, float]:
    for task_id, value in durations.items():
        if task_id not in dag.nodes:
            raise InvalidArgumentError("durations", task_id, "the id of a task in the DAG")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise InvalidArgumentError(f"durations.{task_id}", value, "a number of seconds, 0 or more")
    return durations


def _state(dag: TaskDAG, mode: OrchestrationMode) -> State:
    """Return the state of a fresh orchestration of `dag` in which every edge delivers and every task runs."""
    plain = dag.copy()
    for task_id, node in dag.nodes.items():
        if any(
            value is not None
            for value in (node.cache, node.heartbeat_timeout_seconds, node.approval, node.fallback)
        ):
            plain.nodes[task_id] = replace(
                node, cache=None, heartbeat_timeout_seconds=None, approval=None, fallback=None
            )
    plain.edges = [replace(edge, condition=None, data_requirements=[]) for edge in dag.edges]
    submitted = OrchestrationSubmitted(
        dag_sha256="",
        mode=mode,
        routes=dict.fromkeys(dag.nodes, "simulated"),
        defaults=TaskDefaults(timeout_seconds=None),
    )
    return replay(_ID, plain, [Recorded(orchestration_id=_ID, seq=1, at_us=0, event=submitted)])


class _Run:
    """One run of the engine in which time is what the next task to end says."""

    def __init__(
        self, engine: Engine, state: State, seconds: Mapping[TaskId, float], items: Mapping[TaskId, int]
    ) -> None:
        self._engine = engine
        self._state = state
        self._seconds = seconds
        self._items = items
        self._inputs: deque[Input] = deque([TakeOver(orchestration_id=_ID)])
        self._running: list[tuple[int, int, StartAttempt, int]] = []
        self._schedule: list[dict[str, Any]] = []
        self._now_us = 0

    def to_its_end(self, workers: int) -> list[dict[str, Any]]:
        """Drive the engine until the orchestration ends and return what ran when and where."""
        self._engine.adopt(self._state)
        most = len(self._state.tasks) + sum(self._items.values())
        idle = list(range(min(workers, most)))
        while True:
            while self._inputs:
                for effect in self._engine.handle(self._inputs.popleft(), self._now_us).effects:
                    self._perform(effect, idle)
            if not self._running:
                return self._schedule
            self._now_us, _, ended, worker = heapq.heappop(self._running)
            heapq.heappush(idle, worker)
            self._inputs.append(
                ReportSuccess(
                    orchestration_id=_ID, task_id=ended.task_id, attempt=ended.attempt, output=_NOTHING
                )
            )

    def _perform(self, effect: Effect, idle: list[int]) -> None:
        """Do at once what the engine asks for, but for attempts: those take their time."""
        match effect:
            case StartAttempt():
                worker = heapq.heappop(idle)
                node = self._state.tasks[effect.task_id].node
                # An item takes what its list was said to take for each.
                whose = effect.task_id if effect.task_id in self._seconds else node.parent or effect.task_id
                finish_us = self._now_us + round(self._seconds[whose] * 1_000_000)
                heapq.heappush(self._running, (finish_us, len(self._schedule), effect, worker))
                self._schedule.append(
                    {
                        "task_id": effect.task_id,
                        "start_seconds": self._now_us / 1_000_000,
                        "finish_seconds": finish_us / 1_000_000,
                        "worker": worker,
                    }
                )
            case FindItems():
                self._inputs.append(
                    ItemsFound(
                        orchestration_id=_ID,
                        task_id=effect.task_id,
                        generation=effect.generation,
                        count=self._items[effect.task_id],
                    )
                )
            case GatherOutputs():
                self._inputs.append(
                    OutputsGathered(
                        orchestration_id=_ID,
                        task_id=effect.task_id,
                        generation=effect.generation,
                        output=_NOTHING,
                    )
                )
            case _:
                pass  # nothing else is asked for where every task succeeds
