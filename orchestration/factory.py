"""Puts an orchestrator together from what a caller has: collaborators, systems, settings. Reads no file.

May import: all of orchestration, stdlib.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from orchestration.clock import Clock, SystemClock
from orchestration.errors import InvalidArgumentError
from orchestration.execution.company import collaborators_of
from orchestration.execution.memory_storage import MemoryStorage
from orchestration.execution.state_mirror import StateMirror
from orchestration.logs import hide
from orchestration.models import AGENT
from orchestration.options import OrchestratorOptions
from orchestration.orchestrator import AdvancedTaskOrchestrator
from orchestration.planning.decomposer import AdvancedTaskDecomposer
from orchestration.planning.model_planner import ModelPlanner
from orchestration.planning.model_replanner import ModelReplanner
from orchestration.planning.playbook_replanner import PlaybookReplanner
from orchestration.planning.proposal import LanguageModel, SystemTools
from orchestration.planning.replanner import CollaboratorReplanner, FirstReplanner, has_replanner
from orchestration.planning.sequential_thinking import OpenThinking
from orchestration.ports import Replanner, Storage, System
from orchestration.systems.agent import AgentSystem
from orchestration.systems.catalog import ToolCatalog
from orchestration.systems.controller import ControllerSystem
from orchestration.systems.health import SystemPolicy
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.router import CAPABLE_KINDS, served_names

CONTROLLER_NAME = "controller"
"""The system a `unified_controller` becomes."""

TOOLS_SECONDS = 20.0
"""Longest wait for one system's tools before a model plans without them."""


def create_advanced_task_orchestrator(
    unified_controller: object = None,
    sequential_thinking: object = None,
    state_manager: object = None,
    monitoring_system: object = None,
    load_balancer: object = None,
    max_concurrent_tasks: int | None = None,
    enable_detailed_metrics: bool | None = None,
    *,
    systems: Mapping[str, System] | None = None,
    settings: OrchestratorOptions | None = None,
    thinking: OpenThinking | None = None,
    playbook_folders: Sequence[Path] = (),
    model: LanguageModel | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    policies: Mapping[str, SystemPolicy] | None = None,
    secrets: Iterable[str] = (),
) -> AdvancedTaskOrchestrator:
    """Return an orchestrator; every argument is optional. Needs no running event loop.

    Args:
        unified_controller: Runs tasks from their description: has `execute_task(context)` or `process_task(…)`.
        sequential_thinking: Plans: may have `analyze_task_decomposition(…)` and `generate_alternative_plan(…)`.
        state_manager: The storage (`storage.SqliteStorage(path)` makes everything durable; in memory when absent), or
            an object with `set_state`, which is sent status summaries.
        monitoring_system: Is told how each attempt went, `performance_analyzer.record_metric(system, metric, value)`,
            and asked now and then for `get_monitoring_dashboard_data()`. Any method may be missing.
        load_balancer: Chooses the instance of a system that has several, `select_instance(system)`, and is told how
            that went, `record_request_completion(id, response_time_ms, success, error=)`. Any method may be missing.
        max_concurrent_tasks: Attempts at once, over all orchestrations; beats `settings`. 5 unless said otherwise.
        enable_detailed_metrics: Logs every state change at DEBUG; beats `settings`.
        systems: Where tasks run, by the names tasks use.
        settings: Everything else.
        thinking: Opens the Sequential Thinking server of a plan; the in-process one when absent.
        playbook_folders: Folders of the caller's own playbooks.
        model: A language model that plans, after the collaborator and before any playbook, and finds alternatives:
            `ModelPlanner(ModelOptions(name="anthropic:…"))`.
        clock: Where time comes from.
        rng: Draws the jitter of back-offs.
        policies: What is declared about how some systems may be asked: attempts at once, a rate.
        secrets: Keys, tokens and passwords that must be neither stored nor shown when a system sends them back; those
            that systems were given under telling names are known anyway.

    Raises:
        InvalidArgumentError: A collaborator or system has none of the methods that are looked for.
    """
    if settings is not None and not isinstance(settings, OrchestratorOptions):
        raise InvalidArgumentError("settings", settings, "OrchestratorOptions")
    options = settings or OrchestratorOptions()
    chosen: dict[str, Any] = {}
    if max_concurrent_tasks is not None:
        is_whole = isinstance(max_concurrent_tasks, int) and not isinstance(max_concurrent_tasks, bool)
        if not is_whole or not 1 <= max_concurrent_tasks <= 10_000:
            raise InvalidArgumentError(
                "max_concurrent_tasks", max_concurrent_tasks, "a whole number, 1 to 10,000"
            )
        chosen["max_concurrent_tasks"] = max_concurrent_tasks
    if enable_detailed_metrics is not None:
        chosen["enable_detailed_metrics"] = enable_detailed_metrics
    named = _systems(systems)
    if unified_controller is not None:
        if CONTROLLER_NAME in named:
            fix = f"give the system another name, or pass no unified_controller: it becomes system {CONTROLLER_NAME!r}."
            raise InvalidArgumentError("systems", CONTROLLER_NAME, "a name of its own", fix)
        named[CONTROLLER_NAME] = ControllerSystem(unified_controller, CONTROLLER_NAME)
    named.setdefault(AGENT, AgentSystem())
    storage, mirror = _storage(state_manager, clock)
    if model is not None and not callable(getattr(model, "propose", None)):
        fix = 'write ModelPlanner(ModelOptions(name="provider:model")).'
        raise InvalidArgumentError("model", model, "a planner with propose(request, trail)", fix)
    registry = SystemRegistry(named, policies=policies, clock=clock, secrets=secrets)
    hide(registry.redactor)
    registry.aids.history = storage.load_history
    registry.aids.find_tools = ToolCatalog(registry, clock=clock)
    decomposer = AdvancedTaskDecomposer(
        sequential_thinking=sequential_thinking,
        thinking=thinking,
        playbook_folders=playbook_folders,
        systems=lambda: registry.names,
        limits=options.limits,
        model=model,
        find_tools=partial(_find_tools, registry),
    )
    found = _replanners(sequential_thinking, model, registry, thinking, options)
    found.append(PlaybookReplanner(lambda: decomposer.playbooks, options.limits))
    return AdvancedTaskOrchestrator(
        storage=storage,
        systems=registry,
        decomposer=decomposer,
        replanner=FirstReplanner(found),
        thinking=thinking,
        options=replace(options, **chosen) if chosen else options,
        clock=clock,
        mirror=mirror,
        collaborators=collaborators_of(monitoring_system, load_balancer, clock or SystemClock()),
        rng=rng,
    )


