"""Decides, before anything starts, which system each task goes to.

May import: orchestration.{dag, errors, models, ports}, orchestration.systems.{base, registry}, stdlib.

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

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestration.dag import TaskDAG
from orchestration.errors import AttemptError, InvalidArgumentError, Problem, UnroutableTaskError
from orchestration.models import AUTO, TaskId, TaskNode
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
    warnings: list[str] = field(default_factory=list)


async def route(
    dag: TaskDAG, registry: SystemRegistry, *, timeout_seconds: float = SURVEY_SECONDS
) -> Routing:
    """Return where each task of a DAG goes.

    Args:
        dag: The tasks.
        registry: The systems, inside its `async with`.
        timeout_seconds: Longest wait for a system that lists its tools.

    Raises:
        UnroutableTaskError: Some tasks can't be run by anything here; lists each with what to do.
    """
    preferences = {task.system_preference for task in dag.nodes.values()}
    everything = any(name not in registry for name in preferences)
    wanted = [name for name in registry if everything or name in preferences]
    surveys = await registry.survey(wanted, timeout_seconds=timeout_seconds)
    return await _Router(registry, surveys).route(dag)


class _Router:
    """One routing, with what each system said it can do."""

    def __init__(self, registry: SystemRegistry, surveys: Mapping[str, Survey]) -> None:
        self._registry = registry
        self._surveys = surveys
        self._by_tool: dict[str, str] = {}
        for name, survey in surveys.items():
            for tool in survey.tools:
                self._by_tool.setdefault(tool.name, name)
        self._controller = next(
            (name for name in surveys if registry.get(name).kind == CONTROLLER_KIND), None
        )
        self._problems: list[Problem] = []
        self._not_configured: dict[str, list[TaskId]] = {}
        self._served = {
            other: name for name in reversed(list(registry)) for other in served_names(registry.get(name))
        }

    async def route(self, dag: TaskDAG) -> Routing:
        """Route every task, then refuse all that could not be."""
        routing = Routing()
        for position, task in enumerate(dag.nodes.values()):
            found = await self._route(task, position)
            if found is not None:
                routing.routes[task.task_id], routing.tools[task.task_id] = found
        if self._problems:
            raise UnroutableTaskError(self._problems)
        routing.warnings.extend(self._warnings(routing))
        return routing

    async def _route(self, task: TaskNode, position: int) -> tuple[str, str | None] | None:
        """Return a task's system and tool; None, with the problem noted, when there is none."""
        preference = task.system_preference
        name = preference if preference in self._registry else self._served.get(preference.casefold())
        if name is not None:
            return await self._named(task, name, position)
        if preference != AUTO:
            self._not_configured.setdefault(preference, []).append(task.task_id)
        tool = task.tool if task.tool is not None else base_task_id(task.task_id)
        if tool in self._by_tool:
            return self._by_tool[tool], tool
        if self._controller is not None:
            return self._controller, task.tool
        self._refuse(task, position)
        return None

    async def _named(self, task: TaskNode, name: str, position: int) -> tuple[str, str | None] | None:
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
            self._problems.append(Problem(f"tasks[{position}].tool", text, exc.fix))
            return None

    def _refuse(self, task: TaskNode, position: int) -> None:
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
        self._problems.append(Problem(f"tasks[{position}].tool", text, self._suggestion(task)))

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
