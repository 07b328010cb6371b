"""The tool `get_orchestration_status`: where things stand, in several views, from any process's orchestrations.

May import: orchestration, server.{answers, desk, schemas, tools.*, uris}, mcp types, stdlib.
"""

from __future__ import annotations

from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from orchestration.clock import to_iso
from orchestration.engine.events import Recorded
from orchestration.errors import InvalidArgumentError, TaskNotFoundError
from orchestration.exports import to_mermaid
from orchestration.models import AUTO, TERMINAL, OrchestrationStatus, TaskStatus
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.ports import TaskRow
from server.answers import (
    LIST_BUDGET,
    LONG,
    SENTENCE,
    SHORT,
    clip,
    cut_lines,
    json_size,
    middle_cut,
    plural,
    printable,
    take,
    tell,
)
from server.desk import DeskContext, desk
from server.schemas import (
    Call,
    EventView,
    Name,
    OrchestrationView,
    Seq,
    StatusAnswer,
    TaskView,
    View,
    WaitSeconds,
)
from server.tools.standing import (
    after_line,
    decision_calls,
    fill,
    final_outputs,
    next_calls,
    output_lines,
    sentence,
    standing_lines,
    task_view,
)
from server.tools.waiting import wait_until_ended
from server.uris import LIST_URI, graph_uri, orchestration_uri

UNFINISHED = [state for state in OrchestrationStatus if state not in TERMINAL]
LATEST = 5
"""Ended orchestrations that are listed when nothing is unfinished."""
_TOLD = (
    *(
        "system",
        "because",
        "delay_seconds",
        "decision",
        "by",
        "source",
        "task_ids",
        "reason",
        "note",
        "outcome",
    ),
)
"""What is told of an event, where it has it."""
PAGE = 100
"""Entries read for one page; how many are shown depends on their size."""
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
    """Say where an orchestration stands: state, counts per task status, what runs, what waits for a decision, errors, \
and the final outputs once it has ended. Works for orchestrations of any process on this database, also after a restart.

wait_seconds waits (up to 45) for the end; with since, only until something happened after that last_seq. Views: \
summary; tasks (each task's status and dependencies, paged); events (the journal, paged, after since); graph \
(Mermaid); plan (tasks and dependencies in order, paged)."""
    orchestrator = desk(ctx).orchestrator
    if not orchestration_id:
        if task or since:
            name, value = ("task", task) if task else ("since", since)
            raise InvalidArgumentError(
                name, value, "an orchestration_id beside it", "Send the orchestration_id too."
            )
        return await _list(orchestrator, cursor)
    status = await wait_until_ended(ctx, orchestration_id, wait_seconds=wait_seconds, since=since or None)
    answer = StatusAnswer(message=sentence(status), next=next_calls(status))
    fill(answer, status)
    if task:
        return await _one_task(orchestrator, answer, orchestration_id, task)
    match view:
        case "tasks" | "plan":
            return await _tasks(orchestrator, answer, orchestration_id, cursor, as_plan=view == "plan")
        case "events":
            return await _events(orchestrator, answer, orchestration_id, _position(cursor, since))
        case "graph":
            return await _graph(orchestrator, answer, orchestration_id)
        case "summary":
            answer.outputs = await final_outputs(orchestrator, status) or None
            return tell(answer, standing_lines(answer), limit=SHORT, rest=orchestration_uri(orchestration_id))


def _position(cursor: str, default: int) -> int:
    """Return the number in a cursor.

    Raises:
        InvalidArgumentError: It is none of ours.
    """
    if not cursor:
        return default
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        raise InvalidArgumentError(
            "cursor", cursor, "the next_cursor of an answer", "Leave it out for the first page."
        )
    return int(cursor)


# --- Without an id ------------------------------------------------------------------------------------------------


async def _list(orchestrator: AdvancedTaskOrchestrator, cursor: str) -> CallToolResult:
    """List what is unfinished; where nothing is, the latest that ended."""
    offset = _position(cursor, 0)
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
        next=[_again(orchestration_id=shown[0].orchestration_id)]
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
    return f" ({', '.join(marks)})" if marks else ""


def _again(**arguments: str | int) -> Call:
    return Call(tool="get_orchestration_status", arguments=dict(arguments))


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
    view = await task_view(orchestrator, orchestration_id, rows[0], limit=OUTPUT_PREVIEW, depends_on=upstream)
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
    _list_alone(answer)
    _turn(answer, "tasks")
    if rows[0].status is TaskStatus.UNKNOWN:
        answer.next = decision_calls(orchestration_id, task_id)
    lines = [f"description: {clip(node.description)}"] if node and node.description else []
    lines.append(_task_line(view))
    if reason:
        lines += ["reason:", *(f"| {line}" for line in reason.splitlines())]
    if view.output_bytes is not None:
        lines += output_lines(view, orchestration_id, OUTPUT_PREVIEW + 1)
    return tell(answer, lines, limit=LONG)


