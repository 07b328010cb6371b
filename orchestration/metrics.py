"""What is measured of an orchestration, and how: speedup, parallel efficiency, critical path, sums over many.

May import: orchestration.{models, engine.state, ports}, stdlib.

Definitions. *Work* is the sum of the durations of all attempts; a duration runs from the attempt's start to its
committed outcome, without back-off or waiting. *Makespan* is the first start to the last settled task. *Speedup* =
work / makespan. *Parallel efficiency* = max(critical path, work / concurrency) / makespan, in (0, 1], from measured
durations: how close the run came to the best any scheduler could do with that graph and concurrency. It is 1 when
nothing ran. Concurrency is 1 in SIMPLE mode.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestration.engine.state import State
from orchestration.models import JsonObject, OrchestrationStatus, TaskId, TaskStatus
from orchestration.ports import OrchestrationTotals


@dataclass(frozen=True, slots=True)
class Measured:
    """How an orchestration ran; times in seconds."""

    makespan_seconds: float
    work_seconds: float
    critical_path_seconds: float
    critical_path: tuple[TaskId, ...]
    speedup: float
    parallel_efficiency: float
    concurrency: int


def measure(state: State, concurrency: int) -> Measured:
    """Return the measures of an orchestration that has ended.

    Args:
        state: Its final state.
        concurrency: How many attempts could run at once.
    """
    path, longest_us = _critical_path(state)
    start = state.first_started_at_us
    makespan_us = 0 if start is None else max(0, (state.last_settled_at_us or start) - start)
    if makespan_us == 0:
        speedup = efficiency = 1.0
    else:
        speedup = state.work_us / makespan_us
        efficiency = min(1.0, max(longest_us, state.work_us / concurrency) / makespan_us)
    return Measured(
        makespan_us / 1_000_000,
        state.work_us / 1_000_000,
        longest_us / 1_000_000,
        path,
        speedup,
        efficiency,
        concurrency,
    )


def _critical_path(state: State) -> tuple[tuple[TaskId, ...], int]:
    """Return the longest path by measured durations through the graph as it was in the end, and its length in µs.

    Composites, which last as long as their parts, are left out of it.
    """
    after, waiting = _links(state)
    queue = [name for name, count in waiting.items() if count == 0]
    finish: dict[str, int] = {}
    before: dict[str, str] = {}
    for name in queue:  # grows while it is walked: Kahn's algorithm
        task = state.tasks.get(name)
        finish[name] = finish.get(name, 0) + (0 if task is None else task.duration_us)
        for target in after.get(name, ()):
            if target not in before or finish[name] > finish.get(target, 0):
                finish[target] = finish[name]
                before[target] = name
            waiting[target] -= 1
            if waiting[target] == 0:
                queue.append(target)
    if not finish:
        return (), 0
    task_id = max(finish, key=lambda key: finish[key])
    longest = finish[task_id]
    path = [task_id]
    while path[-1] in before:
        path.append(before[path[-1]])
    runs = [name for name in reversed(path) if name in state.tasks and not state.tasks[name].is_composite]
    return tuple(runs), longest


_END = "/"
"""Marks the end of a composite, which no task id can be called like: what depends on it waits for its parts."""


def _links(state: State) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Return what can follow each task, and how many each waits for.

    A composite begins its parts and ends with them.
    """
    after: dict[str, list[str]] = {}
    waiting = dict.fromkeys(state.tasks, 0)

    def link(source: str, target: str) -> None:
        after.setdefault(source, []).append(target)
        waiting[target] = waiting.get(target, 0) + 1

    for task_id, task in state.tasks.items():
        end = task_id + _END if task.children else task_id
        for edge in task.outgoing:
            link(end, edge.target)
        for child in task.children:
            link(task_id, child)
            link(child + _END if state.tasks[child].children else child, end)
    return after, waiting


def totals_document(totals: OrchestrationTotals) -> JsonObject:
    """Return sums over orchestrations as the metrics document of the library, the command line and the server.

    `success_rate` and `average_parallel_efficiency` are in percent. The success rate counts completed among ended
    orchestrations; it is 0 when none has ended.
    """
    by_state = totals.by_state
    completed = by_state.get(OrchestrationStatus.COMPLETED, 0)
    failed = by_state.get(OrchestrationStatus.FAILED, 0)
    cancelled = by_state.get(OrchestrationStatus.CANCELLED, 0)
    ended = completed + failed + cancelled
    total = sum(by_state.values())
    efficiency = totals.average_parallel_efficiency
    return {
        "total_orchestrations": total,
        "successful_orchestrations": completed,
        "failed_orchestrations": failed,
        "cancelled_orchestrations": cancelled,
        "active_orchestrations": total - ended,
        "success_rate": 100.0 * completed / ended if ended else 0.0,
        "average_execution_time_seconds": totals.average_makespan_seconds or 0.0,
        "average_parallel_efficiency": 100.0 * efficiency if efficiency is not None else 0.0,
        "tasks_by_status": {status.value: totals.tasks_by_status.get(status, 0) for status in TaskStatus},
        "total_attempts": totals.attempts,
        "work_seconds": totals.work_seconds,
        "cost": totals.cost,
    }
