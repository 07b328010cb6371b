"""The tool `decompose_goal`: a goal becomes a stored plan, or an example of the tasks to send.

May import: orchestration, server.{answers, desk, schemas}, mcp types, pydantic, stdlib.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from orchestration.errors import NoFittingPlanError, Problem
from orchestration.execution.simulator import estimate
from orchestration.models import AUTO, OrchestrationMode, TaskNode
from orchestration.planning.plan import Plan
from server.answers import clip, json_size, plural, seconds, take, tell
from server.desk import DeskContext, desk
from server.errors import plan_it_yourself
from server.schemas import (
    Call,
    Context,
    Estimate,
    GivenGoal,
    Mode,
    PlanAnswer,
    PlannedTask,
    Tasks,
    Thoughts,
)
from server.tools.offer import describe_systems
from server.tools.standing import SHOWN_DEPENDENCIES, after_line

MAX_PLAN_TASKS = 1_000
"""What one plan may have over MCP; larger graphs come as files, through the command line or the library."""
SHOWN_PROBLEMS = 5
SHOWN_NOTES = 5
SHOWN_SYSTEMS = 8
NOWHERE = "none"
"""Where a task runs that nothing here can run."""
TITLE = 80
"""Characters of a task's description in the list."""

_PLACE = re.compile(r"tasks\[(\d+)\]")


async def decompose_goal(
    goal: GivenGoal,
    ctx: DeskContext,
    tasks: Tasks = None,
    thoughts: Thoughts = None,
    context: Context = None,
    mode: Mode = None,
    max_tasks: Annotated[int, Field(ge=1, le=MAX_PLAN_TASKS)] = 20,
) -> Annotated[CallToolResult, PlanAnswer]:
    """Turn a goal into a plan (a DAG of tasks) and store it; nothing runs yet.

    Send `tasks` when you know the steps: they are checked, completed and stored. Without them a playbook that fits \
the goal is used; when none fits, nothing is stored and the answer has an example of the tasks to send. The answer \
lists the tasks, what they depend on, where each would run, and problems (tasks that nothing configured here can \
run). Then call execute_dag with the plan_id."""
    orchestrator = desk(ctx).orchestrator
    try:
        plan = await orchestrator.decompose(
            goal,
            tasks=tasks,
            thoughts=thoughts,
            context=context,
            mode=OrchestrationMode(mode) if mode else None,
            max_tasks=max_tasks,
            allow_sentences=False,
        )
    except NoFittingPlanError as error:
        return _ask_for_tasks(error, await describe_systems(orchestrator))
    unroutable = await orchestrator.find_unroutable(plan.dag)
    systems = await describe_systems(orchestrator) if unroutable else []
    return _describe(plan, unroutable, systems, orchestrator.options.concurrency)


def _ask_for_tasks(error: NoFittingPlanError, systems: list[str]) -> CallToolResult:
    """Tell what to send; an answer and not a failure, since this is how a plan of one's own begins."""
    following = plan_it_yourself(error)
    answer = PlanAnswer(
        message="No playbook is used for this goal, so nothing was stored: send the tasks yourself.",
        state="needs_tasks",
        example=[dict(task) for task in error.example],
        systems=systems[:SHOWN_SYSTEMS] or None,
        notes=[clip(reason) for reason in error.reasons[:SHOWN_NOTES]] or None,
        next=[following],
    )
    hint = "Adapt the example in `next`: task ids, depends_on, tool and arguments are yours to choose."
    notes = [f"note: {note}" for note in answer.notes or ()]
    return tell(answer, ["state: needs_tasks", hint, *_systems_lines(answer), *notes])


def _describe(plan: Plan, unroutable: Sequence[Problem], systems: list[str], workers: int) -> CallToolResult:
    total = len(plan.dag.nodes)
    planned = _tasks(plan, unroutable)
    expected = estimate(plan.dag, workers)
    has_estimates = any(node.estimated_time_seconds is not None for node in plan.dag.nodes.values())
    trouble = f", but nothing here can run {len(unroutable):,} of them" if unroutable else ""
    answer = PlanAnswer(
        message=f"Plan {plan.plan_id} has {plural(total, 'task')}{trouble}.",
        state="needs_systems" if unroutable else "planned",
        plan_id=plan.plan_id,
        revision=plan.revision,
        planner=plan.planner,
        tasks=planned,
        more_tasks=total - len(planned) or None,
        estimate=Estimate(
            total_tasks=total,
            width=expected["width"],
            critical_path_seconds=expected["critical_path_seconds"] if has_estimates else None,
            expected_seconds=expected["expected_seconds"] if has_estimates else None,
        ),
        problems=[clip(str(problem)) for problem in unroutable[:SHOWN_PROBLEMS]] or None,
        systems=systems[:SHOWN_SYSTEMS] or None,
        notes=[clip(note) for note in plan.notes[:SHOWN_NOTES]] or None,
    )
    if not unroutable and plan.plan_id is not None:
        answer.next = [Call(tool="execute_dag", arguments={"plan_id": plan.plan_id, "wait_seconds": 30})]
    return tell(answer, _lines(answer), rest="the structured content lists more tasks")


def _tasks(plan: Plan, unroutable: Sequence[Problem]) -> list[PlannedTask]:
    incoming = plan.dag.incoming()
    stuck = {int(found[1]) for problem in unroutable if (found := _PLACE.match(problem.path))}

    def planned(position: int, node: TaskNode) -> PlannedTask:
        upstream = [edge.source_task_id for edge in incoming[node.task_id]]
        return PlannedTask(
            task_id=node.task_id,
            title=clip(node.description or node.task_id, TITLE),
            depends_on=upstream[:SHOWN_DEPENDENCIES] or None,
            more_depends_on=max(0, len(upstream) - SHOWN_DEPENDENCIES) or None,
            system=NOWHERE if position in stuck else node.system_preference,
        )

    nodes = plan.dag.nodes.values()
    return take((planned(position, node) for position, node in enumerate(nodes)), json_size)


def _lines(answer: PlanAnswer) -> list[str]:
    parts = [f"state: {answer.state}", f"planner: {answer.planner}"]
    if answer.estimate is not None:
        parts.append(f"up to {answer.estimate.width:,} side by side")
        if answer.estimate.expected_seconds is not None:
            parts.append(f"about {seconds(answer.estimate.expected_seconds)}")
    lines = [" · ".join(parts)]
    if answer.problems:
        lines.append(f"problem: {answer.problems[0]}")
        lines += _systems_lines(answer)
    lines += [f"note: {note}" for note in answer.notes or ()]
    lines += [_line(task) for task in answer.tasks or ()]
    if answer.more_tasks:
        lines.append(f"… {plural(answer.more_tasks, 'more task')}")
    return lines


def _systems_lines(answer: PlanAnswer) -> list[str]:
    return [f"system {line}" for line in answer.systems or ()] or ["no system is configured here"]


def _line(task: PlannedTask) -> str:
    after = after_line(task.depends_on, task.more_depends_on)
    where = {AUTO: "", NOWHERE: " [nothing can run it]"}.get(task.system, f" [{task.system}]")
    title = "" if task.title == clip(task.task_id, TITLE) else f": {task.title}"
    return clip(f"- {task.task_id}{title}{where} {after}".rstrip(), 160)
