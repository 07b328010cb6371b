"""Runs a DAG through the real engine under virtual time: what would it take, before anything runs.

May import: orchestration.{dag, errors, models, options}, orchestration.engine.*, stdlib.

Every task succeeds at its first attempt and every edge delivers: what a condition will say can't be known beforehand.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict

from orchestration.dag import TaskDAG
from orchestration.engine.effects import StartAttempt
from orchestration.engine.engine import Engine
from orchestration.engine.events import OrchestrationSubmitted, Recorded
from orchestration.engine.inputs import Input, OutputRef, ReportSuccess, TakeOver, TaskDefaults
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
) -> dict[str, Any]:
    """Return what running a DAG would take.

    Args:
        dag: A valid DAG.
        workers: Attempts at once; the options' concurrency when absent.
        mode: SIMPLE, HIERARCHICAL or ADAPTIVE; the options' default when absent.
        options: Ranking policy and defaults.
        durations: True seconds per task; the DAG's estimates then only guide the ranking. Tasks not named take their
            expected duration.

    Returns:
        `makespan_seconds`, `lower_bound_seconds` (no schedule can be shorter), `critical_path` (task ids), `cost`,
        `utilization` (busy part of all workers' time, 0 to 1), `workers`, `mode`, and `schedule`: a list of
        `{task_id, start_seconds, finish_seconds, worker}` by start.

    Raises:
        InvalidArgumentError: `workers` is less than 1, or a duration is negative or of an unknown task.
        CycleError: The edges form a cycle.
        UnknownDependencyError: An edge names a task that is not there.
    """
    options = options or OrchestratorOptions()
    mode = mode or options.default_mode
    workers = options.concurrency if workers is None else workers
    if workers < 1:
        raise InvalidArgumentError("workers", workers, "1 or more")
    dag.validate_dependencies()
    seconds = {**dag.expected_durations(), **_checked(dag, durations or {})}
    state = _state(dag, mode)
    scheduler = AdaptiveTaskScheduler(
        SlotPool(1 if mode is OrchestrationMode.SIMPLE else workers),
        DynamicTaskPrioritizer(options.prioritization),
        is_adaptive=options.enable_adaptive_scheduling,
    )
    schedule = _run(Engine(scheduler), state, seconds, workers)
    makespan = max((entry["finish_seconds"] for entry in schedule), default=0.0)
    work = sum(entry["finish_seconds"] - entry["start_seconds"] for entry in schedule)
    used = 1 if mode is OrchestrationMode.SIMPLE else workers
    return {
        "dag_id": dag.dag_id,
        "mode": mode.value,
        "workers": used,
        "total_tasks": len(dag.nodes),
        "makespan_seconds": makespan,
        "lower_bound_seconds": dag.lower_bound_seconds(used, seconds),
        "critical_path": list(dag.critical_path(seconds).task_ids),
        "cost": sum(node.cost or 0.0 for node in dag.nodes.values()),
        "utilization": work / (makespan * used) if makespan else 1.0,
        "schedule": schedule,
    }


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
        tasks=len(dag.nodes),
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
        if node.cache is not None or node.heartbeat_timeout_seconds is not None:
            plain.nodes[task_id] = replace(node, cache=None, heartbeat_timeout_seconds=None)
    plain.edges = [replace(edge, condition=None, data_requirements=[]) for edge in dag.edges]
    submitted = OrchestrationSubmitted(
        dag_sha256="",
        mode=mode,
        routes=dict.fromkeys(dag.nodes, "simulated"),
        defaults=TaskDefaults(timeout_seconds=None),
    )
    return replay(_ID, plain, [Recorded(orchestration_id=_ID, seq=1, at_us=0, event=submitted)])


def _run(engine: Engine, state: State, seconds: Mapping[TaskId, float], workers: int) -> list[dict[str, Any]]:
    """Drive the engine until the orchestration ends and return what ran when and where."""
    engine.adopt(state)
    schedule: list[dict[str, Any]] = []
    idle = list(range(min(workers, len(state.tasks))))
    running: list[tuple[int, int, StartAttempt, int]] = []
    now_us = 0
    item: Input = TakeOver(orchestration_id=_ID)
    while True:
        for effect in engine.handle(item, now_us).effects:
            if isinstance(effect, StartAttempt):
                worker = heapq.heappop(idle)
                finish_us = now_us + round(seconds[effect.task_id] * 1_000_000)
                heapq.heappush(running, (finish_us, len(schedule), effect, worker))
                schedule.append(
                    {
                        "task_id": effect.task_id,
                        "start_seconds": now_us / 1_000_000,
                        "finish_seconds": finish_us / 1_000_000,
                        "worker": worker,
                    }
                )
        if not running:
            return schedule
        now_us, _, ended, worker = heapq.heappop(running)
        heapq.heappush(idle, worker)
        item = ReportSuccess(
            orchestration_id=_ID, task_id=ended.task_id, attempt=ended.attempt, output=_NOTHING
        )
