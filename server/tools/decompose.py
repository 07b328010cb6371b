"""The tool `decompose_goal`: a goal becomes a stored plan, or an example of the tasks to send.

May import: orchestration, server.{answers, desk, schemas}, mcp types, pydantic, stdlib.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from orchestration.dag import TaskDAG
from orchestration.errors import InvalidDagError, NoFittingPlanError, Problem, UnroutableTaskError
from orchestration.estimates import TaskEstimate, estimates_of, kinds_of, told_sources
from orchestration.execution.simulator import simulate
from orchestration.models import AGENT, AUTO, OrchestrationMode, TaskId, TaskNode
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.planning.draft_task import tasks_in
from orchestration.planning.plan import Plan
from orchestration.systems.router import route, routed_dag
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
from server.tools.offer import describe_systems, fitting_systems
from server.tools.standing import SHOWN_DEPENDENCIES, after_line

MAX_PLAN_TASKS = 1_000
"""What one plan may have over MCP; larger graphs come as files, through the command line or the library."""
SHOWN_PROBLEMS = 5
SHOWN_NOTES = 5
SHOWN_SYSTEMS = 8
NOWHERE = "none"
"""Where a task runs that nothing here can run."""
PARTS = "parts"
"""Where a task runs whose parts do the work."""
TITLE = 80
"""Characters of a task's description in the list."""

ADAPT = (
    "Adapt the example in `next`: task ids, depends_on, tool and arguments are yours to choose; ${task.key} in "
    "arguments takes a value from an upstream's output."
)
MORE_FIELDS = (
    'A task may also have estimated_time_seconds ("5 min"), priority, approval ("person"), fallback {tool, arguments}, '
    "foreach (${list.items}, with ${item} in arguments) and subtasks [...]."
)
"""What a brief says beside its example."""

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
    _refuse_too_many(tasks)
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
        return _ask_for_tasks(error, await fitting_systems(orchestrator, goal))
    estimates, unroutable, yours = await _look_ahead(
        orchestrator, plan.dag, allows_agent=desk(ctx).callers_can_claim
    )
    systems = await describe_systems(orchestrator) if unroutable else []
    expected = _estimated(plan.dag, estimates, orchestrator)
    return _describe(plan, unroutable, systems, expected, estimates, yours)


async def _look_ahead(
    orchestrator: AdvancedTaskOrchestrator, dag: TaskDAG, *, allows_agent: bool
) -> tuple[Mapping[TaskId, TaskEstimate], Sequence[Problem], frozenset[TaskId]]:
    """Return what each task is expected to take where it would go, what nothing could run, and what agents would do."""
    routes: Mapping[TaskId, str] = {}
    problems: Sequence[Problem] = ()
    async with orchestrator.systems:
        try:
            routing = await route(dag, orchestrator.systems, allows_agent=allows_agent)
            dag, routes = routed_dag(dag, routing), routing.routes
        except UnroutableTaskError as exc:
            problems = exc.problems
    history = await orchestrator.storage.load_history(kinds_of(dag, routes))
    yours = frozenset(task_id for task_id, system in routes.items() if system == AGENT)
    return estimates_of(dag, routes, history), problems, yours


def _estimated(
    dag: TaskDAG, estimates: Mapping[TaskId, TaskEstimate], orchestrator: AdvancedTaskOrchestrator
) -> Estimate:
    """Return what a plan is expected to take; without times where nothing is known of any task's."""
    width = dag.width()
    total = len(dag.nodes.keys() - dag.parents())
    if all(estimate.seconds_from in {"default", "parts"} for estimate in estimates.values()):
        return Estimate(total_tasks=total, width=width)
    seconds = {task_id: estimate.seconds for task_id, estimate in estimates.items()}
    simulated = simulate(
        dag,
        workers=orchestrator.options.concurrency,
        mode=OrchestrationMode.HIERARCHICAL,
        durations=seconds,
    )
    return Estimate(
        total_tasks=total,
        width=width,
        critical_path_seconds=round(dag.critical_path(seconds).seconds, 3),
        expected_seconds=round(simulated["makespan_seconds"], 3),
    )


def _refuse_too_many(tasks: object) -> None:
    """Refuse a plan that no answer could tell of.

    Raises:
        InvalidDagError: There are more than `MAX_PLAN_TASKS`, those inside others counted.
    """
    count = sum(1 for _ in tasks_in(tasks))
    if count > MAX_PLAN_TASKS:
        told = f"has {count:,} tasks; at most {MAX_PLAN_TASKS:,} are taken here."
        fix = (
            "Plan in larger steps (a `foreach` stands for many tasks of one kind), or write the graph into a file for "
            "`advanced-orchestration run FILE`."
        )
        raise InvalidDagError([Problem("tasks", told, fix)])


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
    notes = [f"note: {note}" for note in answer.notes or ()]
    return tell(answer, ["state: needs_tasks", ADAPT, MORE_FIELDS, *_systems_lines(answer), *notes])


