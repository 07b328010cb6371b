"""Lists of one orchestration, a page at a time: its tasks, its parts of a task, its journal, its graph.

May import: orchestration, server.{answers, schemas, tools.standing, uris}, mcp types, stdlib.
"""

from __future__ import annotations

from mcp_types import CallToolResult

from orchestration.clock import to_iso
from orchestration.drawings import part_of
from orchestration.engine.events import Recorded
from orchestration.errors import InvalidArgumentError
from orchestration.exports import to_mermaid
from orchestration.folding import parts_of
from orchestration.models import AUTO
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.ports import TaskRow
from server.answers import LIST_BUDGET, LONG, clip, cut_lines, json_size, printable, take, tell
from server.schemas import Call, EventView, StatusAnswer, TaskView
from server.tools.standing import after_line, task_view
from server.uris import graph_uri, orchestration_uri

PAGE = 100
"""Entries read for one page; how many are shown depends on their size."""
READ_AT_ONCE = 1_000
"""Rows read at once while those of one level are looked for."""
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


def position(cursor: str, default: int) -> int:
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


async def tell_tasks(
    orchestrator: AdvancedTaskOrchestrator,
    answer: StatusAnswer,
    orchestration_id: str,
    cursor: str,
    *,
    parent: str | None = None,
) -> CallToolResult:
    """Tell a page of tasks: those that are part of no other, or the parts of one."""
    rows = await _level(orchestrator, orchestration_id, parent, position(cursor, 0) - 1)
    dag = await orchestrator.load_dag(orchestration_id)
    parts = parts_of((node.parent, node.status) for node in dag.nodes.values())
    wanted = {row.task_id for row in rows}
    upstream: dict[str, list[str]] = {}
    for edge in dag.edges:
        if edge.target_task_id in wanted:
            upstream.setdefault(edge.target_task_id, []).append(edge.source_task_id)
    answer.tasks = take(
        [
            await task_view(
                orchestrator,
                orchestration_id,
                row,
                depends_on=upstream.get(row.task_id, ()),
                parts=parts.get(row.task_id),
            )
            for row in rows[:PAGE]
        ],
        json_size,
    )
    for view in answer.tasks:
        view.parent = None  # the same for all of them
    shown = rows[: len(answer.tasks)]
    list_alone(answer)
    if len(shown) < len(rows) and shown:
        answer.next_cursor = str(shown[-1].position + 1)
    turn(answer, "tasks", **({"task": parent} if parent else {}))
    if parent is not None:
        told = parts.get(parent)
        answer.message = f"Task {parent} of {orchestration_id}: {told or 'its parts are not there yet'}."
    lines = [task_line(view) for view in answer.tasks]
    return tell(answer, lines, limit=LONG, rest=orchestration_uri(orchestration_id))


async def _level(
    orchestrator: AdvancedTaskOrchestrator, orchestration_id: str, parent: str | None, after: int
) -> list[TaskRow]:
    """Return the next tasks that are part of the same one, and one more where there are more than a page."""
    found: list[TaskRow] = []
    while len(found) <= PAGE:
        rows = await orchestrator.load_tasks(orchestration_id, after_position=after, limit=READ_AT_ONCE)
        if not rows:
            break
        found += [row for row in rows if row.parent == parent]
        after = rows[-1].position
    return found[: PAGE + 1]


def list_alone(answer: StatusAnswer) -> None:
    """Leave out what the summary tells, so that there is room for a list."""
    answer.errors = answer.running = answer.missing_systems = None
    answer.waiting_for_decision = answer.waiting_for_answer = None
    answer.your_tasks = answer.claimed = None


def turn(answer: StatusAnswer, view: str, **more: str) -> None:
    """Say how to see the next page; at the end, only what is worth waiting for or has to be decided."""
    name = answer.orchestration_id or ""
    if answer.next_cursor:
        answer.next = [again(orchestration_id=name, view=view, cursor=answer.next_cursor, **more)]
    else:
        answer.next = [
            call
            for call in answer.next
            if call.tool == "claim_task" or "wait_seconds" in call.arguments or "action" in call.arguments
        ]


def again(**arguments: str | int) -> Call:
    """Return the call that looks again, at something else."""
    return Call(tool="get_orchestration_status", arguments=dict(arguments))


def task_line(view: TaskView) -> str:
    """Return where a task stands, in one line."""
    parts = [f"- {view.task_id}: {view.parts or view.status}"]
    if view.system and view.system != AUTO:
        parts.append(f"on {view.system}")
    if view.duration_seconds is not None:
        parts.append(f"{view.duration_seconds:g} s, attempt {view.attempt}")
    if view.depends_on:
        parts.append(after_line(view.depends_on, view.more_depends_on))
    parts += [f"· {text}" for text in (view.note, view.error) if text]
    return clip(" ".join(parts))


async def tell_events(
    orchestrator: AdvancedTaskOrchestrator, answer: StatusAnswer, orchestration_id: str, after: int
) -> CallToolResult:
    """Tell a page of the journal."""
    recorded = await orchestrator.load_events(orchestration_id, after_seq=after, limit=PAGE + 1)
    views = take([_event_view(event) for event in recorded[:PAGE]], json_size)
    answer.events = views
    list_alone(answer)
    if len(views) < len(recorded) and views:
        answer.next_cursor = str(views[-1].seq)
    turn(answer, "events")
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


async def tell_graph(
    orchestrator: AdvancedTaskOrchestrator, answer: StatusAnswer, orchestration_id: str, parent: str = ""
) -> CallToolResult:
    """Tell the graph in Mermaid: parts folded into their tasks, or the parts of one task."""
    dag = await orchestrator.load_dag(orchestration_id)
    replaced = await orchestrator.load_replaced(orchestration_id)
    graph = to_mermaid(part_of(dag, parent) if parent else dag, replaced=replaced)
    lines = [printable(line) for line in graph.splitlines()]
    rest = graph_uri(orchestration_id)
    kept = cut_lines(lines, LIST_BUDGET, rest)
    while json_size("\n".join(kept)) > LIST_BUDGET * 5 // 4:  # quotes and escapes take twice their room
        kept = cut_lines(lines, sum(map(len, kept)) // 2, rest)
    answer.graph = "\n".join(kept)
    list_alone(answer)
    turn(answer, "graph")
    return tell(answer, kept, limit=LONG, rest=rest)
