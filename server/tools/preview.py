"""What `execute_dag` answers with action=preview: what running it would take, and that nothing ran.

May import: orchestration, server.{answers, schemas}, mcp types, stdlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_types import CallToolResult

from server.answers import clip, json_size, plural, seconds, take, tell
from server.schemas import Call, Standing

SHOWN_PROBLEMS = 5
SHOWN_PATH = 10
SHOWN_APPROVALS = 10
TASKS_BUDGET = 4_000
"""Characters of JSON the list of tasks may take."""
_OF_A_TASK = (
    *(
        "task_id",
        "system",
        "tool",
        "because",
        "others",
        "fallbacks",
        "depends_on",
        "parent",
        "items",
        "approval",
    ),
    *("estimated_seconds", "seconds_from", "cost", "cost_from"),
)


def tell_preview(found: Mapping[str, Any], *, plan_id: str = "", goal: str = "") -> CallToolResult:
    """Return what running a DAG would take as an answer.

    Args:
        found: What `AdvancedTaskOrchestrator.preview` says.
        plan_id: The stored plan that was asked about.
        goal: The goal that was asked about; its plan is not stored.
    """
    stuck = len(found["problems"])
    total = plural(found["total_tasks"], "task")
    if stuck:
        message = (
            f"It can't run as it is: nothing here can run {stuck:,} of its {total}. Nothing was started."
        )
    else:
        message = (
            f"It would take about {seconds(found['expected_seconds'])} with {found['workers']:,} at once: {total}, "
            f"at most {found['width']:,} side by side. Nothing was started."
        )
    tasks = take((_task(task) for task in found["tasks"]), json_size, TASKS_BUDGET)
    preview = {
        name: found[name]
        for name in (
            *("mode", "workers", "total_tasks", "width", "critical_path_seconds", "expected_seconds"),
            *("lower_bound_seconds", "expected_cost", "estimates", "can_run"),
        )
    }
    preview |= {
        "critical_path": found["critical_path"][:SHOWN_PATH],
        "tasks": tasks,
        "more_tasks": len(found["tasks"]) - len(tasks),
        "assumed_items": dict(list(found["assumed_items"].items())[:SHOWN_APPROVALS]),
        "approvals": dict(list(found["approvals"].items())[:SHOWN_APPROVALS]),
        "problems": [
            clip(f"{each['path']}: {each['message']} Fix: {each['fix']}")
            for each in found["problems"][:SHOWN_PROBLEMS]
        ],
        "warnings": [clip(each) for each in found["warnings"][:SHOWN_PROBLEMS]],
    }
    answer = Standing(
        message=message,
        plan_id=found["plan_id"],
        preview={
            name: value
            for name, value in preview.items()
            if value not in (None, [], {}, 0) or name == "width"
        },
    )
    if not stuck and (plan_id or goal):
        what = {"plan_id": plan_id} if plan_id else {"goal": goal}
        answer.next = [Call(tool="execute_dag", arguments={**what, "wait_seconds": 30})]
    return tell(answer, _lines(found), rest="the structured content lists more tasks")


def _lines(found: Mapping[str, Any]) -> list[str]:
    path = found["critical_path"]
    more = f" … {len(path) - SHOWN_PATH:,} more" if len(path) > SHOWN_PATH else ""
    told = f"longest path: {' → '.join(path[:SHOWN_PATH])}{more}, {seconds(found['critical_path_seconds'])}"
    lines = [f"mode: {found['mode']} · cost: {found['expected_cost']:g} · {found['told']}", clip(told)]
    lines += [
        clip(f"missing: {each['path']}: {each['message']} Fix: {each['fix']}", 400)
        for each in found["problems"][:SHOWN_PROBLEMS]
    ]
    lines += [clip(f"warning: {each}") for each in found["warnings"][:SHOWN_PROBLEMS]]
    for task_id, count in list(found["assumed_items"].items())[:SHOWN_APPROVALS]:
        lines.append(
            f"assumed: {plural(count, 'item')} for {task_id}, whose list is known only during the run"
        )
    for task_id, who in list(found["approvals"].items())[:SHOWN_APPROVALS]:
        lines.append(f"needs a yes: {task_id}, from {'a person' if who == 'person' else 'you or a person'}")
    return [*lines, *(_line(task) for task in found["tasks"])]


def _task(task: Mapping[str, Any]) -> dict[str, Any]:
    return {name: task[name] for name in _OF_A_TASK if task[name] not in (None, [], "")}


def _line(task: Mapping[str, Any]) -> str:
    if task["is_parent"]:
        told = f"- {task['task_id']}: runs its parts"
    elif task["system"] is None:
        told = f"- {task['task_id']}: nothing here can run it"
    else:
        tool = f".{task['tool']}" if task["tool"] else ""
        told = (
            f"- {task['task_id']} → {task['system']}{tool} ({task['because']}), "
            f"{seconds(task['estimated_seconds'])} ({task['seconds_from']})"
        )
    after = f" ← {', '.join(task['depends_on'][:5])}" if task["depends_on"] else ""
    return clip(told + after, 200)
