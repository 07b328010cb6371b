"""What running a DAG would take, before anything runs: how long, where, what for, what is missing, who must agree.

May import: orchestration.{dag, errors, estimates, models, options, ports, routes, validation}, stdlib,
orchestration.{execution.simulator, systems.registry, systems.router}. Nothing runs or is stored.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.dag import TaskDAG
from orchestration.errors import Problem, UnroutableTaskError
from orchestration.estimates import TaskEstimate, estimates_of, kinds_of, told_sources
from orchestration.execution.simulator import assumed_lists, item_counts, simulate
from orchestration.models import OrchestrationMode, TaskId, TaskNode
from orchestration.options import OrchestratorOptions
from orchestration.ports import Storage
from orchestration.routes import route_reason
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.router import Routing, route, routed_dag
from orchestration.validation import normalized

_PLACE = re.compile(r"tasks\[(\d+)\]")
"""Where a problem of the router is: the task's place in the DAG."""


async def preview_dag(
    dag: TaskDAG,
    *,
    options: OrchestratorOptions,
    systems: SystemRegistry | None,
    storage: Storage,
    mode: OrchestrationMode | None = None,
    workers: int | None = None,
    durations: Mapping[TaskId, float] | None = None,
    assumed_items: int = 1,
    allows_agent: bool = False,
) -> dict[str, Any]:
    """Return what running a DAG would take.

    Args:
        dag: What would be run.
        options: How it would be run.
        systems: Where; None where that is not asked about: `can_run` is None then, and no task has a system.
        storage: Knows what earlier tasks took.
        mode: How; the options' default when absent.
        workers: Attempts at once; the options' concurrency when absent.
        durations: True seconds of tasks, in place of their estimates.
        assumed_items: How many items a `foreach` has whose list is known only during the run.
        allows_agent: Whether what nothing else can run would be offered to agents.

    Returns:
        `dag_id`, `goal`, `mode`, `workers`, `total_tasks`, `width`, `critical_path` (ids), `critical_path_seconds`,
        `expected_seconds` (with that many workers), `lower_bound_seconds`, `utilization`, `schedule` (as `simulate`),
        `cost` (what the tasks say), `expected_cost` (with what is known of the others), `estimates` (tasks per source
        of their duration), `told` (the same as a sentence), `assumed_items` (by task, where lists are not known yet),
        `can_run`, `problems` (what nothing here can run), `warnings`, `approvals` (who must agree, by task) and
        `tasks`: for each `task_id`, `system` and `because`, `tool`, `others` (systems that could do it as well),
        `fallbacks` (where those go), `depends_on`, `parent`, `items`, `approval`, `estimated_seconds` and `cost` with
        their sources.

    Raises:
        InvalidDagError: The DAG has mistakes; all are listed.
        InvalidArgumentError: An argument can't be used.
    """
    dag = normalized(dag, options.limits)
    routing = Routing()
    problems: Sequence[Problem] = ()
    reasons: Mapping[TaskId, str] = {}
    if systems is not None:
        async with systems:
            routing, problems = await _route(dag, systems, allows_agent=allows_agent)
            dag = routed_dag(dag, routing)
            reasons = {
                task_id: route_reason(
                    dag.nodes[task_id], system, systems.get(system), routing.reasons.get(task_id)
                )
                for task_id, system in routing.routes.items()
            }
    history = await storage.load_history(kinds_of(dag, routing.routes))
    estimates = estimates_of(dag, routing.routes, history)
    seconds = {
        **{task_id: estimate.seconds for task_id, estimate in estimates.items()},
        **(durations or {}),
    }
    simulated = simulate(
        dag, workers=workers, mode=mode, options=options, durations=seconds, assumed_items=assumed_items
    )
    items = item_counts(dag, assumed_items)
    parents = dag.parents()
    executable = [task_id for task_id in dag.nodes if task_id not in parents]
    return {
        "dag_id": dag.dag_id,
        "goal": dag.goal,
        "mode": simulated["mode"],
        "workers": simulated["workers"],
        "total_tasks": simulated["total_tasks"],
        "width": dag.width(),
        "critical_path": simulated["critical_path"],
        "critical_path_seconds": round(dag.critical_path(seconds).seconds, 3),
        "expected_seconds": round(simulated["makespan_seconds"], 3),
        "makespan_seconds": simulated["makespan_seconds"],
        "lower_bound_seconds": simulated["lower_bound_seconds"],
        "utilization": simulated["utilization"],
        "cost": simulated["cost"],
        "expected_cost": sum(estimates[name].cost * items.get(name, 1) for name in executable),
        "estimates": dict(Counter(estimates[name].seconds_from for name in executable)),
        "told": told_sources(estimates[name] for name in executable),
        "assumed_items": dict.fromkeys(assumed_lists(dag), assumed_items),
        "can_run": None if systems is None else not problems,
        "problems": [{"path": each.path, "message": each.message, "fix": each.fix} for each in problems],
        "warnings": list(routing.warnings),
        "approvals": {
            task_id: node.approval for task_id, node in dag.nodes.items() if node.approval is not None
        },
        "tasks": _tasks(dag, routing, reasons, estimates, items),
        "schedule": simulated["schedule"],
    }


async def _route(
    dag: TaskDAG, registry: SystemRegistry, *, allows_agent: bool
) -> tuple[Routing, Sequence[Problem]]:
    """Return where tasks would go, as far as something here can run them, and what is wrong with the others."""
    try:
        return await route(dag, registry, allows_agent=allows_agent), ()
    except UnroutableTaskError as error:
        problems = error.problems
    stuck = {int(found[1]) for problem in problems if (found := _PLACE.match(problem.path))}
    parents = dag.parents()  # they go nowhere, with their parts or without
    rest = dag.copy()
    rest.nodes = {
        task_id: node
        for position, (task_id, node) in enumerate(dag.nodes.items())
        if position not in stuck and task_id not in parents
    }
    return await route(rest, registry, allows_agent=allows_agent), problems


def _tasks(
    dag: TaskDAG,
    routing: Routing,
    reasons: Mapping[TaskId, str],
    estimates: Mapping[TaskId, TaskEstimate],
    items: Mapping[TaskId, int],
) -> list[dict[str, Any]]:
    incoming = dag.incoming()
    parents = dag.parents()

    def told(task_id: TaskId, node: TaskNode) -> dict[str, Any]:
        estimate = estimates[task_id]
        return {
            "task_id": task_id,
            "description": node.description,
            "depends_on": [edge.source_task_id for edge in incoming[task_id]],
            "parent": node.parent,
            "is_parent": task_id in parents,
            "items": items.get(task_id),
            "foreach": node.foreach,
            "system": routing.routes.get(task_id),
            "because": reasons.get(task_id),
            "tool": node.tool,
            "others": list(routing.others.get(task_id, ())),
            "fallbacks": list(routing.fallbacks.get(task_id, ())),
            "approval": node.approval,
            "estimated_seconds": round(estimate.seconds, 3),
            "seconds_from": estimate.seconds_from,
            "cost": estimate.cost,
            "cost_from": estimate.cost_from,
            "complexity": estimate.complexity,
            "complexity_from": estimate.complexity_from,
        }

    return [told(task_id, node) for task_id, node in dag.nodes.items()]
