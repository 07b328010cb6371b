"""What runs while an orchestrator is open: one coordinator, one set of open systems, one task group.

May import: orchestration.{clock, dag, errors, logs, models, options, ports, systems}, orchestration.engine.*,
orchestration.execution.*, anyio, stdlib.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel

from orchestration.clock import Clock
from orchestration.engine.engine import Engine, EngineOptions
from orchestration.engine.events import (
    AttemptSucceeded,
    CancelRequested,
    OrchestrationFinished,
    OrchestrationPaused,
    OrchestrationResumed,
    Recorded,
    TaskFailed,
)
from orchestration.engine.inputs import Gate, GatesChanged
from orchestration.engine.prioritizer import DynamicTaskPrioritizer
from orchestration.engine.scheduler import AdaptiveTaskScheduler, SlotPool
from orchestration.errors import (
    NotPossibleError,
    OrchestrationInterruptedError,
    StorageError,
)
from orchestration.execution.acceptance import AcceptanceCheck
from orchestration.execution.alternatives import AlternativeFinder
from orchestration.execution.attempts import AttemptRunner
from orchestration.execution.company import Collaborators, Company
from orchestration.execution.coordinator import ParallelCoordinator
from orchestration.execution.driven import Driven
from orchestration.execution.growing import PlanGrower
from orchestration.execution.identity import this_process
from orchestration.execution.leases import LeaseObserver
from orchestration.execution.outputs import OutputCache
from orchestration.execution.preparation import Preparation
from orchestration.execution.questions import QuestionDesk
from orchestration.execution.state_mirror import StateMirror
from orchestration.execution.watch import Watch
from orchestration.logs import get_logger
from orchestration.options import OrchestratorOptions
from orchestration.ports import DriverIdentity, Replanner, Storage, StreamPlanner
from orchestration.systems.registry import SystemRegistry

log = get_logger()

_CLOSING_SECONDS = 1.0
"""Longest wait for leases to be given back when a session closes; a lease of a dead process is free anyway."""

_MIRRORED = (
    AttemptSucceeded,
    TaskFailed,
    OrchestrationPaused,
    OrchestrationResumed,
    CancelRequested,
    OrchestrationFinished,
)
"""Events after which a mirror is sent the status."""


@dataclass(kw_only=True)
class World:
    """What an orchestrator's sessions share."""

    storage: Storage
    registry: SystemRegistry
    options: OrchestratorOptions
    clock: Clock
    replanner: Replanner | None
    planner: StreamPlanner | None
    """Makes plans while they run already; None when nobody can."""
    rng: random.Random
    collaborators: Collaborators = field(default_factory=Collaborators)
    """Told and asked beside the work."""
    identity: DriverIdentity = field(init=False)
    observer: LeaseObserver = field(init=False)
    """Watches other drivers."""
    slots: SlotPool = field(init=False)
    sessions: list[Session] = field(default_factory=list)
    cleared: set[str] = field(default_factory=set)
    """Instances of drivers whose leftovers on this host were ended."""
    loop: object = None
    """The event loop of the sessions."""

    def __post_init__(self) -> None:
        self.identity = this_process(secrets.token_hex(8))
        self.observer = LeaseObserver(self.clock)
        self.slots = SlotPool(self.options.concurrency)


