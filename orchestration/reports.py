"""The documents callers read: the status of an orchestration and the result of one that has ended.

May import: orchestration.{clock, dag, metrics, models, ports}, orchestration.engine.state, stdlib.

Keys are promises (`docs/` and the contract name them). A status is made from a record alone, never from the journal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestration.clock import to_iso
from orchestration.dag import TaskDAG
from orchestration.engine.state import State
from orchestration.metrics import measure
from orchestration.models import (
    SETTLED,
    ErrorRecord,
    Json,
    JsonObject,
    OrchestrationStatus,
    TaskEdge,
    TaskId,
    TaskStatus,
)
from orchestration.ports import OrchestrationRecord, Revision, Summary, Thought

ERRORS_SHOWN = 20
"""Failed tasks a status lists; the rest are counted, and paged through as tasks."""


def status_document(
    record: OrchestrationRecord,
    *,
    summary: Summary,
    running: list[TaskId],
    errors: Mapping[TaskId, ErrorRecord],
    open_questions: Mapping[TaskId, str],
    last_seq: int,
    now_us: int,
    is_orphaned: bool,
    missing: Sequence[str] = (),
    approvals: Mapping[TaskId, str] | None = None,
    asked: Mapping[TaskId, str] | None = None,
    offered: Sequence[TaskId] = (),
    claimed: Mapping[TaskId, str] | None = None,
    progress: Mapping[TaskId, str] | None = None,
) -> dict[str, Any]:
    """Return an orchestration's status.

    Args:
        record: What storage knows of it.
        summary: How it stands; of a live one more recent than the record's.
        running: Ids of the running tasks.
        errors: Why tasks failed for good.
        open_questions: What is known of the tasks that wait for a decision.
        last_seq: Of the last committed event.
        now_us: Wall time in microseconds since the epoch.
        is_orphaned: Whether it is unfinished and nobody drives it.
        missing: What keeps an orphan from going on here, a sentence each.
        approvals: What the tasks would run that wait for somebody's yes.
        asked: Why nobody knows how to go on with the tasks about which the caller is asked.
        offered: Tasks that wait for a worker.
        claimed: Tasks that workers have, each with its worker.
        progress: How far running tasks say they have come.
    """
    has_ended = summary.state.is_terminal
    settled = sum(summary.counts.get(status, 0) for status in SETTLED)
    end_us = summary.finished_at_us if has_ended else now_us
    started = summary.started_at_us or record.created_at_us
    return {
        "orchestration_id": record.orchestration_id,
        "dag_id": record.dag_id,
        "plan_id": record.plan_id,
        "goal": record.goal,
        "mode": record.mode.value,
        "state": summary.state.value,
        "orphaned": is_orphaned,
        "driven_by": None if has_ended or is_orphaned or record.holder is None else str(record.holder),
        "total_tasks": summary.total_tasks,
        "counts": {
            status.value: summary.counts[status] for status in TaskStatus if summary.counts.get(status)
        },
        "progress_percentage": 100.0 * settled / summary.total_tasks if summary.total_tasks else 100.0,
        "current_running_tasks": running,
        "progress": _first(progress or {}),
        "estimated_completion_time": 0.0 if has_ended else summary.remaining_seconds,
        "revision": summary.revision,
        "attempts": summary.attempts,
        "cost": summary.cost,
        "created_at": to_iso(record.created_at_us),
        "started_at": to_iso(summary.started_at_us),
        "finished_at": to_iso(summary.finished_at_us),
        "elapsed_seconds": max(0, (end_us or now_us) - started) / 1_000_000,
        "parallel_efficiency": summary.parallel_efficiency,
        "errors": errors_document(dict(list(errors.items())[:ERRORS_SHOWN])),
        "waiting_for_decision": _first(open_questions),
        "waiting_for_approval": _first(approvals or {}),
        "waiting_for_answer": _first(asked or {}),
        "waiting_for_worker": list(offered)[:ERRORS_SHOWN],
        "claimed": _first(claimed or {}),
        "reason": summary.reason,
        "missing_systems": list(missing),
        "driver_silent_seconds": None if has_ended or is_orphaned else _silence(record, now_us),
        "last_seq": last_seq,
    }


def _first(found: Mapping[TaskId, str]) -> dict[TaskId, str]:
    return dict(list(found.items())[:ERRORS_SHOWN])


def _silence(record: OrchestrationRecord, now_us: int) -> float | None:
    """Return for how long a driver has given no heartbeat, once that is longer than its lease; None before.

    By the wall clocks of two machines, so for people only.
    """
    driver = record.driver
    seconds = 0.0 if driver is None else (now_us - driver.beat_at_us) / 1_000_000
    return seconds if driver is not None and seconds > driver.lease_seconds else None


def errors_document(errors: Mapping[TaskId, ErrorRecord]) -> JsonObject:
    """Return errors by task as JSON."""
    return {
        task_id: {
            "code": error.code,
            "message": error.message,
            "retryable": error.retryable,
            "attempt": error.attempt,
            "system": error.system,
        }
        for task_id, error in errors.items()
    }


def result_document(
    state: State,
    *,
    goal: str,
    results: Results,
    concurrency: int,
    planning_seconds: float,
    total_seconds: float,
    warnings: list[str],
    plan: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the result of an orchestration, as far as it has come.

    Args:
        state: Its state.
        goal: What it was for.
        results: Its outputs.
        concurrency: How many attempts could run at once.
        planning_seconds: How long the plan took to make.
        total_seconds: From the call to the result, planning included.
        warnings: What the caller should know of how it was set up.
        plan: How the DAG came about, when it was planned.
    """
    measured = measure(state, concurrency)
    failed = {
        task_id: task.error
        for task_id, task in state.tasks.items()
        if task.status is TaskStatus.FAILED and task.error is not None
    }
    document: dict[str, Any] = {
        "success": state.status is OrchestrationStatus.COMPLETED,
        "orchestration_id": state.orchestration_id,
        "state": state.status.value,
        "mode": state.mode.value,
        "goal": goal,
        "total_tasks": state.total_tasks,
        "dag": final_dag(state),
        "results": results,
        "errors": errors_document(failed),
        "warnings": [*warnings, *state.warnings],
        "performance_metrics": {
            "total_orchestration_time": total_seconds,
            "planning_time": planning_seconds,
            "execution_time": measured.makespan_seconds,
            "makespan_seconds": measured.makespan_seconds,
            "work_seconds": measured.work_seconds,
            "critical_path_seconds": measured.critical_path_seconds,
            "critical_path": list(measured.critical_path),
            "speedup": measured.speedup,
            "parallel_efficiency": measured.parallel_efficiency,
            "concurrency": measured.concurrency,
            "tasks_completed": state.counts.get(TaskStatus.COMPLETED, 0),
            "tasks_failed": state.counts.get(TaskStatus.FAILED, 0),
            "tasks_skipped": state.counts.get(TaskStatus.SKIPPED, 0),
            "tasks_reused": sum(task.is_reused for task in state.tasks.values()),
            "attempts": state.attempts,
            "cost": state.cost,
        },
        "completed_at": to_iso(state.finished_at_us),
    }
    if plan is not None:
        document["plan"] = dict(plan)
    return document


