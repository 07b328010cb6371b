"""A control request as the engine's input, with the output it may bring.

May import: orchestration.{errors, models, options, ports}, orchestration.engine.inputs,
orchestration.execution.outputs, orchestration.systems.base, stdlib.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias, assert_never

from orchestration.engine.inputs import Cancel, Decide, Pause, Resume, Retry
from orchestration.errors import AttemptFailedError, InvalidArgumentError
from orchestration.execution.outputs import encode_output
from orchestration.models import OrchestrationId, as_unicode
from orchestration.options import Limits
from orchestration.ports import ControlAction, ControlRequest, StoredOutput
from orchestration.systems.base import bounded

Request: TypeAlias = Pause | Resume | Cancel | Retry | Decide
"""What people and agents ask for."""


def input_of(
    orchestration_id: OrchestrationId, request: ControlRequest, limits: Limits
) -> tuple[Request, StoredOutput | None]:
    """Return the engine's input for a request and, with the decision `done`, the output to be stored with it.

    Raises:
        InvalidArgumentError: The request is incomplete, or its output is too large.
    """
    request = replace(
        request, reason=bounded(as_unicode(request.reason)), by=bounded(as_unicode(request.by), 100)
    )
    match request.action:
        case ControlAction.PAUSE:
            return Pause(orchestration_id=orchestration_id, reason=request.reason), None
        case ControlAction.RESUME:
            return Resume(orchestration_id=orchestration_id), None
        case ControlAction.CANCEL:
            return Cancel(orchestration_id=orchestration_id, reason=request.reason), None
        case ControlAction.RETRY:
            return Retry(
                orchestration_id=orchestration_id, task_ids=request.task_ids, reason=request.reason
            ), None
        case ControlAction.DECIDE:
            return _decide(orchestration_id, request, limits)
        case _:
            assert_never(request.action)


def _decide(
    orchestration_id: OrchestrationId, request: ControlRequest, limits: Limits
) -> tuple[Decide, StoredOutput | None]:
    if len(request.task_ids) != 1:
        raise InvalidArgumentError("tasks", list(request.task_ids), "exactly one task for `decide`")
    if request.decision is None:
        raise InvalidArgumentError("decision", None, "retry, done or failed")
    task_id = request.task_ids[0]
    item = Decide(
        orchestration_id=orchestration_id,
        task_id=task_id,
        decision=request.decision,
        by=request.by,
        reason=request.reason,
    )
    if request.decision != "done":
        return item, None
    try:
        value, output, stored = encode_output(task_id, request.output, limits)
    except AttemptFailedError as exc:
        raise InvalidArgumentError("output", "…", "JSON that is not too large", str(exc)) from exc
    return (
        Decide(
            orchestration_id=orchestration_id,
            task_id=task_id,
            decision="done",
            by=request.by,
            reason=request.reason,
            output=output,
            value=value,
        ),
        stored,
    )
