"""Compares what happened outside with what the journal says, after whatever was done to the processes.

The journal is read through the storage, the effects from their own file. Nothing of the engine decides here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.engine.events import (
    AttemptStarted,
    AttemptSucceeded,
    Recorded,
    ResultReused,
    RetryRequested,
    TaskDecided,
)
from orchestration.models import OrchestrationId, TaskId, TaskNode
from orchestration.ports import Storage
from tests.chaos.work import traces

_PAGE = 1_000


@dataclass(slots=True)
class Verdict:
    """What was found; each list names what broke a promise."""

    completed: int = 0
    """Tasks that completed by an attempt."""
    events: Counter[str] = field(default_factory=Counter)
    """How often each kind of event is in the journals."""
    lost: list[str] = field(default_factory=list)
    """Completed, and no effect."""
    repeated: list[str] = field(default_factory=list)
    """An attempt began after the task had completed."""
    repeated_once: list[str] = field(default_factory=list)
    """Must not be repeated, and was, without a decision."""
    unannounced: list[str] = field(default_factory=list)
    """An effect of an attempt the journal does not know, or under another key, or twice."""
    unfinished: list[str] = field(default_factory=list)
    """Did not end."""

    @property
    def violations(self) -> list[str]:
        """Return all of them, in words."""
        named = {
            "effect lost": self.lost,
            "completed task repeated": self.repeated,
            "non-idempotent task repeated": self.repeated_once,
            "effect nobody announced": self.unannounced,
            "not ended": self.unfinished,
        }
        return [f"{what}: {each}" for what, found in named.items() for each in found]


@dataclass(slots=True)
class _Task:
    node: TaskNode | None
    attempt: int = 0
    generation: int = 1
    keys: dict[int, str] = field(default_factory=dict)
    """Idempotency key by attempt."""
    completed_at: int | None = None
    """The attempt it had reached when it completed."""
    is_acted: bool = False
    """Whether it completed by an attempt."""
    allowed: int = 1
    """How often it may take effect if it must not be repeated."""


async def check(storage: Storage, effects: Path) -> Verdict:
    """Return what is to be said of everything in a database."""
    verdict = Verdict()
    lines = Counter(traces(effects))
    for record in await storage.list_orchestrations(limit=10_000):
        identifier = record.orchestration_id
        if not record.summary.state.is_terminal:
            verdict.unfinished.append(f"{identifier} is {record.summary.state}")
        judge(
            identifier,
            await nodes_of(storage, identifier),
            await journal_of(storage, identifier),
            lines,
            verdict,
        )
    verdict.unannounced += lines.keys()
    return verdict


async def journal_of(storage: Storage, orchestration_id: OrchestrationId) -> list[Recorded]:
    """Return a whole journal."""
    journal: list[Recorded] = []
    while page := await storage.read_events(orchestration_id, after_seq=len(journal), limit=_PAGE):
        journal += page
    return journal


async def nodes_of(storage: Storage, orchestration_id: OrchestrationId) -> dict[TaskId, TaskNode]:
    """Return an orchestration's tasks as they were submitted."""
    from orchestration.dag_file import dag_from_json

    return dag_from_json(await storage.load_dag(orchestration_id)).nodes


def judge(
    orchestration_id: OrchestrationId,
    nodes: dict[TaskId, TaskNode],
    journal: Sequence[Recorded],
    lines: Counter[str],
    verdict: Verdict,
) -> None:
    """Compare one orchestration with the lines of its effects, and take these out of `lines`."""
    tasks = _told(orchestration_id, nodes, journal, verdict)
    for task_id, task in tasks.items():
        acted: list[int] = []
        for attempt, key in task.keys.items():
            line = f"{task_id}#{attempt}#{key}"
            count = lines.pop(line, 0)
            acted += [attempt] * count
            if count > 1:
                verdict.unannounced.append(f"{line}, {count} times")
        if task.completed_at is not None:
            verdict.repeated += [
                f"{orchestration_id}:{task_id}#{attempt}" for attempt in acted if attempt > task.completed_at
            ]
        if task.is_acted:
            verdict.completed += 1
            if task.completed_at not in acted:
                verdict.lost.append(f"{orchestration_id}:{task_id}#{task.completed_at}")
        if task.node is not None and not task.node.idempotent and len(acted) > task.allowed:
            verdict.repeated_once.append(
                f"{orchestration_id}:{task_id} by attempts {acted}, {task.allowed} allowed"
            )


def _told(
    orchestration_id: OrchestrationId,
    nodes: dict[TaskId, TaskNode],
    journal: Sequence[Recorded],
    verdict: Verdict,
) -> dict[TaskId, _Task]:
    """Return what the journal tells of each task."""
    tasks = {task_id: _Task(node) for task_id, node in nodes.items()}
    for recorded in journal:
        event = recorded.event
        verdict.events[event.type] += 1
        match event:
            case AttemptStarted():
                task = tasks[event.task_id]
                if task.completed_at is not None:
                    verdict.repeated.append(
                        f"{orchestration_id}:{event.task_id}#{event.attempt}, in the journal"
                    )
                task.attempt = event.attempt
                task.keys[event.attempt] = f"{orchestration_id}:{event.task_id}:{task.generation}"
            case AttemptSucceeded():
                tasks[event.task_id].completed_at = event.attempt
                tasks[event.task_id].is_acted = True
            case TaskDecided():
                verdict.events["decided by a person"] += event.by != "verify"
                task = tasks[event.task_id]
                task.allowed += event.decision == "retry"
                if event.decision == "done":
                    task.completed_at = task.attempt
            case ResultReused():
                tasks[event.task_id].completed_at = tasks[event.task_id].attempt
            case RetryRequested():
                for task_id in event.task_ids:
                    task = tasks[task_id]
                    task.generation += task.attempt > 0
                    task.allowed += 1
            case _:
                pass
    return tasks
