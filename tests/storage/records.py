"""Records for storage tests: small, valid, and different where a test says so."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestration.engine.events import (
    ApprovalGiven,
    ApprovalRequested,
    ApprovalVoided,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLeftOpen,
    AttemptStarted,
    AttemptSucceeded,
    CallerAsked,
    CancelRequested,
    ChildrenGathered,
    ClaimReleased,
    ClaimReported,
    ClaimResumed,
    ClaimStarted,
    EdgeDecided,
    EdgeVerdict,
    Event,
    FallbackStarted,
    OrchestrationFinished,
    OrchestrationPaused,
    OrchestrationResumed,
    OrchestrationSubmitted,
    PlanCompleted,
    PlanEdited,
    PlanExtended,
    PlanRevised,
    Recorded,
    ReplanRequested,
    ResultReused,
    RetryDue,
    RetryRequested,
    RetryScheduled,
    StopRequested,
    TaskDecided,
    TaskExpanded,
    TaskFailed,
    TaskOffered,
    TaskRerouted,
    TasksCancelled,
    TaskSkipped,
    VerificationUnclear,
)
from orchestration.engine.inputs import OutputRef, TaskDefaults
from orchestration.models import (
    ErrorRecord,
    Fallback,
    OrchestrationMode,
    OrchestrationStatus,
    TaskEdge,
    TaskNode,
    TaskPriority,
    TaskStatus,
    Verification,
)
from orchestration.ports import (
    CacheEntry,
    Commit,
    ControlAction,
    ControlAnswer,
    ControlRequest,
    DriverIdentity,
    DriverView,
    Lease,
    NewOrchestration,
    NewPlan,
    PlanRevision,
    Retention,
    Revision,
    Storage,
    StoredOutput,
    Summary,
    TaskRow,
    Thought,
)

NOW_US = 1_763_000_000_000_000
SECOND_US = 1_000_000
DAY_US = 24 * 3600 * SECOND_US

HOLDER = DriverIdentity(host="alpha", boot_id="b1", pid=11, process_start=111, instance="one")
STRANGER = DriverIdentity(host="beta", boot_id="b2", pid=22, process_start=222, instance="two")

ERROR = ErrorRecord(
    code="tool_error",
    message='broke — "badly"\n',
    retryable=True,
    attempt=2,
    system="py",
    retry_after_seconds=1.5,
    effect_open=True,
)
VERDICT = EdgeVerdict(target_task_id="b", delivers=False, warning="no key", error=ERROR)

FALLBACK = Fallback(
    description="by hand",
    system_preference="shell",
    tool="copy",
    arguments={"from": "${z.path}"},
    idempotent=False,
    verify=Verification(tool="was_it_copied"),
    fallback=Fallback(tool="give_up", cost=0.5),
)
WHOLE_TASK = TaskNode(
    "whole~2",
    description="Everything a task may say “here”",
    tool="load",
    arguments={"rows": [1, {"y": None}], "item": "${item.name}"},
    fallback=FALLBACK,
    approval="person",
    foreach=[1, "two", {"three": None}],
    parent="above",
    metadata={"k": [True]},
)
LINK = TaskEdge("z", "a~1", data_requirements=["k"], is_optional=True, condition="output.n > 0")

EVERY_EVENT: tuple[Event, ...] = (
    OrchestrationSubmitted(
        dag_sha256="d" * 64,
        mode=OrchestrationMode.ADAPTIVE,
        context={"repo": "/data", "deep": [1, 2.5, None, {"ü": True}], "big": 2**70},
        routes={"a": "py", "b": "shell"},
        others={"a": ("shell", "web")},
        fallback_routes={"a": ("shell", "py")},
        asks_caller=True,
        allows_agent=True,
        is_planning=True,
        defaults=TaskDefaults(max_retries=1, backoff_factor=1.5, timeout_seconds=None),
        can_replan=True,
        timeout_seconds=60.5,
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
    AttemptLeftOpen(task_id="a", attempt=4, error=ERROR),
    VerificationUnclear(task_id="a", attempt=4, reason="no answer"),
    TaskDecided(
        task_id="a",
        decision="done",
        by="person",
        reason="seen it",
        output=OutputRef(sha256="e" * 64, size_bytes=17),
        verdicts=(VERDICT,),
    ),
    ResultReused(
        task_id="a",
        output=OutputRef(sha256="e" * 64, size_bytes=17),
        source="earlier-1:a",
        because="reuse",
        verdicts=(VERDICT,),
    ),
    RetryRequested(task_ids=("a", "b"), reason="again"),
    StopRequested(task_id="a", attempt=3, because="timeout"),
    RetryScheduled(task_id="a", attempt=2, delay_seconds=0.1 + 0.2, due_at_us=NOW_US),
    RetryDue(task_id="a"),
    TaskRerouted(task_id="a", attempt=2, system="shell"),
    FallbackStarted(task_id="a", attempt=3),
    ApprovalRequested(task_id="a", digest="f" * 64, shown="load “rows”\n"),
    ApprovalGiven(task_id="a", digest="f" * 64, by="person", reason="looks right"),
    ApprovalVoided(task_id="a", attempt=3),
    TaskOffered(task_id="a", number=2, lease_seconds=300.5),
    ClaimStarted(task_id="a", attempt=2, claim="c-1", worker="ada “the” first"),
    ClaimResumed(task_id="a", attempt=2, claim="c-1"),
    ClaimReported(task_id="a", attempt=2, claim="c-1", output=OutputRef(sha256="e" * 64, size_bytes=17)),
    ClaimReleased(task_id="a", attempt=2, claim="c-1", has_begun=True, reason="no access"),
    CallerAsked(task_id="a", reason="no alternative was found"),
    TaskExpanded(task_id="a", count=3),
    ChildrenGathered(task_id="a", output=OutputRef(sha256="e" * 64, size_bytes=17), verdicts=(VERDICT,)),
    TaskFailed(task_id="a", error=ERROR, verdicts=(VERDICT,)),
    TaskSkipped(task_id="b", because="a", reason="not needed", verdicts=(VERDICT,)),
    TasksCancelled(task_ids=("a", "b"), note="work may continue at py"),
    ReplanRequested(task_id="a", error=ERROR, paused=("b", "c")),
    PlanRevised(
        task_id="a",
        revision=2,
        tasks=(TaskNode("a~1", priority=TaskPriority.URGENT, arguments={"x": [1, {"y": None}]}),),
        edges=(LINK,),
        routes={"a~1": "py"},
        delivers="a~1",
        reason="tool_error",
        others={"a~1": ("shell",)},
        fallback_routes={"a~1": ("web",)},
        by="caller",
    ),
    PlanEdited(
        revision=3,
        by="person",
        reason="“better”",
        added=(WHOLE_TASK,),
        changed=(TaskNode("b", foreach="${a.items}", approval="caller"),),
        removed=("c", "d"),
        linked=(LINK,),
        unlinked=(("a", "b"), ("b", "c")),
        skipped=("e",),
        routes={"whole~2": "py"},
        others={"whole~2": ("shell",)},
        fallback_routes={"whole~2": ("shell", "py")},
        decided=(EdgeDecided(source_task_id="z", verdict=VERDICT),),
        undoes=1,
    ),
    PlanExtended(
        tasks=(WHOLE_TASK, TaskNode("more")),
        edges=(TaskEdge("whole~2", "more"),),
        routes={"more": "py"},
        others={"more": ("shell",)},
        fallback_routes={"whole~2": ("shell", "py")},
        decided=(EdgeDecided(source_task_id="z", verdict=VERDICT),),
    ),
    PlanCompleted(),
    OrchestrationPaused(),
    OrchestrationResumed(),
    CancelRequested(reason="enough", because="timeout"),
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


def plan_revision(expected_revision: int = 1, **fields: Any) -> PlanRevision:
    """A revision of a plan; its DAG is another one for each number."""
    dag_json = fields.pop("dag_json", b'{"tasks": [%d]}' % expected_revision)
    made = PlanRevision(
        expected_revision=expected_revision,
        dag_json=dag_json,
        dag_sha256=sha256(dag_json),
        by="person",
        reason="it needs “more”",
        told="added audit",
        at_us=NOW_US + expected_revision,
    )
    return replace(made, **fields)


def revision(number: int, seq: int | None = None, **fields: Any) -> Revision:
    """An entry in the log of an orchestration's revisions."""
    made = Revision(
        revision=number, by="planner", reason="it “broke”", told="replaced a by a~1", at_us=NOW_US, seq=seq
    )
    return replace(made, **fields)


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


