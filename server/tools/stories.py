"""Why things are as they are: how a plan came about, what happened to one task, what waits for a yes.

May import: orchestration, server.{answers, schemas, tools.*, uris}, mcp types, stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_types import CallToolResult

from orchestration.engine.state import ASKS
from orchestration.errors import InvalidArgumentError
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.reports import thought_marks
from server.answers import LONG, clip, json_size, plural, take, tell
from server.schemas import Call, StatusAnswer
from server.tools.lists import again, list_alone, position, turn
from server.tools.standing import (
    answer_calls,
    approval_calls,
    approval_lines,
    approval_views,
    claim_call,
    decision_calls,
)
from server.uris import plan_uri

SHOWN_APPROVALS = 20
APPROVAL = 4_500
"""Characters of what one task would run."""
THOUGHT = 400
NOTES = 10
PART = 2_600
"""Characters of JSON of the thoughts, or of the revisions, of one plan: two of them fit into an answer."""


def tell_plan(answer: StatusAnswer, target: str, story: Mapping[str, Any]) -> CallToolResult:
    """Tell why a plan is as it is: who made it, of what thoughts, and every revision with its reason."""
    thoughts = [{**each, "text": clip(each["text"], THOUGHT)} for each in story["thoughts"]]
    revisions = [
        {name: clip(value) if isinstance(value, str) else value for name, value in each.items()}
        for each in (*story["plan_revisions"], *story["revisions"])
    ]
    shown = {
        "plan_id": story["plan_id"],
        "revision": story["revision"],
        "planner": story["planner"],
        "thinking_server": story["thinking_server"],
        "thoughts": take(thoughts, json_size, PART),
        "notes": [clip(note) for note in story["notes"][:NOTES]],
        # The latest say most about how it stands.
        "revisions": take(revisions[::-1], json_size, PART)[::-1],
    }
    answer.plan = {name: value for name, value in shown.items() if value not in (None, [], "")}
    answer.plan_id = story["plan_id"]
    of = f"{target} ({story['plan_id']})" if story["plan_id"] not in {None, target} else target
    answer.message = (
        f"The plan of {of} was made by {story['planner']}; it is at revision {story['revision']}."
    )
    list_alone(answer)
    turn(answer, "plan")
    lines = [f"goal: {clip(story['goal'])}"] if story["goal"] else []
    lines += [thought_line(each) for each in thoughts]
    lines += [f"note: {note}" for note in shown["notes"]]
    lines += [revision_line(each) for each in revisions]
    return tell(answer, lines, limit=LONG, rest=plan_uri(target))


def thought_line(thought: Mapping[str, Any]) -> str:
    """Return a thought in one line, with what it goes back to or branches off from."""
    return clip(f"thought {thought['number']}{thought_marks(thought)}: {thought['text']}", THOUGHT + 60)


def revision_line(revision: Mapping[str, Any]) -> str:
    """Return an entry of the log of revisions in one line."""
    told = f"revision {revision['revision']} by {revision['by']}, {revision['at']}: {revision['told']}"
    undoes = f" (back to revision {revision['undoes']})" if "undoes" in revision else ""
    why = f" because {revision['reason']}" if "reason" in revision else ""
    return clip(f"{told}{undoes}{why}", 400)


def plan_answer(story: Mapping[str, Any]) -> StatusAnswer:
    """Return the beginning of an answer about a stored plan: it has no state, and may be run."""
    run = Call(tool="execute_dag", arguments={"plan_id": story["plan_id"], "action": "preview"})
    return StatusAnswer(message="", next=[run])


async def tell_why(
    orchestrator: AdvancedTaskOrchestrator,
    answer: StatusAnswer,
    orchestration_id: str,
    task_id: str,
    cursor: str,
) -> CallToolResult:
    """Tell why a task stands where it does.

    Raises:
        InvalidArgumentError: No task is named.
        TaskNotFoundError: There is no such task.
    """
    if not task_id:
        raise InvalidArgumentError("task", task_id, "a task beside view=why", "Name the task.")
    why = await orchestrator.load_why(orchestration_id, task_id, before_seq=position(cursor, 0) or None)
    events = [{**each, "told": clip(each["told"], 400)} for each in why["events"]]
    kept = take(events[::-1], json_size)[::-1]
    more = why["before_seq"] if len(kept) == len(events) else kept[0]["seq"] if kept else None
    answer.why = {
        name: value
        for name, value in {
            "task_id": task_id,
            "status": why["status"],
            "system": why["system"],
            "tool": why["tool"],
            "because": why["because"],
            "note": clip(why["note"]) if why["note"] else None,
            "waits_for": [clip(each) for each in why["waits_for"]],
            "events": kept,
            "looked_through": why["looked_through"],
        }.items()
        if value not in (None, [])
    }
    is_whole = why["before_seq"] is None and not cursor
    answer.message = f"Task {task_id} of {orchestration_id} is {why['status'].replace('_', ' ')}."
    list_alone(answer)
    if more is not None:
        answer.next_cursor = str(more)
    turn(answer, "why", task=task_id)
    lines = []
    if why["because"]:
        lines.append(f"goes to {why['system']}: {why['because']}")
    lines += [f"waits for {clip(each)}" for each in why["waits_for"]]
    if why["note"]:
        lines.append(f"note: {clip(why['note'])}")
    lines += [f"#{each['seq']} {each['at']} {each['told']}" for each in kept]
    if not kept:
        lines.append("nothing has happened to it" if is_whole else "nothing happened to it in this part")
    if not is_whole:
        first, last = why["looked_through"]
        lines.append(f"looked through events {first:,} to {last:,}")
    match why["status"]:
        case "unknown":
            answer.next = decision_calls(orchestration_id, task_id)
        case "replanning" if (why["note"] or "").startswith(ASKS):
            answer.next = answer_calls(orchestration_id, task_id)[1:]
        case "offered":
            answer.next = [claim_call(orchestration_id)]
    return tell(answer, lines, limit=LONG)


async def tell_approvals(
    orchestrator: AdvancedTaskOrchestrator, answer: StatusAnswer, orchestration_id: str
) -> CallToolResult:
    """Tell what waits for a yes: which tasks, what exactly each would run, who may agree, and how."""
    views = await approval_views(orchestrator, orchestration_id, limit=SHOWN_APPROVALS, width=APPROVAL)
    total = (answer.counts or {}).get("awaiting_approval", len(views))
    list_alone(answer)
    answer.approvals = take(views, json_size)
    verb = "waits" if total == 1 else "wait"
    answer.message = f"{plural(total, 'task')} of {orchestration_id} {verb} for a yes."
    turn(answer, "approvals")
    mine = next((view for view in answer.approvals if view.who == "caller"), None)
    if mine is not None:
        answer.next = approval_calls(orchestration_id, mine)
    elif not views:
        answer.next = [again(orchestration_id=orchestration_id)]
    lines = [line for view in answer.approvals for line in approval_lines(view, APPROVAL + 1)]
    if total > len(answer.approvals):
        lines.append(f"… {plural(total - len(answer.approvals), 'more task')}")
    return tell(answer, lines, limit=LONG)