def _describe(
    plan: Plan,
    unroutable: Sequence[Problem],
    systems: list[str],
    expected: Estimate,
    estimates: Mapping[TaskId, TaskEstimate],
    yours: Container[TaskId],
) -> CallToolResult:
    stuck = {int(found[1]) for problem in unroutable if (found := _PLACE.match(problem.path))}
    planned = _tasks(plan, stuck, estimates, yours)
    outer = len(plan.dag.nodes) - expected.total_tasks
    made_of = f", and {outer:,} made of others" if outer else ""
    trouble = f", but nothing here can run {len(stuck):,} of them" if unroutable else ""
    answer = PlanAnswer(
        message=f"Plan {plan.plan_id} has {plural(expected.total_tasks, 'task')}{made_of}{trouble}.",
        state="needs_systems" if unroutable else "planned",
        plan_id=plan.plan_id,
        revision=plan.revision,
        planner=plan.planner,
        tasks=planned,
        more_tasks=len(plan.dag.nodes) - len(planned) or None,
        estimate=expected,
        problems=[clip(str(problem)) for problem in unroutable[:SHOWN_PROBLEMS]] or None,
        systems=systems[:SHOWN_SYSTEMS] or None,
        notes=[*(clip(note) for note in plan.notes[:SHOWN_NOTES]), told_sources(estimates.values())],
    )
    if not unroutable and plan.plan_id is not None:
        answer.next = [Call(tool="execute_dag", arguments={"plan_id": plan.plan_id, "wait_seconds": 30})]
    return tell(answer, _lines(answer, plan.dag, estimates), rest="the structured content lists more tasks")


def _tasks(
    plan: Plan,
    stuck: Container[int],
    estimates: Mapping[TaskId, TaskEstimate],
    yours: Container[TaskId],
) -> list[PlannedTask]:
    incoming = plan.dag.incoming()
    parents = plan.dag.parents()

    def planned(position: int, node: TaskNode) -> PlannedTask:
        upstream = [edge.source_task_id for edge in incoming[node.task_id]]
        where = PARTS if node.task_id in parents else node.system_preference
        if node.task_id in yours:
            where = AGENT
        known = estimates[node.task_id]
        return PlannedTask.model_validate(
            {
                "task_id": node.task_id,
                "title": clip(node.description or node.task_id, TITLE),
                "depends_on": upstream[:SHOWN_DEPENDENCIES] or None,
                "more_depends_on": max(0, len(upstream) - SHOWN_DEPENDENCIES) or None,
                "parent": node.parent,
                "system": NOWHERE if position in stuck else where,
                "estimated_seconds": round(known.seconds, 3) if _says_something(known) else None,
                "estimate_from": known.seconds_from if _says_something(known) else None,
            }
        )

    nodes = plan.dag.nodes.values()
    return take((planned(position, node) for position, node in enumerate(nodes)), json_size)


def _says_something(estimate: TaskEstimate) -> bool:
    return estimate.seconds_from not in {"default", "parts"}


def _lines(answer: PlanAnswer, dag: TaskDAG, estimates: Mapping[TaskId, TaskEstimate]) -> list[str]:
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
    lines += [
        _line(task, dag.nodes[task.task_id].parent, estimates[task.task_id]) for task in answer.tasks or ()
    ]
    if answer.more_tasks:
        lines.append(f"… {plural(answer.more_tasks, 'more task')}")
    return lines


def _systems_lines(answer: PlanAnswer) -> list[str]:
    return [f"system {line}" for line in answer.systems or ()] or ["no system is configured here"]


def _line(task: PlannedTask, parent: TaskId | None, estimate: TaskEstimate) -> str:
    after = after_line(task.depends_on, task.more_depends_on)
    where = {
        AUTO: "",
        PARTS: " [its parts]",
        NOWHERE: " [nothing can run it]",
        AGENT: " [for you: claim_task]",
    }.get(task.system, f" [{task.system}]")
    title = "" if task.title == clip(task.task_id, TITLE) else f": {task.title}"
    inside = f" (in {parent})" if parent else ""
    takes = f" ~{seconds(estimate.seconds)} ({estimate.seconds_from})" if _says_something(estimate) else ""
    return clip(f"- {task.task_id}{title}{inside}{where}{takes} {after}".rstrip(), 200)
