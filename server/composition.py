"""The composition root: settings become a storage, systems, a thinking server and an orchestrator. Nothing
else wires.

May import: config, orchestration, storage, stdlib. The command line and the MCP server both come here.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout
from typing import TYPE_CHECKING

from config.settings import Settings, ThinkingCommand
from config.systems_config import (
    AgentSettings,
    AlitaSettings,
    CommandSettings,
    FunctionSettings,
    HttpSettings,
    KgotSettings,
    McpSettings,
    SystemSettings,
)
from orchestration.clock import SystemClock
from orchestration.errors import ConfigurationError
from orchestration.logs import get_logger
from orchestration.models import AGENT
from orchestration.ports import Storage, System
from orchestration.reader import OrchestrationReader
from orchestration.systems.agent import AgentSystem
from orchestration.systems.registry import SystemRegistry
from orchestration.systems.unusable import UnusableSystem
from storage import SqliteStorage
from storage.schema import migrations

if TYPE_CHECKING:
    from orchestration.orchestrator import AdvancedTaskOrchestrator
    from orchestration.planning.proposal import LanguageModel
    from orchestration.planning.sequential_thinking import OpenThinking
    from orchestration.systems.health import SystemPolicy


@asynccontextmanager
async def open_orchestrator(
    settings: Settings, *, has_systems: bool = True, keeps_warm: bool = False
) -> AsyncIterator[AdvancedTaskOrchestrator]:
    """Open an orchestrator over the configured database and systems, and close it at the end.

    Args:
        settings: What it is made of.
        has_systems: Whether it is to run anything; without, no function is imported.
        keeps_warm: Whether thinking processes are started ahead of the plans to come: for what stays open, not for
            one command.

    Raises:
        ConfigurationError: What the configured model needs is not installed.
        StorageError: The database can't be opened.
    """
    from orchestration.planning.thinking_pool import ThinkingPool

    async with AsyncExitStack() as stack:
        thinking = make_thinking(settings.sequential_thinking, keeps_warm=keeps_warm)
        if keeps_warm and isinstance(thinking, ThinkingPool):
            await stack.enter_async_context(thinking)
        orchestrator = await stack.enter_async_context(
            make_orchestrator(settings, has_systems=has_systems, thinking=thinking)
        )
        await orchestrator.storage.open()
        yield orchestrator


@asynccontextmanager
async def open_reader(settings: Settings) -> AsyncIterator[OrchestrationReader]:
    """Open what answers questions about the configured database, without opening a system; creates no database.

    Raises:
        StorageError: The database can't be opened.
    """
    from orchestration.execution.memory_storage import MemoryStorage

    storage: Storage = make_storage(settings) if settings.database.exists() else MemoryStorage()
    try:
        await storage.open()
        yield OrchestrationReader(storage, settings.options, SystemClock(), KnownSystems(settings))
    finally:
        await storage.aclose()


def make_orchestrator(
    settings: Settings, *, has_systems: bool = True, thinking: OpenThinking | None = None
) -> AdvancedTaskOrchestrator:
    """Return an orchestrator, not yet open, with or without the systems.

    Args:
        settings: What it is made of.
        has_systems: Whether it is to run anything.
        thinking: Opens the thinking server of a plan; made of the settings when absent.

    Raises:
        ConfigurationError: What the configured model needs is not installed.
    """
    from orchestration.factory import create_advanced_task_orchestrator

    systems = make_systems(settings) if has_systems else None
    for name, system in (systems or {}).items():
        if isinstance(system, UnusableSystem) and name not in settings.unusable_systems:
            get_logger().warning(f"System {name!r} can't run: {system.reason}", operation="SYSTEM_UNUSABLE")
    return create_advanced_task_orchestrator(
        state_manager=make_storage(settings),
        systems=systems,
        settings=settings.options,
        thinking=thinking or make_thinking(settings.sequential_thinking),
        playbook_folders=settings.playbook_folders,
        model=make_model(settings),
        policies=make_policies(settings),
        secrets=settings.secrets,
    )


def make_storage(settings: Settings) -> SqliteStorage:
    """Return the storage over the configured database file."""
    return SqliteStorage(
        settings.database, synchronous="FULL" if settings.synchronous == "full" else "NORMAL"
    )


def schema_version() -> int:
    """Return the version every database has once it was opened: older ones are brought up to it."""
    return len(migrations())


def make_systems(settings: Settings) -> dict[str, System]:
    """Return the configured systems by name; those that can't run are there, and say why."""
    systems = {name: make_system(name, spec) for name, spec in settings.systems.items()}
    for name, found in settings.unusable_systems.items():
        systems[name] = UnusableSystem(name, found.kind, found.reason)
    return systems