async def _tasks(
    orchestrator: AdvancedTaskOrchestrator,
    answer: StatusAnswer,
    orchestration_id: str,
    cursor: str,
    *,
    as_plan: bool,
) -> CallToolResult:
    after = _position(cursor, 0) - 1
    rows = await orchestrator.load_tasks(orchestration_id, after_position=after, limit=PAGE + 1)
    dag = await orchestrator.load_dag(orchestration_id)
    wanted = {row.task_id for row in rows}
    upstream: dict[str, list[str]] = {}
    for edge in dag.edges:
        if edge.target_task_id in wanted:
            upstream.setdefault(edge.target_task_id, []).append(edge.source_task_id)
    views: list[TaskView] = []
    for row in rows[:PAGE]:
        view = await task_view(orchestrator, orchestration_id, row, depends_on=upstream.get(row.task_id, ()))
        if as_plan:
            node = dag.nodes[row.task_id]
            system = row.system or node.system_preference
            view = TaskView(
                task_id=row.task_id,
                status=view.status,
                depends_on=view.depends_on,
                more_depends_on=view.more_depends_on,
                system=system,
            )
            view.note = clip(node.description, 100) or None
        views.append(view)
    answer.tasks = take(views, json_size)
    shown = rows[: len(answer.tasks)]
    _page(answer, shown, "plan" if as_plan else "tasks", has_more=len(shown) < len(rows))
    lines = [_task_line(view) for view in answer.tasks]
    return tell(answer, lines, limit=LONG, rest=orchestration_uri(orchestration_id))


def _list_alone(answer: StatusAnswer) -> None:
    """Leave out what the summary tells, so that there is room for a list."""
    answer.errors = answer.running = answer.waiting_for_decision = answer.missing_systems = None


def _page(answer: StatusAnswer, shown: list[TaskRow], view: str, *, has_more: bool) -> None:
    _list_alone(answer)
    if has_more and shown:
        answer.next_cursor = str(shown[-1].position + 1)
    _turn(answer, view)


def _turn(answer: StatusAnswer, view: str) -> None:
    """Say how to see the next page; at the end, only what is worth waiting for or has to be decided."""
    name = answer.orchestration_id or ""
    if answer.next_cursor:
        answer.next = [_again(orchestration_id=name, view=view, cursor=answer.next_cursor)]
    else:
        answer.next = [
            call for call in answer.next if "wait_seconds" in call.arguments or "action" in call.arguments
        ]


def _task_line(view: TaskView) -> str:
    parts = [f"- {view.task_id}: {view.status}"]
    if view.system and view.system != AUTO:
        parts.append(f"on {view.system}")
    if view.duration_seconds is not None:
        parts.append(f"{view.duration_seconds:g} s, attempt {view.attempt}")
    if view.depends_on:
        parts.append(after_line(view.depends_on, view.more_depends_on))
    parts += [f"· {text}" for text in (view.note, view.error) if text]
    return clip(" ".join(parts))


async def _events(
    orchestrator: AdvancedTaskOrchestrator, answer: StatusAnswer, orchestration_id: str, after: int
) -> CallToolResult:
    recorded = await orchestrator.load_events(orchestration_id, after_seq=after, limit=PAGE + 1)
    views = take([_event_view(event) for event in recorded[:PAGE]], json_size)
    answer.events = views
    _list_alone(answer)
    if len(views) < len(recorded) and views:
        answer.next_cursor = str(views[-1].seq)
    _turn(answer, "events")
    lines = [
        clip(
            f"#{view.seq} {view.at} {view.type}{_subject(view)}" + (f": {view.detail}" if view.detail else "")
        )
        for view in views
    ] or ["no events after that"]
    return tell(answer, lines, limit=LONG)


def _subject(view: EventView) -> str:
    if view.task_id is None:
        return ""
    return f" {view.task_id}" + (f"#{view.attempt}" if view.attempt is not None else "")


def _event_view(recorded: Recorded) -> EventView:
    event = recorded.event
    error = getattr(event, "error", None)
    details = [f"{error.code}: {error.message}"] if error else []
    for name in _TOLD:
        value = getattr(event, name, None)
        if value not in (None, "", ()):
            details.append(f"{name} {_told(value)}")
    return EventView(
        seq=recorded.seq,
        at=to_iso(recorded.at_us) or "",
        type=event.type,
        task_id=getattr(event, "task_id", None),
        attempt=getattr(event, "attempt", None),
        detail=clip("; ".join(details), 200) if details else None,
    )


def _told(value: object) -> str:
    match value:
        case float():
            return f"{value:.3g}"
        case tuple():
            return clip(", ".join(map(str, value)), 120)
        case _:
            return str(getattr(value, "value", value))


async def _graph(
    orchestrator: AdvancedTaskOrchestrator, answer: StatusAnswer, orchestration_id: str
) -> CallToolResult:
    graph = to_mermaid(await orchestrator.load_dag(orchestration_id))
    lines = [printable(line) for line in graph.splitlines()]
    rest = graph_uri(orchestration_id)
    kept = cut_lines(lines, LIST_BUDGET, rest)
    while json_size("\n".join(kept)) > LIST_BUDGET * 5 // 4:  # quotes and escapes take twice their room
        kept = cut_lines(lines, sum(map(len, kept)) // 2, rest)
    answer.graph = "\n".join(kept)
    _list_alone(answer)
    _turn(answer, "graph")
    return tell(answer, kept, limit=LONG, rest=rest)
