"""Which moves a task and an orchestration may make. `docs/state-machine.md` is generated from these tables.

May import: orchestration.models, stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestration.models import OrchestrationStatus, TaskStatus

TASK_TRANSITIONS: Mapping[TaskStatus, Mapping[TaskStatus, str]] = {
    TaskStatus.PENDING: {
        TaskStatus.READY: "every edge decided, no required one dead",
        TaskStatus.SKIPPED: "a required edge is dead",
        TaskStatus.FAILED: "a required edge can't be decided",
        TaskStatus.PAUSED: "an upstream is being replanned",
        TaskStatus.EXPANDED: "its children begin anew",
        TaskStatus.SUPERSEDED: "removed from the plan",
        TaskStatus.CANCELLED: "cancel",
    },
    TaskStatus.READY: {
        TaskStatus.RUNNING: "attempt started",
        TaskStatus.COMPLETED: "a cached or earlier result is used",
        TaskStatus.AWAITING_APPROVAL: "somebody is asked to agree",
        TaskStatus.OFFERED: "offered to agents",
        TaskStatus.CLAIMED: "late report, and nobody else has it",
        TaskStatus.EXPANDED: "its children begin",
        TaskStatus.FAILED: "its list, or what is to be agreed to, can't be had",
        TaskStatus.PENDING: "an edge was added",
        TaskStatus.SKIPPED: "somebody wants it skipped",
        TaskStatus.SUPERSEDED: "removed from the plan",
        TaskStatus.CANCELLED: "cancel",
    },
    TaskStatus.AWAITING_APPROVAL: {
        TaskStatus.READY: "agreed to, or changed",
        TaskStatus.FAILED: "refused",
        TaskStatus.PENDING: "an edge was added",
        TaskStatus.SKIPPED: "somebody wants it skipped",
        TaskStatus.SUPERSEDED: "removed from the plan",
        TaskStatus.CANCELLED: "cancel",
    },
    TaskStatus.OFFERED: {
        TaskStatus.CLAIMED: "a worker takes it, or reports late",
        TaskStatus.READY: "changed",
        TaskStatus.REPLANNING: "its worker replaces it by tasks",
        TaskStatus.PENDING: "an edge was added",
        TaskStatus.SKIPPED: "somebody wants it skipped",
        TaskStatus.SUPERSEDED: "removed from the plan",
        TaskStatus.CANCELLED: "cancel",
    },
    TaskStatus.CLAIMED: {
        TaskStatus.COMPLETED: "reported done, and accepted",
        TaskStatus.OFFERED: "its worker gave it back",
        TaskStatus.RETRYING: "failed, not accepted or run out; retry scheduled",
        TaskStatus.READY: "another system or the fallback takes over",
        TaskStatus.REPLANNING: "out of attempts, alternative asked for",
        TaskStatus.FAILED: "out of attempts",
        TaskStatus.UNKNOWN: "not idempotent, and nobody knows how the claim ended",
        TaskStatus.CANCELLED: "cancel",
    },
    TaskStatus.EXPANDED: {
        TaskStatus.COMPLETED: "its children have settled",
        TaskStatus.FAILED: "a child has failed",
        TaskStatus.CANCELLED: "cancel",
    },
    TaskStatus.RUNNING: {
        TaskStatus.COMPLETED: "attempt succeeded",
        TaskStatus.RETRYING: "attempt failed, retry scheduled",
        TaskStatus.REPLANNING: "out of attempts, alternative asked for",
        TaskStatus.FAILED: "out of attempts",
        TaskStatus.READY: "attempt interrupted, or another system or the fallback takes over",
        TaskStatus.UNKNOWN: "not idempotent, and nobody knows how the attempt ended",
        TaskStatus.CANCELLED: "cancel",
    },
    TaskStatus.UNKNOWN: {
        TaskStatus.COMPLETED: "decided: done",
        TaskStatus.READY: "decided: retry",
        TaskStatus.CLAIMED: "late report, and nobody else has it",
        TaskStatus.PENDING: "decided: retry, when what it is a part of has begun again",
        TaskStatus.FAILED: "decided: failed",
        TaskStatus.SKIPPED: "what it is a part of is skipped",
        TaskStatus.CANCELLED: "cancel",
    },
    TaskStatus.RETRYING: {
        TaskStatus.READY: "back-off over, or changed",
        TaskStatus.CLAIMED: "late report, and nobody else has it",
        TaskStatus.SKIPPED: "somebody wants it skipped",
        TaskStatus.CANCELLED: "cancel",
    },
    TaskStatus.REPLANNING: {
        TaskStatus.SUPERSEDED: "alternative found",
        TaskStatus.FAILED: "no alternative",
        TaskStatus.READY: "to be run again, as it is or changed",
        TaskStatus.COMPLETED: "whoever was asked did it",
        TaskStatus.CANCELLED: "cancel",
    },
    TaskStatus.PAUSED: {
        TaskStatus.PENDING: "the replanning ended, or can't matter any more",
        TaskStatus.SKIPPED: "a required edge is dead",
        TaskStatus.FAILED: "a required edge can't be decided",
        TaskStatus.SUPERSEDED: "removed from the plan",
        TaskStatus.CANCELLED: "cancel",
    },
    TaskStatus.COMPLETED: {},
    TaskStatus.FAILED: {TaskStatus.PENDING: "retry"},
    TaskStatus.CANCELLED: {
        TaskStatus.PENDING: "retry",
        TaskStatus.UNKNOWN: "retry of what may have happened already",
    },
    TaskStatus.SKIPPED: {TaskStatus.PENDING: "retry of what it was skipped for"},
    TaskStatus.SUPERSEDED: {},
}
"""Legal moves of a task, each with what makes it."""

ORCHESTRATION_TRANSITIONS: Mapping[OrchestrationStatus, Mapping[OrchestrationStatus, str]] = {
    OrchestrationStatus.PLANNING: {
        OrchestrationStatus.RUNNING: "the plan is whole",
        OrchestrationStatus.CANCELLING: "cancel, or the plan will never be whole",
    },
    OrchestrationStatus.RUNNING: {
        OrchestrationStatus.PAUSED: "pause",
        OrchestrationStatus.CANCELLING: "cancel",
        OrchestrationStatus.COMPLETED: "all settled, every failure tolerated",
        OrchestrationStatus.FAILED: "all settled",
    },
    OrchestrationStatus.PAUSED: {
        OrchestrationStatus.RUNNING: "resume",
        OrchestrationStatus.CANCELLING: "cancel",
        OrchestrationStatus.COMPLETED: "all settled, every failure tolerated",
        OrchestrationStatus.FAILED: "all settled",
    },
    OrchestrationStatus.CANCELLING: {
        OrchestrationStatus.CANCELLED: "every attempt ended",
        OrchestrationStatus.COMPLETED: "everything had completed before it could be stopped",
        OrchestrationStatus.FAILED: "everything had ended before it could be stopped",
    },
    OrchestrationStatus.COMPLETED: {},
    OrchestrationStatus.FAILED: {
        OrchestrationStatus.RUNNING: "retry",
        OrchestrationStatus.PLANNING: "retry of a plan that was never whole",
    },
    OrchestrationStatus.CANCELLED: {
        OrchestrationStatus.RUNNING: "retry",
        OrchestrationStatus.PLANNING: "retry of a plan that was never whole",
    },
}
"""Legal moves of an orchestration, each with what makes it."""


def to_markdown() -> str:
    """Return the page `docs/state-machine.md`: both tables as Mermaid state diagrams."""
    return "\n".join(
        [
            "# State machine",
            "",
            "Generated from `orchestration/engine/transitions.py` by `python -m orchestration.engine.transitions`;",
            "a test compares. Any other move raises `InvalidTransitionError` with the events that led there.",
            "",
            "## A task",
            "",
            *_diagram(("pending",), TASK_TRANSITIONS),
            "",
            "## An orchestration",
            "",
            *_diagram(("running", "planning"), ORCHESTRATION_TRANSITIONS),
            "",
        ]
    )


def _diagram(
    firsts: tuple[str, ...],
    table: Mapping[TaskStatus, Mapping[TaskStatus, str]]
    | Mapping[OrchestrationStatus, Mapping[OrchestrationStatus, str]],
) -> list[str]:
    """Return one table as the lines of a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", *(f"    [*] --> {first}" for first in firsts)]
    for start, moves in table.items():
        lines += [f"    {start} --> {finish}: {why}" for finish, why in moves.items()]
        if not moves:
            lines.append(f"    {start} --> [*]")
    return [*lines, "```"]


if __name__ == "__main__":
    import sys

    sys.stdout.write(to_markdown())