def make_system(name: str, spec: SystemSettings) -> System:
    """Return one system; it connects and starts when it is first needed.

    One with functions that can't be imported is there, and says which and why: the others must go on.
    """
    match spec:
        case FunctionSettings():
            return _functions(name, spec)
        case CommandSettings():
            from orchestration.systems.command import CommandSystem

            return CommandSystem(spec.commands, name)
        case McpSettings():
            from orchestration.systems.mcp import McpSystem

            return McpSystem(spec, name)
        case HttpSettings():
            from orchestration.systems.http import HttpSystem

            return HttpSystem(spec, name)
        case AlitaSettings():
            from orchestration.systems.alita import AlitaSystem

            return AlitaSystem(spec, name)
        case KgotSettings():
            from orchestration.systems.kgot import KgotSystem

            return KgotSystem(spec, name)
        case AgentSettings():
            return AgentSystem(lease_seconds=spec.lease_seconds)


def _functions(name: str, spec: FunctionSettings) -> System:
    from orchestration.systems.function import FunctionSystem
    from orchestration.systems.process_pool import ProcessOptions

    processes = ProcessOptions(
        workers=spec.workers,
        max_tasks_per_worker=spec.max_tasks_per_worker,
        memory_mb=spec.memory_mb,
        env=spec.env,
    )
    try:
        return FunctionSystem.from_import_strings(
            spec.functions, name, threads=spec.threads, engine=spec.engine, processes=processes
        )
    except ConfigurationError as error:
        return UnusableSystem(name, spec.kind, " ".join(str(problem) for problem in error.problems))


def make_policies(settings: Settings) -> dict[str, SystemPolicy]:
    """Return what the configuration says about how its systems may be asked, by name."""
    from orchestration.systems.health import Rate, SystemPolicy

    return {
        name: SystemPolicy(
            max_concurrent=spec.max_concurrent,
            rate=None
            if spec.rate is None
            else Rate(requests=spec.rate.requests, per_seconds=spec.rate.per_seconds),
        )
        for name, spec in settings.systems.items()
        if not isinstance(spec, AgentSettings)
    }


class KnownSystems(SystemRegistry):
    """The configured systems as far as they must be known to say whether they could run something.

    Each is made when it is first looked at, and none is opened: most questions concern none.

    Args:
        settings: Where they are declared.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__({}, secrets=settings.secrets)
        self._specs = settings.systems
        self._made: dict[str, System] = {AGENT: AgentSystem()}
        for name, found in settings.unusable_systems.items():
            self._made[name] = UnusableSystem(name, found.kind, found.reason)

    def __contains__(self, name: object) -> bool:
        return name in self._made or name in self._specs

    def get(self, name: str) -> System:
        """Return a system, not open."""
        if name in self._specs and name not in self._made:
            # What an import prints must not come between the lines of an answer.
            with redirect_stdout(sys.stderr):
                self._made[name] = make_system(name, self._specs[name])
        return self._made.get(name) or super().get(name)


def make_thinking(command: ThinkingCommand | None, *, keeps_warm: bool = False) -> OpenThinking:
    """Return what opens the Sequential Thinking server of a plan: a pool of processes, or one inside this process.

    Args:
        command: What to start; None for the server inside this process.
        keeps_warm: Whether the pool, once it is open, keeps processes ready; else each is started with its plan.
    """
    if command is None:
        from orchestration.planning.sequential_thinking import in_process_thinking

        return in_process_thinking
    from orchestration.planning.thinking_pool import ThinkingPool

    argv = (command.command, *command.args)
    return ThinkingPool(argv, env=command.env, warm=command.warm if keeps_warm else 0)


def make_model(settings: Settings) -> LanguageModel | None:
    """Return the configured language model, which connects when it is first asked; None where none is configured.

    Raises:
        ConfigurationError: What a model needs is not installed.
    """
    if settings.model is None:
        return None
    from orchestration.planning.model_planner import ModelPlanner

    return ModelPlanner(settings.model)
