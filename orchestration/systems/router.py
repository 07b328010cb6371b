"""Decides, before anything starts, which system each task goes to.

May import: orchestration.{dag, errors, fallbacks, models, ports}, orchestration.systems.{base, registry,
router_acceptance, router_choice, router_questions, routing, routing_aids}, stdlib.

In this order, for each task:

1. Its `system_preference` names a configured system: there, if that system has a tool for it. A system that can't be
   asked now is taken at the task's word: it may be up by the time the task runs.
2. It names a kind of system that needs no tool (`alita`, `kgot`), or something a configured system serves under
   another name (a controller serves `alita`, `kgot`, `hybrid`): there. The others that need no tool are where it goes
   on should that fail, if it may be repeated. `hybrid` and `parallel` without a controller mean any of them.
3. It names anything else: a warning, then as `auto`.
4. `auto`: a system that has the tool the task names; for a task that names none, one with a tool called like the task;
   else one with a tool that its description and arguments plainly mean (`routing_aids.py`); else one that needs no
   tool (`CAPABLE_KINDS`). Where several can, `router_choice.py` weighs them.
5. Else the calling agent, where it may be asked (`allows_agent`), for a task that names no tool: a name that nothing
   knows is most likely misspelled.
6. Else nothing can run it. All such tasks are refused together.

What looks at a task's result (`acceptance.tool`) is found as well: `router_acceptance.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestration.dag import TaskDAG
from orchestration.errors import (
    AttemptError,
    InvalidArgumentError,
    Problem,
    StorageError,
    UnroutableTaskError,
)
from orchestration.fallbacks import fallback_nodes
from orchestration.models import AUTO, TaskId, TaskNode
from orchestration.ports import History, System
from orchestration.systems.base import base_task_id, listed, nearest
from orchestration.systems.registry import SURVEY_SECONDS, Survey, SystemRegistry
from orchestration.systems.router_acceptance import Known, checking_system
from orchestration.systems.router_choice import Candidate, Choice, choose
from orchestration.systems.router_questions import questions_of
from orchestration.systems.routing import Routing, routed_dag, routes_of
from orchestration.systems.routing_aids import RoutingAids, plainly_means

__all__ = ["Routing", "route", "routed_dag", "routes_of"]

CONTROLLER_KIND = "controller"
"""Systems of this kind run tasks from their description alone, with a tool's name or without."""

CAPABLE_KINDS = frozenset({CONTROLLER_KIND, "alita", "kgot"})
"""Kinds of systems that need no tool."""

AGENT_KIND = "agent"
"""The system whose tasks are done by whoever claims them."""

_BOTH = frozenset({"hybrid", "parallel"})
"""Preferences that leave the choice among the systems that need no tool."""

_NAMED_KINDS = frozenset({"alita", "kgot"})
"""Preferences that are kinds."""

MAX_SEARCHED = 500
"""Descriptions that are searched with in one routing; a search takes milliseconds."""

SEARCHED_TOOLS = 10
"""Tools that are looked at for one description."""

MAX_EXPLAINED = 50
"""How many unroutable tasks get suggestions; comparing names is slow, and nobody reads more."""


async def route(
    dag: TaskDAG,
    registry: SystemRegistry,
    *,
    timeout_seconds: float = SURVEY_SECONDS,
    tasks_before: int = 0,
    allows_agent: bool = False,
    aids: RoutingAids | None = None,
) -> Routing:
    """Return where each task of a DAG goes, and each fallback; parents, whose parts run, go nowhere.

    Args:
        dag: The tasks.
        registry: The systems, inside its `async with`.
        timeout_seconds: Longest wait for a system that lists its tools.
        tasks_before: Tasks of the whole that come before these: problems are counted from there.
        allows_agent: Whether tasks that nothing else can run, and that name no tool, may be left to the calling agent.
        aids: What helps to choose; the registry's own when absent.

    Raises:
        UnroutableTaskError: Some tasks can't be run by anything here; lists each with what to do.
    """
    served = _served_by(registry)
    questions = questions_of(dag, registry, served, AGENT_KIND)
    surveys = await registry.survey(
        questions.systems, timeout_seconds=timeout_seconds, is_enough=questions.is_enough
    )
    router = _Router(registry, surveys, served, aids or registry.aids, allows_agent=allows_agent)
    return await router.route(dag, tasks_before)


