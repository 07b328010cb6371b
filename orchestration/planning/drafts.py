"""Drafts again of what has been read: tasks with their dependencies, and what of them fits into a plan.

May import: orchestration.{dag, errors, models, options}, orchestration.planning.{caller_plan, draft_values, proposal,
tool_check}, pydantic_core, stdlib.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_jsonable_python

from orchestration.dag import TaskDAG
from orchestration.errors import InvalidDagError, Problem
from orchestration.planning.caller_plan import CallerPlan, read_caller_plan
from orchestration.planning.draft_values import set_fields
from orchestration.planning.proposal import Draft, PlanRequest
from orchestration.planning.tool_check import find_unknown_tools

_PLACE = re.compile(r"^tasks\[(\d+)\]")


def task_drafts(dag: TaskDAG) -> list[dict[str, Any]]:
    """Return the tasks of a DAG as drafts, upstreams first; reading them gives the same DAG."""
    incoming = dag.incoming()
    drafts: list[dict[str, Any]] = []
    for task_id in dag.topological_sort():
        draft: dict[str, Any] = to_jsonable_python(set_fields(dag.nodes[task_id]))
        depends_on: list[Any] = []
        for edge in incoming[task_id]:
            fields = to_jsonable_python(set_fields(edge))
            del fields["target_task_id"]
            source = fields.pop("source_task_id")
            depends_on.append({"task_id": source, **fields} if fields else source)
        if depends_on:
            draft["depends_on"] = depends_on
        drafts.append(draft)
    return drafts


def check_tasks(
    tasks: Sequence[Any], fixed: Sequence[Draft], request: PlanRequest
) -> tuple[CallerPlan | None, list[Problem]]:
    """Read a planner's tasks together with those that are fixed.

    Returns:
        The whole plan, fixed tasks included, and no problem; or no plan and every problem, its place counted from the
        first of `tasks`.
    """
    total = len(fixed) + len(tasks)
    if total > request.max_tasks:
        most = request.max_tasks - len(fixed)
        return None, [
            Problem("tasks", f"has {len(tasks)} tasks; at most {most} are allowed.", "Plan more coarsely.")
        ]
    try:
        read = read_caller_plan({"tasks": [*fixed, *tasks]}, goal=request.goal, limits=request.limits)
    except InvalidDagError as exc:
        return None, [moved(problem, len(fixed)) for problem in exc.problems]
    nodes = list(read.dag.nodes.values())[len(fixed) :]
    places = ((f"tasks[{index}]", node) for index, node in enumerate(nodes))
    problems = find_unknown_tools(places, request.tools)
    return (None, problems) if problems else (read, [])


def moved(problem: Problem, count: int) -> Problem:
    """Return a problem with its place counted after `count` tasks that its reader did not send."""
    found = _PLACE.match(problem.path)
    if found is None or int(found[1]) < count:
        return problem
    path = f"tasks[{int(found[1]) - count}]{problem.path[found.end() :]}"
    return Problem(path, problem.message, problem.fix)


def is_repeated(task: Any, fixed: Sequence[Draft]) -> bool:
    """Whether a draft has the id of a task that is fixed: it was sent again, and stays as it is."""
    return isinstance(task, Mapping) and any(task.get("task_id") == other["task_id"] for other in fixed)
