"""What events say of a task: every kind that can be about one has its words, and none speaks of another's."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from orchestration.engine import events
from orchestration.engine.events import (
    ApprovalGiven,
    ApprovalRequested,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    CallerAsked,
    EdgeVerdict,
    Event,
    FallbackStarted,
    PlanEdited,
    PlanRevised,
    ReplanRequested,
    ResultReused,
    RetryRequested,
    RetryScheduled,
    TaskDecided,
    TaskExpanded,
    TaskRerouted,
    TasksCancelled,
    TaskSkipped,
)
from orchestration.engine.inputs import OutputRef
from orchestration.event_words import words_about
from orchestration.models import ErrorRecord, TaskEdge, TaskNode

ERROR = ErrorRecord(code="timeout", message="It took too long.")
OUTPUT = OutputRef(sha256="", size_bytes=0)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (AttemptStarted(task_id="a", attempt=2, system="jobs"), "attempt 2 started on jobs"),
        (
            AttemptFailed(task_id="a", attempt=1, error=ERROR),
            "attempt 1 failed: timeout: It took too long.",
        ),
        (
            RetryScheduled(task_id="a", attempt=1, delay_seconds=2.04, due_at_us=0),
            "tried again in 2.0 s",
        ),
        (
            TaskRerouted(task_id="a", attempt=3, system="other"),
            "its system used up its attempts: it goes to other",
        ),
        (FallbackStarted(task_id="a", attempt=3), "its fallback takes over"),
        (
            ApprovalRequested(task_id="a", digest="d", shown="pay 5"),
            "somebody is asked to agree to exactly this: pay 5",
        ),
        (ApprovalGiven(task_id="a", digest="d", by="person", reason="fine"), "person agreed: fine"),
        (
            CallerAsked(task_id="a", reason="no playbook fits"),
            "nobody had an alternative, so whoever submitted it is asked how to go on: no playbook fits",
        ),
        (TaskExpanded(task_id="a", count=3), "its list has 3 items: one part each"),
        (TaskExpanded(task_id="a"), "its parts begin"),
        (TaskSkipped(task_id="a", because="up"), "skipped: nothing came from up"),
        (TaskSkipped(task_id="a", because="", reason="not today"), "skipped: not today"),
        (TasksCancelled(task_ids=("b", "a")), "cancelled"),
        (RetryRequested(task_ids=("a",), reason="the disk is mended"), "begins anew: the disk is mended"),
        (ReplanRequested(task_id="b", error=ERROR, paused=("a",)), "waits while an alternative is made for b"),
        (
            ResultReused(task_id="a", output=OUTPUT, source="x-1:a", because="cache"),
            "completed by an equal task's cached output, of x-1:a; no attempt was made",
        ),
        (TaskDecided(task_id="a", decision="done", by="caller"), "decided by caller: done"),
        (
            PlanRevised(
                task_id="a", revision=2, tasks=(TaskNode("b~1"),), edges=(), routes={}, delivers="b~1",
                reason="the disk was full",
            ),
            "replaced by b~1 in revision 2 by planner: the disk was full",
        ),
        (
            PlanRevised(task_id="b", revision=2, tasks=(TaskNode("a"),), edges=(), routes={}, delivers="a"),
            "came in the place of b in revision 2 by planner",
        ),
        (
            PlanEdited(revision=3, by="person", changed=(TaskNode("a"),), linked=(TaskEdge("x", "a"),)),
            "changed and given a new upstream in revision 3 by person",
        ),
        (
            AttemptSucceeded(
                task_id="up", attempt=1, output=OUTPUT,
                verdicts=(EdgeVerdict(target_task_id="a", delivers=False, warning="no rows"),),
            ),
            "the edge from up is dead: no rows",
        ),
    ],
)  # fmt: skip
def test_an_event_about_a_task_says_what_happened_to_it(event: Event, told: str) -> None:
    """In the words of whoever asks why; of a task it does not name it says nothing."""
    assert words_about(event, "a") == told
    assert words_about(event, "somebody-else") is None


def test_every_kind_of_event_about_one_task_has_words() -> None:
    """A new one that is forgotten here would leave a gap in the story of a task."""
    samples: dict[str, Any] = {
        "task_id": "a",
        "attempt": 1,
        "error": ERROR,
        "output": OUTPUT,
        "because": "cache",
        "task_ids": ("a",),
        "tasks": (),
        "edges": (),
        "routes": {},
        "revision": 2,
        "delay_seconds": 1.0,
        "due_at_us": 0,
    }
    silent = []
    for kind in get_args(events.Event):
        fields = {field.name: field for field in dataclasses.fields(kind)}
        if "task_id" not in fields:
            continue
        needed = {
            name: samples.get(name, "x")
            for name, field in fields.items()
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        if words_about(kind(**needed), "a") is None:
            silent.append(kind.__name__)

    assert silent == []
