"""Tells the log what waits for a person from now on: nothing else may tell whoever runs this.

May import: orchestration.logs, orchestration.engine.*, stdlib.
"""

from __future__ import annotations

from orchestration.engine.events import (
    ApprovalRequested,
    AttemptLeftOpen,
    CallerAsked,
    Recorded,
    VerificationUnclear,
)
from orchestration.engine.state import State
from orchestration.logs import get_logger

log = get_logger()


def tell_open(state: State, events: list[Recorded]) -> None:
    """Log the tasks that wait for a decision, an agreement or an answer from now on.

    One with a `verify` waits for its answer first, and for a decision only once that was unclear.
    """
    for recorded in events:
        event = recorded.event
        match event:
            case AttemptLeftOpen() if state.tasks[event.task_id].node.verify is None:
                told, operation = (
                    "Nobody knows how an attempt ended; its task waits for a decision",
                    "TASK_UNKNOWN",
                )
                reason = event.error.message
            case VerificationUnclear():
                told, operation = (
                    "Nobody knows how an attempt ended; its task waits for a decision",
                    "TASK_UNKNOWN",
                )
                reason = event.reason
            case ApprovalRequested():
                told, operation = "A task waits for somebody to agree to it", "APPROVAL_REQUESTED"
                reason = state.tasks[event.task_id].node.approval or ""
            case CallerAsked():
                told, operation = (
                    "Nobody has an alternative to a failed task; it waits for an answer",
                    "CALLER_ASKED",
                )
                reason = event.reason
            case _:
                continue
        log.warning(
            told,
            operation=operation,
            orchestration_id=recorded.orchestration_id,
            task_id=event.task_id,
            reason=reason,
        )
