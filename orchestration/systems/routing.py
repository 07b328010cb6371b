"""Where each task goes, as the router found it, and as the engine and the stored DAG are told.

May import: orchestration.{dag, models}, orchestration.engine.inputs, orchestration.systems.router_choice, stdlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orchestration.dag import TaskDAG
from orchestration.engine.inputs import Routes
from orchestration.models import Acceptance, Fallback, TaskId
from orchestration.systems.router_choice import Choice


@dataclass(frozen=True, slots=True)
class Routing:
    """Where each task goes."""

    routes: dict[TaskId, str] = field(default_factory=dict)
    """System by task."""
    tools: dict[TaskId, str | None] = field(default_factory=dict)
    """Tool by task; None where the system needs none, or could not be asked and the task names none."""
    others: dict[TaskId, tuple[str, ...]] = field(default_factory=dict)
    """Further systems that can do the same, best first, of tasks that leave the choice to the router."""
    fallbacks: dict[TaskId, tuple[str, ...]] = field(default_factory=dict)
    """Where each of a task's nested fallbacks goes, outermost first."""
    fallback_tools: dict[TaskId, tuple[str | None, ...]] = field(default_factory=dict)
    """What runs there."""
    checks: dict[TaskId, str] = field(default_factory=dict)
    """System of the tool that looks at a task's result, of tasks that have one."""
    reasons: dict[TaskId, str] = field(default_factory=dict)
    """Why each task goes where it goes, in a few words."""
    choices: dict[TaskId, Choice] = field(default_factory=dict)
    """The same as data, with all that were considered; of tasks that left a choice."""
    warnings: list[str] = field(default_factory=list)


def routes_of(routing: Routing) -> Routes:
    """Return a routing as the engine is told it."""
    return Routes(
        systems=routing.routes, others=routing.others, fallbacks=routing.fallbacks, reasons=routing.reasons
    )


def routed_dag(dag: TaskDAG, routing: Routing) -> TaskDAG:
    """Return a copy of a DAG in which all that was chosen is named: tools, and where results are looked at."""
    twin = dag.copy()
    for task_id, node in dag.nodes.items():
        tool = routing.tools.get(task_id) or node.tool
        fallback = _with_tools(node.fallback, routing.fallback_tools.get(task_id, ()))
        acceptance = _checked_by(node.acceptance, routing.checks.get(task_id))
        if tool != node.tool or fallback != node.fallback or acceptance != node.acceptance:
            twin.nodes[task_id] = replace(node, tool=tool, fallback=fallback, acceptance=acceptance)
    return twin


def _checked_by(acceptance: Acceptance | None, system: str | None) -> Acceptance | None:
    return (
        acceptance if acceptance is None or system is None else replace(acceptance, system_preference=system)
    )


def _with_tools(fallback: Fallback | None, tools: Sequence[str | None]) -> Fallback | None:
    if fallback is None or not tools:
        return fallback
    inner = _with_tools(fallback.fallback, tools[1:])
    return replace(fallback, tool=tools[0] or fallback.tool, fallback=inner)
