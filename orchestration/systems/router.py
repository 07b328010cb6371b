"""Decides, before anything starts, which system each task goes to.

May import: orchestration.{dag, errors, fallbacks, models, ports}, orchestration.engine.inputs,
orchestration.systems.{base, registry}, stdlib.

In this order, for each task:

1. Its `system_preference` names a configured system: there, if that system has a tool for it. A system that
can't be
   asked now is taken at the task's word: it may be up by the time the task runs.
2. It names something a configured system serves under another name (a controller serves `alita`, `kgot`,
`hybrid`):
   there.
3. It names anything else: a warning, then as `auto`.
4. `auto`: the first system (in their order) that has the tool the task names; for a task that names none, the
first
   one with a tool called like the task; else the first one that needs no tool, a controller.
5. Else nothing can run it. All such tasks are refused together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestration.dag import TaskDAG
from orchestration.engine.inputs import Routes
from orchestration.errors import AttemptError, InvalidArgumentError, Problem, UnroutableTaskError
from orchestration.fallbacks import fallback_nodes, fallbacks_in
from orchestration.models import AUTO, Fallback, TaskId, TaskNode
from orchestration.ports import System
from orchestration.systems.base import base_task_id, listed, nearest
from orchestration.systems.registry import SURVEY_SECONDS, Survey, SystemRegistry

CONTROLLER_KIND = "controller"
"""Systems of this kind run tasks from their description alone."""

MAX_EXPLAINED = 50
"""How many unroutable tasks get suggestions; comparing names is slow, and nobody reads more."""


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
    warnings: list[str] = field(default_factory=list)


async def route(
    dag: TaskDAG,
    registry: SystemRegistry,
    *,
    timeout_seconds: float = SURVEY_SECONDS,
    tasks_before: int = 0,
) -> Routing:
    """Return where each task of a DAG goes, and each fallback; parents, whose parts run, go nowhere.

    Args:
        dag: The tasks.
        registry: The systems, inside its `async with`.
        timeout_seconds: Longest wait for a system that lists its tools.
        tasks_before: Tasks of the whole that come before these: problems are counted from there.

    Raises:
        UnroutableTaskError: Some tasks can't be run by anything here; lists each with what to do.
    """
    preferences = {task.system_preference for task in dag.nodes.values()}
    preferences |= {
        each.system_preference for task in dag.nodes.values() for each in fallbacks_in(task.fallback)
    }
    everything = any(name not in registry for name in preferences)
    wanted = [name for name in registry if everything or name in preferences]
    surveys = await registry.survey(wanted, timeout_seconds=timeout_seconds)
    return await _Router(registry, surveys).route(dag, tasks_before)


def routes_of(routing: Routing) -> Routes:
    """Return a routing as the engine is told it."""
    return Routes(systems=routing.routes, others=routing.others, fallbacks=routing.fallbacks)


def routed_dag(dag: TaskDAG, routing: Routing) -> TaskDAG:
    """Return a copy of a DAG in which every task and fallback names the tool that was chosen for it."""
    twin = dag.copy()
    for task_id, node in dag.nodes.items():
        tool = routing.tools.get(task_id) or node.tool
        fallback = _with_tools(node.fallback, routing.fallback_tools.get(task_id, ()))
        if tool != node.tool or fallback != node.fallback:
            twin.nodes[task_id] = replace(node, tool=tool, fallback=fallback)
    return twin


def _with_tools(fallback: Fallback | None, tools: Sequence[str | None]) -> Fallback | None:
    if fallback is None or not tools:
        return fallback
    inner = _with_tools(fallback.fallback, tools[1:])
    return replace(fallback, tool=tools[0] or fallback.tool, fallback=inner)


class _Router:
    """One routing, with what each system said it can do."""

    def __init__(self, registry: SystemRegistry, surveys: Mapping[str, Survey]) -> None:
        self._registry = registry
        self._surveys = surveys
        self._by_tool: dict[str, list[str]] = {}
        for name, survey in surveys.items():
            for tool in survey.tools:
                self._by_tool.setdefault(tool.name, []).append(name)
        self._controller = next(
            (name for name in surveys if registry.get(name).kind == CONTROLLER_KIND), None
        )
        self._problems: list[Problem] = []
        self._not_configured: dict[str, list[TaskId]] = {}
        self._served = {
            other: name for name in reversed(list(registry)) for other in served_names(registry.get(name))
        }

    async def route(self, dag: TaskDAG, tasks_before: int) -> Routing:
        """Route every task, then refuse all that could not be."""
        routing = Routing()
        parents = {task.parent for task in dag.nodes.values()}
        for position, task in enumerate(dag.nodes.values(), start=tasks_before):
            if task.task_id in parents:
                continue
            path = f"tasks[{position}]"
            found = await self._route(task, path)
            if found is not None:
                routing.routes[task.task_id], routing.tools[task.task_id] = found
                others = self._others(task, found[0])
                if others:
                    routing.others[task.task_id] = others
            if task.fallback is not None:
                await self._route_fallbacks(task, path, routing)
        if self._problems:
            raise UnroutableTaskError(self._problems)
        routing.warnings.extend(self._warnings(routing))
        return routing

    async def _route_fallbacks(self, task: TaskNode, path: str, routing: Routing) -> None:
        found: list[tuple[str, str | None]] = []
        for node in fallback_nodes(task):
            path += ".fallback"
            place = await self._route(node, path)
            if place is not None:
                found.append(place)
        routing.fallbacks[task.task_id] = tuple(system for system, _ in found)
        routing.fallback_tools[task.task_id] = tuple(tool for _, tool in found)

    def _others(self, task: TaskNode, chosen: str) -> tuple[str, ...]:
        """Return the systems that could do what a task that leaves the choice to us asks for, but the chosen one."""
        preference = task.system_preference
        if preference in self._registry or preference.casefold() in self._served:
            return ()
        able = [*self._by_tool.get(task.tool or base_task_id(task.task_id), ())]
        if self._controller is not None:
            able.append(self._controller)
        return tuple(name for name in dict.fromkeys(able) if name != chosen)

    async def _route(self, task: TaskNode, path: str) -> tuple[str, str | None] | None:
        """Return a task's system and tool; None, with the problem noted, when there is none."""
        preference = task.system_preference
        name = preference if preference in self._registry else self._served.get(preference.casefold())
        if name is not None:
            return await self._named(task, name, path)
        if preference != AUTO:
            self._not_configured.setdefault(preference, []).append(task.task_id)
        tool = task.tool if task.tool is not None else base_task_id(task.task_id)
        if tool in self._by_tool:
            return self._by_tool[tool][0], tool
        if self._controller is not None:
            return self._controller, task.tool
        self._refuse(task, path)
        return None

    async def _named(self, task: TaskNode, name: str, path: str) -> tuple[str, str | None] | None:
        """Route a task to the system it names."""
        if self._surveys[name].error is not None:
            return name, task.tool
        try:
            return name, await self._registry.get(name).choose_tool(task)
        except AttemptError:
            return name, task.tool  # lost since it was surveyed
        except InvalidArgumentError as exc:
            reason = f"{exc.field} is {exc.value!r}; expected {exc.expected}."
            text = f"task {task.task_id!r} can't run on system {name!r}: {reason}"
            self._problems.append(Problem(f"{path}.tool", text, exc.fix))
            return None

    def _refuse(self, task: TaskNode, path: str) -> None:
        """Note that nothing can run a task, with what could be meant."""
        here = ", ".join(f"{name} ({self._registry.get(name).kind})" for name in self._registry) or "none"
        asked = (
            f"has the tool {task.tool!r}" if task.tool is not None else f"has a tool called {task.task_id!r}"
        )
        text = f"nothing can run task {task.task_id!r}: no system {asked}, and there is no controller. Systems: {here}."
        unreachable = [
            f"{name}: {survey.error}" for name, survey in self._surveys.items() if survey.error is not None
        ]
        if unreachable:
            text += f" Could not be asked: {'; '.join(unreachable)}."
        self._problems.append(Problem(f"{path}.tool", text, self._suggestion(task)))

    def _suggestion(self, task: TaskNode) -> str:
        fix = "set `tool`, pass a system that has it in `systems=`, or a `unified_controller=` that runs any task."
        if len(self._problems) >= MAX_EXPLAINED:
            return fix
        near = nearest(task.tool or base_task_id(task.task_id), self._by_tool)
        return f"did you mean the tool {' or '.join(map(repr, near))}? Else {fix}" if near else fix

    def _warnings(self, routing: Routing) -> list[str]:
        """Return a sentence per preference that could not be met and per system that could not be asked."""
        warnings = []
        for preference, task_ids in self._not_configured.items():
            went = sorted({routing.routes[task_id] for task_id in task_ids})
            warnings.append(
                f"system_preference {preference!r} names no configured system; routed automatically to "
                f"{', '.join(went)}: {listed(task_ids)}. "
                f"Fix: configure it, or write one of: auto, {listed(self._registry.names)}."
            )
        warnings += [
            f"System {name!r} could not be asked for its tools: {survey.error}"
            for name, survey in self._surveys.items()
            if survey.error is not None
        ]
        return warnings


def served_names(system: System) -> frozenset[str]:
    """Return the names besides its own under which a system takes tasks."""
    names: frozenset[str] = getattr(system, "serves", frozenset())
    return names
