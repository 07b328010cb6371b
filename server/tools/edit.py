"""The tool `edit_dag`: changes a stored plan or a running orchestration, or tells what a change would do.

May import: orchestration, server.{answers, desk, schemas, uris}, anyio, mcp types, pydantic, stdlib.

A refused edit is a failed call whose answer lists every refusal; nothing was changed then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import anyio
from mcp_types import CallToolResult
from pydantic import Field

from orchestration.edits.editing import EditRefusedError
from orchestration.edits.report import EditReport
from orchestration.edits.targets import Looked, look_at
from orchestration.errors import ControlPendingError, Problem, UnroutableTaskError
from orchestration.models import Json
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.answers import SHORT, clip, json_size, plural, seconds, take, tell
from server.desk import DeskContext, desk
from server.schemas import Call, EditAnswer, EditRefusal, Name, Operations, Revision

ANSWER_SECONDS = 40.0
"""Longest wait for whoever drives; what is stored is carried out after that, too."""
BY = "caller"
"""Who edits, in the log."""
SHOWN_REFUSALS = 8
SHOWN_NOTES = 3
SHOWN_TASKS = 40
SHOWN_REVISIONS = 5
REPEATED_CHARS = 600
"""Operations up to so long are repeated in the call that makes the edit."""


async def edit_dag(
    target: Name,
    ctx: DeskContext,
    operations: Operations = None,
    expected_revision: Revision = None,
    undo_to: Revision = None,
    dry_run: bool = False,
    reason: Annotated[str, Field(max_length=1000)] = "",
) -> Annotated[CallToolResult, EditAnswer]:
    """Change a plan or a running orchestration; operations are carried out in order, all or none. Each has `op`: add \
{task: as in decompose_goal}, set {task_id, FIELD: value}, remove {task_id, reconnect?}, link {from, to, condition?, \
is_optional?}, unlink {from, to}, skip {task_id, reason}, priority {task_id, priority}, replace {task_id, tasks, \
delivers?} (also answers what a failed task asks). Or undo_to: an earlier revision.

