"""The tool `get_orchestration_status`: where things stand, in several views, from any process's orchestrations.

May import: orchestration, server.{answers, desk, schemas, tools.*, uris}, mcp types, stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from orchestration.errors import InvalidArgumentError, TaskNotFoundError
from orchestration.folding import parts_of
from orchestration.models import TERMINAL, OrchestrationStatus, TaskStatus
from orchestration.orchestrator import AdvancedTaskOrchestrator
from server.answers import (
    LONG,
    SENTENCE,
    SHORT,
    clip,
    json_size,
    middle_cut,
    plural,
    printable,
    take,
    tell,
)
from server.desk import DeskContext, desk
from server.schemas import Call, Name, OrchestrationView, Seq, StatusAnswer, View, WaitSeconds
from server.tools.lists import (
    PAGE,
    again,
    list_alone,
    position,
    task_line,
    tell_events,
    tell_graph,
    tell_tasks,
    turn,
)
from server.tools.standing import (
    answer_calls,
    approval_views,
    claim_call,
    decision_calls,
    describe_offers,
    fill,
    final_outputs,
    next_calls,
    output_lines,
    sentence,
    standing_lines,
    task_view,
)
from server.tools.stories import plan_answer, tell_approvals, tell_plan, tell_why
from server.tools.waiting import wait_until_ended
from server.uris import LIST_URI, orchestration_uri

UNFINISHED = [state for state in OrchestrationStatus if state not in TERMINAL]
LATEST = 5
"""Ended orchestrations that are listed when nothing is unfinished."""
OUTPUT_PREVIEW = 2_500
"""Characters of the output of the one task that was asked for."""
ERROR_SHOWN = 2_000
"""Characters of its error."""


async def get_orchestration_status(
    ctx: DeskContext,
    orchestration_id: Annotated[Name, Field(description="Omit to list what is unfinished")] = "",
    task: Annotated[Name, Field(description="One task: status, error, output")] = "",
    view: View = "summary",
    since: Annotated[Seq, Field(description="A last_seq: events after it; ends waiting at the first")] = 0,
    cursor: Annotated[Name, Field(description="next_cursor of the page before")] = "",
    wait_seconds: WaitSeconds = 0,
) -> Annotated[CallToolResult, StatusAnswer]:
    """Say where an orchestration stands: state, counts per task status, what runs, what waits for a decision, an \
answer, a yes or a worker, errors, and the final outputs once it has ended; of any process on this database, after a \
restart too.