def request(action: ControlAction = ControlAction.PAUSE, **fields: Any) -> ControlRequest:
    return ControlRequest(action=action, **fields)


def answer(control_id: int, **fields: Any) -> ControlAnswer:
    return replace(ControlAnswer(control_id=control_id, is_done=True), **fields)


def answers_alone(lease: Lease, *answers: ControlAnswer, **fields: Any) -> Commit:
    """A commit without events."""
    made = Commit(lease=lease, events=(), tasks=(), outputs=(), summary=summary(), answers=answers)
    return replace(made, **fields)


def cache_entry(key: str, task_id: str = "a", *, expires_at_us: int = NOW_US + DAY_US) -> CacheEntry:
    return CacheEntry(key=key, task_id=task_id, stored_at_us=NOW_US, expires_at_us=expires_at_us)


def keep(**fields: Any) -> Retention:
    """Everything for ever, but for what is said."""
    return replace(
        Retention(compact_after_seconds=None, remove_after_seconds=None, keep_finished=None), **fields
    )


async def created(storage: Storage, base_id: str = "report", **fields: Any) -> Lease:
    """Create an orchestration and return the lease that came with it; its next seq is 2."""
    lease = (await storage.create_orchestration(new_orchestration(base_id, **fields))).lease
    assert lease is not None
    return lease


def over(at_us: int = NOW_US) -> Summary:
    """The summary of an orchestration that ended at `at_us`."""
    return summary({TaskStatus.COMPLETED: 2}, state=OrchestrationStatus.COMPLETED, finished_at_us=at_us)


async def ended(
    storage: Storage,
    base_id: str = "report",
    *,
    at_us: int = NOW_US,
    outputs: Sequence[StoredOutput] = (),
    entries: int = 1,
    held: bool = False,
    **fields: Any,
) -> Lease:
    """Create an orchestration that ends at `at_us` with `entries` more in its journal; return its lease."""
    lease = await created(storage, base_id, **fields)
    events = [RetryDue(task_id=f"t{number}") for number in range(entries)]
    await storage.append([commit(lease, 2, *events, outputs=tuple(outputs), summary=over(at_us))])
    if not held:
        await storage.release_lease(lease)
    return lease


def nobody_is_gone(_: DriverIdentity, __: DriverView | None) -> bool:
    return False


def everybody_is_gone(_: DriverIdentity, __: DriverView | None) -> bool:
    return True
