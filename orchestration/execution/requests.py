"""A control request as the engine's input, with the output it may bring.

May import: orchestration.{dag, errors, models, options, ports}, orchestration.engine.inputs,
orchestration.execution.outputs, orchestration.systems.base, stdlib.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias, assert_never

from orchestration.dag import TaskDAG
from orchestration.engine.inputs import (
    AlternativeFound,
    Approve,
    Cancel,
    ClaimTaken,
    Decide,
    EditPlan,
    Pause,
    ReportClaim,
    Resume,
    Retry,
)
from orchestration.errors import AttemptFailedError, InvalidArgumentError
from orchestration.execution.outputs import encode_output
from orchestration.models import AGENT, OrchestrationId, TaskId, as_unicode
from orchestration.options import Limits
from orchestration.ports import ControlAction, ControlRequest, Edit, Graft, StoredOutput
from orchestration.systems.base import bounded, error_record

Request: TypeAlias = (
    Pause
    | Resume
    | Cancel
    | Retry
    | Decide
    | Approve
    | EditPlan
    | AlternativeFound
    | ClaimTaken
    | ReportClaim
)
"""What people and agents ask for."""


def input_of(
    orchestration_id: OrchestrationId, request: ControlRequest, limits: Limits, jitter: float = 1.0
) -> tuple[Request, StoredOutput | None]:
    """Return the engine's input for a request and, where it brings one, the output to be stored with it.

    Args:
        orchestration_id: The orchestration.
        request: The request.
        limits: Sizes of outputs.
        jitter: Drawn from [0, 1), for the back-off of a claim that came to nothing.

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
        case ControlAction.APPROVE | ControlAction.REJECT:
            return _approve(orchestration_id, request), None
        case ControlAction.EDIT:
            return _edit(orchestration_id, request), None
        case ControlAction.CLAIM | ControlAction.REPORT:
            return _claim(orchestration_id, request, limits, jitter)
        case _:
            assert_never(request.action)


def _claim(
    orchestration_id: OrchestrationId, request: ControlRequest, limits: Limits, jitter: float
) -> tuple[ClaimTaken | ReportClaim, StoredOutput | None]:
    """Return what a worker did or said; an output that can't be used is the attempt's failure."""
    note = request.claim
    if note is None:
        raise InvalidArgumentError("claim", None, "the claim that was made, or is reported of")
    if note.report is None:
        return (
            ClaimTaken(
                orchestration_id=orchestration_id,
                task_id=note.task_id,
                number=note.number,
                claim=note.claim_id,
                worker=note.worker,
            ),
            None,
        )
    report = note.report
    item = ReportClaim(
        orchestration_id=orchestration_id,
        task_id=note.task_id,
        claim=note.claim_id,
        status=report.status,
        reason=bounded(as_unicode(report.summary)),
        has_begun=note.has_begun,
        alternative=None if request.edit is None else _grafted(orchestration_id, request),
        jitter=jitter,
    )
    if report.status != "done":
        return item, None
    try:
        value, output, stored = encode_output(note.task_id, report.output, limits)
    except AttemptFailedError as exc:
        return replace(item, error=error_record(exc, AGENT, note.attempt)), None
    return replace(item, value=value, output=output), stored


def _grafted(orchestration_id: OrchestrationId, request: ControlRequest) -> AlternativeFound:
    found = _edit(orchestration_id, request)
    if not isinstance(found, AlternativeFound):
        raise InvalidArgumentError("edit", "a change of the graph", "tasks in place of the claimed one")
    return found


def _decide(
    orchestration_id: OrchestrationId, request: ControlRequest, limits: Limits
) -> tuple[Decide, StoredOutput | None]:
    task_id = _only_task(request)
    if request.decision is None:
        raise InvalidArgumentError("decision", None, "retry, done or failed")
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


def _only_task(request: ControlRequest) -> TaskId:
    if len(request.task_ids) != 1:
        expected = f"exactly one task for `{request.action}`"
        raise InvalidArgumentError("tasks", list(request.task_ids), expected)
    return request.task_ids[0]


def _approve(orchestration_id: OrchestrationId, request: ControlRequest) -> Approve:
    return Approve(
        orchestration_id=orchestration_id,
        task_id=_only_task(request),
        is_approved=request.action is ControlAction.APPROVE,
        digest=request.digest,
        by=request.by,
        reason=request.reason,
    )


def _edit(orchestration_id: OrchestrationId, request: ControlRequest) -> EditPlan | AlternativeFound:
    """Return a change of the graph, or an alternative for a task whose failure is asked about."""
    match request.edit:
        case Edit() as edit:
            return EditPlan(
                orchestration_id=orchestration_id,
                expected_revision=edit.expected_revision,
                change=edit.change,
                values=edit.values,
                by=request.by,
                reason=request.reason,
                undoes=edit.undoes,
            )
        case Graft() as graft:
            dag = TaskDAG(graft.task_id)
            for node in graft.tasks:
                dag.nodes[node.task_id] = node
            dag.edges = list(graft.edges)
            return AlternativeFound(
                orchestration_id=orchestration_id,
                task_id=graft.task_id,
                dag=dag,
                routes=graft.routes,
                delivers=graft.delivers,
                reason=request.reason,
                by=request.by,
                expected_revision=graft.expected_revision,
            )
        case None:
            raise InvalidArgumentError("edit", None, "the change of the graph")