class Session:
    """Drives orchestrations from `open` to `aclose`; both in the same anyio task.

    Args:
        world: What is shared with the orchestrator's other sessions.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        options = world.options
        scheduler = AdaptiveTaskScheduler(
            world.slots,
            DynamicTaskPrioritizer(options.prioritization),
            is_adaptive=options.enable_adaptive_scheduling,
        )
        engine = Engine(
            scheduler,
            EngineOptions(
                cancel_grace_seconds=options.cancel_grace_seconds,
                max_replans_per_task=options.limits.max_replans_per_task,
                max_replans=options.limits.max_replans,
            ),
        )
        self.company = Company(world.collaborators, world.clock)
        outputs = OutputCache(world.storage)
        preparation = Preparation(outputs, options.limits, world.identity.instance, world.registry.redactor)
        acceptance = AcceptanceCheck(world.registry, preparation)
        grower = None if world.planner is None else PlanGrower(world.registry, preparation, world.planner)
        self.coordinator = ParallelCoordinator(
            engine=engine,
            storage=world.storage,
            runner=AttemptRunner(
                world.registry,
                preparation,
                options.limits,
                world.rng,
                world.clock,
                acceptance,
                execute=self.company.execute,
            ),
            desk=QuestionDesk(
                world.registry,
                world.storage,
                preparation,
                options.limits,
                world.clock,
                acceptance,
                world.rng.random,
            ),
            outputs=outputs,
            clock=world.clock,
            draw=world.rng.random,
            find_alternative=AlternativeFinder(world.registry, preparation, world.replanner).find,
            make_plan=None if grower is None else grower.grow,
            is_detailed=options.enable_detailed_metrics,
        )
        self.watch = Watch(
            world.storage, self.coordinator, world.identity, world.clock, options, world.rng.random
        )
        if world.storage.is_durable:  # else no other process can see, take or ask anything
            self.coordinator.keep_leases = self.watch.renew_if_due
        self._group: anyio.abc.TaskGroup | None = None
        self._forget_gates: Callable[[], object] = lambda: None
        """Ends being told how much systems take."""

    async def open(self) -> None:
        """Open systems lazily and start to drive. Cancelled on the way, it leaves nothing open."""
        self._refuse_other_loops()
        async with AsyncExitStack() as undo:
            await undo.enter_async_context(self.world.registry)
            group = await undo.enter_async_context(anyio.create_task_group())
            self.company.start(group)
            await group.start(self.coordinator.run)
            resilience = self.world.registry.resilience
            self._take_gates(resilience.gates())
            self._forget_gates = resilience.subscribe(lambda name, gate: self._take_gates({name: gate}))
            undo.callback(self._forget_gates)
            if self.world.storage.is_durable:
                group.start_soon(self.watch.run)
            undo.pop_all()
        self._group = group
        self.world.sessions.append(self)
        self._join()

    def _take_gates(self, gates: Mapping[str, Gate]) -> None:
        """Have the engine keep to how much systems take."""
        if gates:
            self.coordinator.post(GatesChanged(gates=gates))

    def _refuse_other_loops(self) -> None:
        """Refuse to run beside sessions of another event loop: neither could ever wake the other.

        Raises:
            NotPossibleError: The orchestrator is in use there.
        """
        world, loop = self.world, anyio.lowlevel.current_token().native_token
        if world.sessions and world.loop is not loop:
            raise NotPossibleError(
                "This orchestrator",
                "in use by another event loop",
                "used by this one",
                "Make one orchestrator per event loop; they may share a database.",
            )
        world.loop = loop

    async def aclose(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Stop driving. Attempts under way are cancelled; unfinished orchestrations can be resumed."""
        if self in self.world.sessions:
            self.world.sessions.remove(self)
            self._join()
        self._forget_gates()
        self.company.hurry()
        group, self._group = self._group, None
        unfinished = list(self.coordinator.driven.values())
        is_cancelled = exc is not None and isinstance(exc, anyio.get_cancelled_exc_class())
        swallowed = False
        for driven in unfinished:
            driven.end(OrchestrationInterruptedError(driven.lease.orchestration_id))
        try:
            if group is not None:
                if not is_cancelled:
                    with anyio.move_on_after(_CLOSING_SECONDS):
                        await self.coordinator.finish_feeding()
                group.cancel_scope.cancel()
                # An exception of the body is not the group's: handing it over would wrap it in an ExceptionGroup.
                details = (exc_type, exc, traceback) if is_cancelled else (None, None, None)
                swallowed = bool(await group.__aexit__(*details))
        finally:
            await self.company.finish()
            with anyio.move_on_after(_CLOSING_SECONDS, shield=True):
                for driven in unfinished:
                    try:
                        await self.world.storage.release_lease(driven.lease)
                    except StorageError as fault:
                        log.warning("Can't release a lease", operation="LEASE_KEPT", reason=str(fault))
                if not self.world.sessions:
                    await self._retire()
            for driven in unfinished:
                self.coordinator.engine.drop(driven.lease.orchestration_id)
            self.coordinator.driven.clear()
            self.coordinator.share_slots()
            await self.world.registry.__aexit__(None, None, None)
        return swallowed and is_cancelled

    async def _retire(self) -> None:
        """Have the heartbeats forgotten: nothing is driven under this identity any more."""
        if self.watch.has_beaten:
            try:
                await self.world.storage.retire_driver(self.world.identity)
            except StorageError as fault:  # housekeeping forgets it some day
                log.warning("Can't retire as a driver", operation="DRIVER_KEPT", reason=str(fault))

    def mirror(self, mirror: StateMirror, driven: Driven, status: Callable[[], Mapping[str, Any]]) -> None:
        """Send a collaborator the status whenever the orchestration's own state changes."""
        identifier = driven.lease.orchestration_id

        async def send(recorded: Recorded) -> None:
            if isinstance(recorded.event, _MIRRORED):
                await mirror.send(identifier, status())

        self.coordinator.listen(driven, send)

    def _join(self) -> None:
        """Make the sessions that share slots known to each other."""
        peers = [session.coordinator for session in self.world.sessions]
        for coordinator in peers:
            coordinator.peers = peers