wait_seconds waits for the end; with since, only until something happened after that last_seq. Views: summary; tasks \
(parts folded into their task; with task, its parts; paged); events (the journal after since, paged); graph \
(Mermaid); approvals (what exactly would run); why (with task: which system and why, what it waits for, what \
happened); plan (who planned it, the thoughts, every revision and why; takes a plan_id too)."""
    orchestrator = desk(ctx).orchestrator
    if not orchestration_id:
        if task or since:
            name, value = ("task", task) if task else ("since", since)
            raise InvalidArgumentError(
                name, value, "an orchestration_id beside it", "Send the orchestration_id too."
            )
        return await _list(orchestrator, cursor)
    story = await orchestrator.load_plan_story(orchestration_id) if view == "plan" else {}
    if story and "orchestration_id" not in story:
        return tell_plan(plan_answer(story), orchestration_id, story)
    status = await wait_until_ended(ctx, orchestration_id, wait_seconds=wait_seconds, since=since or None)
    answer = StatusAnswer(message=sentence(status), next=next_calls(status))
    fill(answer, status)
    match view:
        case "plan":
            return tell_plan(answer, orchestration_id, story)
        case "why":
            return await tell_why(orchestrator, answer, orchestration_id, task, cursor)
        case "approvals":
            return await tell_approvals(orchestrator, answer, orchestration_id)
        case "graph":
            return await tell_graph(orchestrator, answer, orchestration_id, task)
        case "tasks" if not task or await _has_parts(orchestrator, orchestration_id, task):
            return await tell_tasks(orchestrator, answer, orchestration_id, cursor, parent=task or None)
        case "events" if not task:
            return await tell_events(orchestrator, answer, orchestration_id, position(cursor, since))
    if task:
        return await _one_task(orchestrator, answer, orchestration_id, task)
    return await _summary(orchestrator, answer, status)


async def _summary(
    orchestrator: AdvancedTaskOrchestrator, answer: StatusAnswer, status: Mapping[str, Any]
) -> CallToolResult:
    name = status["orchestration_id"]
    if status["waiting_for_approval"]:
        answer.approvals = await approval_views(orchestrator, name) or None
        answer.next = next_calls(status, answer.approvals or ())
    await describe_offers(orchestrator, answer)
    answer.outputs = await final_outputs(orchestrator, status) or None
    return tell(answer, standing_lines(answer), limit=SHORT, rest=orchestration_uri(name))


async def _has_parts(orchestrator: AdvancedTaskOrchestrator, orchestration_id: str, task_id: str) -> bool:
    rows = await orchestrator.load_tasks(orchestration_id, task_ids=[task_id])
    return any(row.is_composite for row in rows)


# --- Without an id ------------------------------------------------------------------------------------------------


async def _list(orchestrator: AdvancedTaskOrchestrator, cursor: str) -> CallToolResult:
    """List what is unfinished; where nothing is, the latest that ended."""
    offset = position(cursor, 0)
    found = await orchestrator.list_orchestrations(states=UNFINISHED, limit=PAGE + 1, offset=offset)
    unfinished = bool(found) or offset > 0
    if not unfinished:
        found = await orchestrator.list_orchestrations(limit=LATEST)
    views = [
        OrchestrationView(
            orchestration_id=status["orchestration_id"],
            goal=clip(status["goal"], 100),
            state=status["state"],
            progress_percentage=round(status["progress_percentage"], 1),
            orphaned=status["orphaned"] or None,
            waiting_for_decision=status["counts"].get("unknown"),
            waiting_for_approval=status["counts"].get("awaiting_approval"),
            waiting_for_worker=status["counts"].get("offered"),
        )
        for status in found
    ]
    shown = take(views[:PAGE], json_size)
    has_more = unfinished and len(shown) < len(found)
    if unfinished:
        verb = "is" if len(shown) == 1 else "are"
        more = ", and there are more" if has_more else ""
        message = f"{plural(len(shown), 'orchestration')} {verb} unfinished{more}."
    else:
        message = "Nothing is unfinished" + (
            "; these ended last." if shown else ", and nothing was ever started here."
        )
    answer = StatusAnswer(
        message=message,
        orchestrations=shown,
        next_cursor=str(offset + len(shown)) if has_more else None,
        next=[again(orchestration_id=shown[0].orchestration_id)]
        if shown
        else [
            Call(tool="decompose_goal", arguments={"goal": "Report on the health of this Python codebase"})
        ],
    )
    lines = [
        f"- {view.orchestration_id}: {view.state}{_marks(view)}, {view.progress_percentage:g} %"
        + (f": {view.goal}" if view.goal else "")
        for view in shown
    ]
    return tell(answer, lines, limit=SHORT, rest=LIST_URI)


def _marks(view: OrchestrationView) -> str:
    marks = ["nobody drives it"] if view.orphaned else []
    if view.waiting_for_decision:
        marks.append(f"{view.waiting_for_decision:,} to decide")
    if view.waiting_for_approval:
        marks.append(f"{view.waiting_for_approval:,} to approve")
    if view.waiting_for_worker:
        marks.append(f"{view.waiting_for_worker:,} to claim")
    return f" ({', '.join(marks)})" if marks else ""


# --- Views of one -------------------------------------------------------------------------------------------------


async def _one_task(
    orchestrator: AdvancedTaskOrchestrator, answer: StatusAnswer, orchestration_id: str, task_id: str
) -> CallToolResult:
    rows = await orchestrator.load_tasks(orchestration_id, task_ids=[task_id])
    if not rows:
        known = await orchestrator.load_tasks(orchestration_id, limit=20)
        raise TaskNotFoundError(orchestration_id, task_id, [row.task_id for row in known])
    dag = await orchestrator.load_dag(orchestration_id)
    upstream = [edge.source_task_id for edge in dag.edges if edge.target_task_id == task_id]
    parts = parts_of((node.parent, node.status) for node in dag.nodes.values()).get(task_id)
    view = await task_view(
        orchestrator, orchestration_id, rows[0], limit=OUTPUT_PREVIEW, depends_on=upstream, parts=parts
    )
    node = dag.nodes.get(task_id)
    answer.message = f"Task {task_id} of {orchestration_id} is {view.status}" + (
        f" after {plural(view.attempt, 'attempt')}." if view.attempt else "."
    )
    error = rows[0].error
    # The line has the beginning; the end of a long reason is often what explains it, such as the last lines of stderr.
    reason = ""
    if error and len(error.message) > SENTENCE:
        reason = middle_cut("\n".join(map(printable, error.message.splitlines())), ERROR_SHOWN)
    if error and reason:
        view.error = f"{error.code}: {reason}"
    answer.tasks = [view]
    list_alone(answer)
    turn(answer, "tasks")
    match rows[0].status:
        case TaskStatus.UNKNOWN:
            answer.next = decision_calls(orchestration_id, task_id)
        case TaskStatus.REPLANNING if task_id in (answer.waiting_for_answer or {}):
            answer.next = answer_calls(orchestration_id, task_id)
        case TaskStatus.AWAITING_APPROVAL:
            answer.next = [again(orchestration_id=orchestration_id, view="approvals")]
        case TaskStatus.OFFERED:
            answer.next = [claim_call(orchestration_id)]
    lines = [f"description: {clip(node.description)}"] if node and node.description else []
    lines.append(task_line(view))
    if reason:
        lines += ["reason:", *(f"| {line}" for line in reason.splitlines())]
    if view.output_bytes is not None:
        lines += output_lines(view, orchestration_id, OUTPUT_PREVIEW + 1)
    return tell(answer, lines, limit=LONG)