class _Router:
    """One routing, with what each system said it can do."""

    def __init__(
        self,
        registry: SystemRegistry,
        surveys: Mapping[str, Survey],
        served: Mapping[str, str],
        aids: RoutingAids,
        *,
        allows_agent: bool,
    ) -> None:
        self._registry = registry
        self._surveys = surveys
        self._aids = aids
        self._kinds = {name: registry.get(name).kind for name in registry}
        self._by_tool: dict[str, list[str]] = {}
        for name, survey in surveys.items():
            for tool in survey.tools:
                systems = self._by_tool.setdefault(tool.name, [])
                if name not in systems:
                    systems.append(name)
        self._capable = [name for name, kind in self._kinds.items() if kind in CAPABLE_KINDS]
        self._controllers = [name for name in self._capable if self._kinds[name] == CONTROLLER_KIND]
        agents = (name for name, kind in self._kinds.items() if kind == AGENT_KIND)
        self._agent = next(agents, None) if allows_agent else None
        self._history: Mapping[tuple[str, str | None], History] = {}
        self._choices: dict[tuple[str, str | None], Choice] = {}
        self._meant: dict[str, Sequence[tuple[str, str]]] = {}
        self._problems: list[Problem] = []
        self._not_configured: dict[str, list[TaskId]] = {}
        self._served = served
        self._known = Known(registry, surveys, self._by_tool, served, self._controllers, AGENT_KIND)

    async def route(self, dag: TaskDAG, tasks_before: int) -> Routing:
        """Route every task, then refuse all that could not be."""
        routing = Routing()
        parents = {task.parent for task in dag.nodes.values()}
        await self._remember(dag)
        for position, task in enumerate(dag.nodes.values(), start=tasks_before):
            if task.task_id in parents:
                continue
            path = f"tasks[{position}]"
            found = await self._route(task, path)
            if found is not None:
                routing.routes[task.task_id], routing.tools[task.task_id] = found.system, found.tool
                routing.reasons[task.task_id] = found.reason
                if found.considered:
                    routing.choices[task.task_id] = found
                others = self._others(task, found)
                if others:
                    routing.others[task.task_id] = others
                await self._route_check(task, found.system, f"{path}.acceptance", routing)
            if task.fallback is not None:
                await self._route_fallbacks(task, path, routing)
        if self._problems:
            raise UnroutableTaskError(self._problems)
        routing.warnings.extend(self._warnings(routing))
        return routing

    async def _remember(self, dag: TaskDAG) -> None:
        """Load what is known of systems among which there is a choice; without it they are as good as each other."""
        if self._aids.history is None:
            return
        wanted = {task.tool or base_task_id(task.task_id) for task in dag.nodes.values()}
        kinds: list[tuple[str, str | None]] = [
            (name, tool)
            for tool, names in self._by_tool.items()
            if tool in wanted and len(names) > 1
            for name in names
        ]
        if len(self._capable) > 1:
            kinds += [(name, None) for name in self._capable]
        if not kinds:
            return
        try:
            self._history = await self._aids.history(kinds)
        except StorageError:
            return  # a routing without the past is still a good one

    async def _route_check(self, task: TaskNode, own: str, path: str, routing: Routing) -> None:
        asked = task.acceptance
        if asked is None or asked.tool is None:
            return
        found = await checking_system(asked, asked.tool, task, own, path, self._known)
        if isinstance(found, Problem):
            self._problems.append(found)
        else:
            routing.checks[task.task_id] = found

    async def _route_fallbacks(self, task: TaskNode, path: str, routing: Routing) -> None:
        found: list[Choice] = []
        for node in fallback_nodes(task):
            path += ".fallback"
            place = await self._route(node, path)
            if place is not None:
                found.append(place)
        routing.fallbacks[task.task_id] = tuple(each.system for each in found)
        routing.fallback_tools[task.task_id] = tuple(each.tool for each in found)

    def _others(self, task: TaskNode, chosen: Choice) -> tuple[str, ...]:
        """Return the systems where a task may go on when the chosen one fails, best first."""
        preference = task.system_preference
        is_kind = preference.casefold() in _NAMED_KINDS | _BOTH
        if is_kind and task.tool is None and task.idempotent:
            able = [each.system for each in chosen.considered] + self._best_capable()
        elif preference in self._registry or preference.casefold() in self._served:
            return ()
        else:
            able = [each.system for each in chosen.considered]
            if chosen.tool is not None and self._kinds[chosen.system] not in CAPABLE_KINDS:
                able += self._controllers
        return tuple(name for name in dict.fromkeys(able) if name != chosen.system)

    def _best_capable(self) -> list[str]:
        if not self._capable:
            return []
        return [each.system for each in self._weighed(self._capable, None, "", "", "").considered]

    async def _route(self, task: TaskNode, path: str) -> Choice | None:
        """Return where a task goes; None, with the problem noted, when nothing can run it."""
        preference = task.system_preference
        name = preference if preference in self._registry else self._served.get(preference.casefold())
        if name is not None:
            return await self._named(task, name, path)
        before = ""
        if preference.casefold() in _BOTH and self._capable and task.tool is None:
            return self._weighed(self._capable, None, "", "it needs no tool", "that need no tool")
        if preference != AUTO:
            self._not_configured.setdefault(preference, []).append(task.task_id)
            before = f"no system is called {preference!r}, so as with auto: "
        found = await self._automatic(task, before)
        if found is None:
            self._refuse(task, path)
        return found

    async def _automatic(self, task: TaskNode, before: str) -> Choice | None:
        """Return the best that can do a task which leaves the choice to us."""
        own = base_task_id(task.task_id)
        tool = task.tool if task.tool is not None else own
        if tool in self._by_tool:
            is_own = tool == own
            first = (
                "it has a tool called like the task" if is_own else f"it is the first with the tool {tool!r}"
            )
            return self._weighed(self._by_tool[tool], tool, before, first, f"with the tool {tool!r}")
        if task.tool is None:
            meant = await self._meant_tool(task)
            if meant is not None:
                names, tool = meant
                first = f"its tool {tool!r} is what the description and the arguments mean"
                return self._weighed(names, tool, before, first, f"with the tool {tool!r}, which is meant,")
        able = self._capable if task.tool is None else self._controllers
        if able:
            first = "no other has a tool for it, and this one runs any task by its description"
            choice = self._weighed(able, None, before, first, "that run any task by its description")
            return replace(choice, tool=task.tool)
        if self._agent is not None and task.tool is None:
            reason = f"{before}nothing else can do it, so it is offered to the calling agent"
            return Choice(system=self._agent, tool=None, reason=reason)
        return None

    def _weighed(self, names: Sequence[str], tool: str | None, before: str, first: str, best: str) -> Choice:
        """Return the choice among systems, which is the same for all tasks that ask for the same."""
        key = (before + first, tool)
        choice = self._choices.get(key)
        if choice is None:
            candidates = [self._candidate(name, tool) for name in names]
            choice = choose(candidates, first, best)
            choice = self._choices[key] = replace(choice, reason=before + choice.reason)
        return choice

    def _candidate(self, name: str, tool: str | None) -> Candidate:
        resilience = self._registry.resilience
        tally, health = resilience.tally(name, tool), resilience.story(name)
        past = self._history.get((name, tool))
        survey = self._surveys.get(name)
        return Candidate(
            system=name,
            tool=tool,
            answered=tally.answered,
            failed=tally.failed,
            completed=past.count if past is not None else tally.answered,
            mean_seconds=past.mean_seconds if past is not None else tally.mean_seconds,
            mean_cost=None if past is None else past.mean_cost,
            is_shut=resilience.is_open(name, tool) or (survey is not None and survey.error is not None),
            running=health.running,
            limit=health.limit,
        )

    async def _meant_tool(self, task: TaskNode) -> tuple[list[str], str] | None:
        """Return the tool a task plainly means by its description, with the systems that have it as it is meant."""
        text = task.description
        if self._aids.find_tools is None or not text:
            return None
        if text not in self._meant:
            if len(self._meant) >= MAX_SEARCHED:
                return None
            hits = await self._aids.find_tools.search(text, SEARCHED_TOOLS)
            self._meant[text] = [(hit.system, hit.tool) for hit in hits]
        meant: dict[str, list[str]] = {}
        for name, tool in self._meant[text]:
            if self._kinds.get(name) == AGENT_KIND or name not in self._surveys:
                continue
            for info in self._surveys[name].tools:
                if info.name == tool and plainly_means(text, tool, task.arguments, info.input_schema):
                    meant.setdefault(tool, []).append(name)
        if len(meant) != 1:
            return None
        ((tool, names),) = meant.items()
        return [name for name in self._surveys if name in names], tool

    async def _named(self, task: TaskNode, name: str, path: str) -> Choice | None:
        """Route a task to the system it names."""
        preference = task.system_preference
        reason = "the task names it" if preference == name else f"it serves {preference!r}"
        if self._surveys[name].error is not None:
            return Choice(system=name, tool=task.tool, reason=reason)
        try:
            tool = await self._registry.get(name).choose_tool(task)
            return Choice(system=name, tool=tool, reason=reason)
        except AttemptError:
            return Choice(system=name, tool=task.tool, reason=reason)  # lost since it was surveyed
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


def _served_by(registry: SystemRegistry) -> dict[str, str]:
    """Return the first system by each name, besides its own, under which it takes tasks."""
    backwards = list(reversed(registry.names))
    served = {other: name for name in backwards for other in served_names(registry.get(name))}
    kinds = ((registry.get(name).kind, name) for name in backwards)
    return served | {kind: name for kind, name in kinds if kind in _NAMED_KINDS}


def served_names(system: System) -> frozenset[str]:
    """Return the names besides its own under which a system takes tasks."""
    names: frozenset[str] = getattr(system, "serves", frozenset())
    return names