dry_run=true tells what would change and what follows (without operations: the graph), and the revision to send as \
expected_revision. What has ended is frozen, what runs must end first."""
    orchestrator = desk(ctx).orchestrator
    if operations in (None, [], {}) and undo_to is None and dry_run:
        return _show(await look_at(orchestrator.storage, target))
    try:
        with anyio.move_on_after(ANSWER_SECONDS) as waiting:
            report = await orchestrator.edit(
                target,
                operations if operations is not None else (),
                expected_revision=expected_revision,
                undo_to=undo_to,
                dry_run=dry_run,
                by=BY,
                reason=reason,
            )
    except (EditRefusedError, UnroutableTaskError) as refusal:
        return await _refused(orchestrator, target, refusal.problems)
    except ControlPendingError as pending:
        return _pending(target, expected_revision, str(pending))
    if waiting.cancelled_caught:
        return _pending(target, expected_revision, "Nobody has answered yet; look at it again.")
    return _told(report, dry_run=dry_run, operations=operations, undo_to=undo_to)


def _told(report: EditReport, *, dry_run: bool, operations: Json, undo_to: int | None) -> CallToolResult:
    """Return what an edit did, or would do."""
    has = f"{report.target} has revision {report.revision}"
    refused = len(report.refusals)
    if refused:
        message = f"It would be refused for {plural(refused, 'reason')}; {has}."
    elif dry_run:
        message = f"Nothing was changed yet. It would: {report.told}. {has} now."
    elif report.is_applied:
        message = f"{has} now: {report.told}."
    else:
        message = f"There was nothing to change; {has}."
    shown = _refusals(report.refusals)
    answer = EditAnswer(
        message=message,
        target=report.target,
        revision=report.revision,
        outcome="dry_run" if dry_run else "applied" if report.is_applied else "unchanged",
        changes=[clip(line) for line in (*report.lines(), *_left(report))] or None,
        refusals=shown,
        notes=[clip(note) for note in (*report.warnings, *report.notes)[:SHOWN_NOTES]] or None,
        next=_next(report, dry_run=dry_run, operations=operations, undo_to=undo_to),
    )
    return tell(answer, _lines(answer), limit=SHORT)


def _next(report: EditReport, *, dry_run: bool, operations: Json, undo_to: int | None) -> list[Call]:
    if report.refusals:
        return [_look(report.target)]
    if dry_run:
        arguments: dict[str, Json] = {"target": report.target, "expected_revision": report.revision}
        if undo_to is not None:
            arguments["undo_to"] = undo_to
        elif json_size(operations) <= REPEATED_CHARS:
            arguments["operations"] = operations
        else:
            return []
        return [Call(tool="edit_dag", arguments=arguments)]
    if report.is_plan:
        return [Call(tool="execute_dag", arguments={"plan_id": report.target})]
    return [Call(tool="get_orchestration_status", arguments={"orchestration_id": report.target})]


async def _refused(
    orchestrator: AdvancedTaskOrchestrator, target: str, problems: Sequence[Problem]
) -> CallToolResult:
    looked = await look_at(orchestrator.storage, target)
    shown = _refusals(problems)
    has = f"{looked.target.name} still has revision {looked.target.revision}"
    answer = EditAnswer(
        message=f"Refused for {plural(len(problems), 'reason')}; nothing was changed, {has}.",
        target=looked.target.name,
        revision=looked.target.revision,
        outcome="refused",
        refusals=shown,
        next=[_look(looked.target.name)],
    )
    result = tell(answer, ["code: edit_refused", *_lines(answer)], limit=SHORT)
    return result.model_copy(update={"is_error": True})


def _refusals(problems: Sequence[Problem]) -> list[EditRefusal] | None:
    found = [
        EditRefusal(at=clip(each.path, 100), problem=clip(each.message, 400), fix=clip(each.fix, 600) or None)
        for each in problems[:SHOWN_REFUSALS]
    ]
    shown = take(found, json_size)
    if len(problems) > len(shown):
        more = plural(len(problems) - len(shown), "more reason")
        shown.append(EditRefusal(at="operations", problem=f"and {more}"))
    return shown or None


def _left(report: EditReport) -> list[str]:
    """Say what is left to do with that."""
    if report.estimate is None or report.refusals:
        return []
    tasks, expected = report.estimate["tasks"], report.estimate["expected_seconds"]
    return [f"then left: {plural(int(tasks), 'task')}, about {seconds(expected)}"]


def _pending(target: str, revision: int | None, told: str) -> CallToolResult:
    answer = EditAnswer(
        message=f"The change is stored, and will be made unless something has moved on: {told}",
        target=target,
        revision=revision or 1,
        outcome="pending",
        next=[_look(target)],
    )
    return tell(answer)


def _show(looked: Looked) -> CallToolResult:
    """Return a graph and its latest revisions: what to look at before an edit."""
    dag = looked.dag
    name, revision = looked.target.name, looked.target.revision
    upstream = dag.incoming()
    tasks = [
        f"{node.task_id}{f' {node.status}' if looked.target.orchestration is not None else ''}"
        + (
            f" ← {', '.join(edge.source_task_id for edge in upstream[node.task_id])}"
            if upstream[node.task_id]
            else ""
        )
        for node in list(dag.nodes.values())[:SHOWN_TASKS]
    ]
    if len(dag.nodes) > SHOWN_TASKS:
        tasks.append(f"… {len(dag.nodes) - SHOWN_TASKS:,} more tasks")
    log = [
        f"revision {each.revision} by {each.by}: {each.told}{f' ({each.reason})' if each.reason else ''}"
        for each in looked.log[-SHOWN_REVISIONS:]
    ]
    answer = EditAnswer(
        message=f"{name} has revision {revision} and {plural(len(dag.nodes), 'task')}.",
        target=name,
        revision=revision,
        outcome="dry_run",
        notes=[clip(line) for line in log],
        next=[],
    )
    return tell(answer, [*log, *(clip(line) for line in tasks)], limit=SHORT)


def _lines(answer: EditAnswer) -> list[str]:
    lines = [f"revision: {answer.revision}"]
    lines += answer.changes or ()
    for each in answer.refusals or ():
        lines.append(f"refused: {each.at}: {each.problem}" + (f" Fix: {each.fix}" if each.fix else ""))
    lines += [f"note: {note}" for note in answer.notes or ()]
    return lines


def _look(target: str) -> Call:
    return Call(tool="edit_dag", arguments={"target": target, "dry_run": True})