def _replanners(
    sequential_thinking: object,
    model: LanguageModel | None,
    registry: SystemRegistry,
    thinking: OpenThinking | None,
    options: OrchestratorOptions,
) -> list[Replanner]:
    """Return who finds alternatives: the collaborator, then the model."""
    found: list[Replanner] = []
    if has_replanner(sequential_thinking):
        found.append(CollaboratorReplanner(sequential_thinking))
    if isinstance(model, ModelPlanner):
        tools = partial(_find_tools, registry)
        found.append(
            ModelReplanner(model.options, find_tools=tools, thinking=thinking, limits=options.limits)
        )
    return found


async def _find_tools(registry: SystemRegistry) -> list[SystemTools]:
    """Ask every system what it can do; one that can't be asked says so."""
    async with registry:
        surveys = await registry.survey(timeout_seconds=TOOLS_SECONDS)
    found = []
    for name, survey in surveys.items():
        system = registry.get(name)
        if system.kind == AGENT:  # whether anybody will claim a task is for whoever submits it to know
            continue
        found.append(
            SystemTools(
                name=name,
                kind=system.kind,
                tools=tuple(survey.tools),
                serves=served_names(system),
                takes_any=system.kind in CAPABLE_KINDS,
                error=survey.error,
            )
        )
    return found


def _systems(systems: object) -> dict[str, System]:
    """Return the systems by name, each with the methods that are called."""
    if systems is None:
        return {}
    if not isinstance(systems, Mapping):
        raise InvalidArgumentError(
            "systems", systems, "systems by name", 'write {"python": FunctionSystem({…})}.'
        )
    for name, system in systems.items():
        if not all(callable(getattr(system, method, None)) for method in ("open", "execute", "aclose")):
            fix = "wrap functions in FunctionSystem({…})."
            raise InvalidArgumentError(
                f"systems[{name!r}]", system, "a system (open, execute, aclose, …)", fix
            )
    return dict(systems)


def _storage(state_manager: Any, clock: Clock | None) -> tuple[Storage, StateMirror | None]:
    """Return the storage that a state manager is or stands beside."""
    if state_manager is None:
        return MemoryStorage(), None
    if all(hasattr(state_manager, name) for name in ("create_orchestration", "append", "acquire_lease")):
        return state_manager, None
    if callable(getattr(state_manager, "set_state", None)):
        return MemoryStorage(), StateMirror(state_manager, clock)
    expected = "a storage (such as storage.SqliteStorage(path)) or an object with set_state(key, value)"
    raise InvalidArgumentError("state_manager", state_manager, expected)
