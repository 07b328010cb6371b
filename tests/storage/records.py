"""Records for storage tests: small, valid, and different where a test says so."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestration.engine.events import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    EdgeVerdict,
    Event,
    OrchestrationFinished,
    OrchestrationPaused,
    OrchestrationResumed,
    OrchestrationSubmitted,
    PlanRevised,
    Recorded,
    ReplanRequested,
    RetryDue,
    RetryScheduled,
    StopRequested,
    TaskFailed,
    TasksCancelled,
    TaskSkipped,
)
from orchestration.engine.inputs import OutputRef, TaskDefaults
from orchestration.models import (
    ErrorRecord,
    OrchestrationMode,
    OrchestrationStatus,
    TaskEdge,
    TaskNode,
    TaskPriority,
    TaskStatus,
)
from orchestration.ports import (
    Commit,
    DriverIdentity,
    Lease,
    NewOrchestration,
    NewPlan,
    Storage,
    StoredOutput,
    Summary,
    TaskRow,
    Thought,
)

NOW_US = 1_763_000_000_000_000

HOLDER = DriverIdentity(host="alpha", boot_id="b1", pid=11, process_start=111, instance="one")
STRANGER = DriverIdentity(host="beta", boot_id="b2", pid=22, process_start=222, instance="two")

ERROR = ErrorRecord(
    code="tool_error",
    message='broke — "badly"\n',
    retryable=True,
    attempt=2,
    system="py",
    retry_after_seconds=1.5,
)
VERDICT = EdgeVerdict(target_task_id="b", delivers=False, warning="no key", error=ERROR)

EVERY_EVENT: tuple[Event, ...] = (
    OrchestrationSubmitted(
        dag_sha256="d" * 64,
        mode=OrchestrationMode.ADAPTIVE,
        context={"repo": "/data", "deep": [1, 2.5, None, {"ü": True}], "big": 2**70},
        routes={"a": "py", "b": "shell"},
        defaults=TaskDefaults(max_retries=1, backoff_factor=1.5, timeout_seconds=None),
        can_replan=True,
    ),
    AttemptStarted(task_id="a", attempt=1, system='odd "name"'),
    AttemptSucceeded(
        task_id="a",
        attempt=1,
        output=OutputRef(sha256="e" * 64, size_bytes=17),
        verdicts=(VERDICT, EdgeVerdict(target_task_id="c", delivers=True)),
        cost=0.1,
    ),
    AttemptFailed(task_id="a", attempt=2, error=ERROR),
    AttemptInterrupted(task_id="a", attempt=3),
    StopRequested(task_id="a", attempt=3, because="timeout"),
    RetryScheduled(task_id="a", attempt=2, delay_seconds=0.1 + 0.2, due_at_us=NOW_US),
    RetryDue(task_id="a"),
    TaskFailed(task_id="a", error=ERROR, verdicts=(VERDICT,)),
    TaskSkipped(task_id="b", because="a", verdicts=(VERDICT,)),
    TasksCancelled(task_ids=("a", "b"), note="work may continue at py"),
    ReplanRequested(task_id="a", error=ERROR, paused=("b", "c")),
    PlanRevised(
        task_id="a",
        revision=2,
        tasks=(TaskNode("a~1", priority=TaskPriority.URGENT, arguments={"x": [1, {"y": None}]}),),
        edges=(TaskEdge("z", "a~1", data_requirements=["k"], is_optional=True, condition="output.n > 0"),),
        routes={"a~1": "py"},
        delivers="a~1",
        reason="tool_error",
    ),
    OrchestrationPaused(),
    OrchestrationResumed(),
    CancelRequested(reason="enough"),
    OrchestrationFinished(outcome=OrchestrationStatus.CANCELLED),
)
"""One of each kind, with every field set."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def summary(
    counts: Mapping[TaskStatus, int] | None = None,
    *,
    state: OrchestrationStatus = OrchestrationStatus.RUNNING,
    **fields: Any,
) -> Summary:
    counts = {TaskStatus.PENDING: 2} if counts is None else counts
    return Summary(state=state, total_tasks=sum(counts.values()), counts=counts, **fields)


def new_orchestration(
    base_id: str = "report", *, task_ids: Sequence[str] = ("a", "b"), **fields: Any
) -> NewOrchestration:
    dag_json = fields.pop("dag_json", f'{{"dag_id": "{base_id}"}}'.encode())
    new = NewOrchestration(
        base_id=base_id,
        mode=OrchestrationMode.HIERARCHICAL,
        dag_id=base_id,
        dag_json=dag_json,
        dag_sha256=sha256(dag_json),
        created_at_us=NOW_US,
        holder=HOLDER,
        first_events=[
            OrchestrationSubmitted(dag_sha256=sha256(dag_json), mode=OrchestrationMode.HIERARCHICAL)
        ],
        tasks=[row(task_id, position) for position, task_id in enumerate(task_ids)],
        summary=summary({TaskStatus.PENDING: len(task_ids)} if task_ids else {}),
    )
    return replace(new, **fields)


def row(task_id: str, position: int, status: TaskStatus = TaskStatus.PENDING, **fields: Any) -> TaskRow:
    return TaskRow(task_id=task_id, position=position, status=status, **fields)


def new_plan(base_id: str = "plan", **fields: Any) -> NewPlan:
    plan = NewPlan(
        base_id=base_id,
        goal="Build the report",
        mode=OrchestrationMode.ADAPTIVE,
        context={"repo": ["x", {"y": 1}]},
        dag_json=b'{"tasks": []}',
        dag_sha256=sha256(b'{"tasks": []}'),
        planner="playbook:web-application",
        thoughts=(
            Thought(number=1, text="First…"),
            Thought(number=2, text="No:", revises=1, branch="b", branch_from=1),
        ),
        thinking_server="in-process",
        notes=("ids were made into slugs",),
        created_at_us=NOW_US,
    )
    return replace(plan, **fields)


def recorded(lease: Lease, first_seq: int, *events: Event) -> list[Recorded]:
    return [
        Recorded(orchestration_id=lease.orchestration_id, seq=seq, at_us=NOW_US + seq, event=event)
        for seq, event in enumerate(events, start=first_seq)
    ]


def output(task_id: str, text: bytes, *, inline: bool = True) -> StoredOutput:
    return StoredOutput(task_id=task_id, sha256=sha256(text), text=text, inline=inline)


def commit(lease: Lease, first_seq: int, *events: Event, **fields: Any) -> Commit:
    """A commit of `events`, or of one plain event, with whatever else is given."""
    events = events or (RetryDue(task_id="a"),)
    made = Commit(
        lease=lease, events=recorded(lease, first_seq, *events), tasks=(), outputs=(), summary=summary()
    )
    return replace(made, **fields)


async def created(storage: Storage, base_id: str = "report", **fields: Any) -> Lease:
    """Create an orchestration and return the lease that came with it; its next seq is 2."""
    lease = (await storage.create_orchestration(new_orchestration(base_id, **fields))).lease
    assert lease is not None
    return lease


def nobody_is_gone(_: DriverIdentity) -> bool:
    return False


def everybody_is_gone(_: DriverIdentity) -> bool:
    return True