def plan_document(
    planner: str, thinking_server: str, thoughts: Sequence[Thought], notes: Sequence[str]
) -> dict[str, Any]:
    """Return how a plan came about."""
    return {
        "planner": planner,
        "thinking_server": thinking_server,
        "thoughts": [thought_document(thought) for thought in thoughts],
        "notes": list(notes),
    }


def revision_document(revision: Revision) -> JsonObject:
    """Return an entry of a log of revisions without what it does not say."""
    document: JsonObject = {
        "revision": revision.revision,
        "by": revision.by,
        "told": revision.told,
        "at": to_iso(revision.at_us),
    }
    if revision.reason:
        document["reason"] = revision.reason
    if revision.undoes is not None:
        document["undoes"] = revision.undoes
    return document


def thought_document(thought: Thought) -> JsonObject:
    """Return a thought without what it does not say."""
    document: JsonObject = {"number": thought.number, "text": thought.text}
    if thought.revises is not None:
        document["revises"] = thought.revises
    if thought.branch is not None:
        document["branch"], document["branch_from"] = thought.branch, thought.branch_from
    return document


def thought_marks(thought: Mapping[str, Any]) -> str:
    """Return what a thought's document goes back to or branches off from, in brackets; empty where it goes on."""
    marks = []
    if "revises" in thought:
        marks.append(f"revises {thought['revises']}")
    if "branch" in thought:
        marks.append(f"branch {thought['branch']} from {thought['branch_from']}")
    return f" ({', '.join(marks)})" if marks else ""


def final_dag(state: State) -> TaskDAG:
    """Return the graph as it stands: alternatives spliced in, every task as it was defined, with its present status."""
    dag = TaskDAG(
        state.dag.dag_id,
        state.dag.goal,
        metadata=state.dag.metadata,
        timeout_seconds=state.dag.timeout_seconds,
    )
    for task in state.tasks.values():
        dag.add_task(task.primary or task.node)
    for task in state.tasks.values():
        for edge in task.outgoing:
            # What a parent waits for is handed to its parts; that is no edge of the graph.
            if state.tasks[edge.target].node.parent == task.node.parent:
                dag.add_dependency(_moved(edge.edge, edge.source))
    original = {
        (edge.source_task_id, edge.target_task_id): index for index, edge in enumerate(state.dag.edges)
    }
    dag.edges.sort(key=lambda edge: original.get((edge.source_task_id, edge.target_task_id), len(original)))
    return dag.with_statuses({task_id: task.status for task_id, task in state.tasks.items()})


def _moved(edge: TaskEdge, source: TaskId) -> TaskEdge:
    """Return the edge with its present upstream end."""
    return edge if edge.source_task_id == source else replace(edge, source_task_id=source)


class Results(Mapping[TaskId, Json]):
    """Outputs per completed task, read from storage when they are asked for and fresh each time.

    Args:
        task_ids: Tasks that have an output, in the order of the DAG.
        load: Reads one output as JSON text.
        at_hand: Outputs that need no reading.
    """

    def __init__(
        self,
        task_ids: list[TaskId],
        load: Callable[[TaskId], bytes],
        at_hand: Mapping[TaskId, bytes] | None = None,
    ) -> None:
        self._task_ids = dict.fromkeys(task_ids)
        self._load = load
        self._at_hand = dict(at_hand or {})

    def __getitem__(self, task_id: TaskId) -> Json:
        if task_id not in self._task_ids:
            raise KeyError(task_id)
        text = self._at_hand.get(task_id)
        value: Json = json.loads(self._load(task_id) if text is None else text)
        return value

    def __iter__(self) -> Iterator[TaskId]:
        return iter(self._task_ids)

    def __len__(self) -> int:
        return len(self._task_ids)

    def __repr__(self) -> str:
        return f"Results({', '.join(self._task_ids)})"
