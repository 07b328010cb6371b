"""Drives orchestrations for a caller: sessions, taking over, waiting, and how things stand right now.

May import: orchestration.* but for planners, submission, control and the façade, anyio, stdlib.

Two ways of use. Inside `async with` one session drives everything in the background. Without it, each call opens a
session of its own and closes it before it returns: nothing runs between calls.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import anyio

from orchestration.clock import Clock, SystemClock
from orchestration.engine.state import ASKS_FOR_APPROVAL, State
from orchestration.errors import (
    LeaseError,
    LeaseHeldError,
    NestedOrchestrationError,
    NotPossibleError,
    OrchestrationInterruptedError,
    OrchestrationNotFoundError,
    Problem,
    UnroutableTaskError,
)
from orchestration.execution.company import Collaborators
from orchestration.execution.coordinator import ParallelCoordinator
from orchestration.execution.driven import Driven, enclosing_goals
from orchestration.execution.identity import is_gone, is_on_this_host
from orchestration.execution.process_sample import sample_process
from orchestration.execution.recovery import load_state
from orchestration.execution.session import Session, World
from orchestration.execution.state_mirror import StateMirror
from orchestration.execution.storage_rules import add_up
from orchestration.logs import get_logger
from orchestration.metrics import totals_document
from orchestration.models import SETTLED, OrchestrationId, TaskStatus
from orchestration.options import OrchestratorOptions
from orchestration.planning.plan import Plan
from orchestration.ports import (
    DriverIdentity,
    DriverView,
    Lease,
    OrchestrationRecord,
    Replanner,
    Storage,
    StreamPlanner,
    Summary,
)
from orchestration.reader import OrchestrationReader, is_orphaned
from orchestration.reports import plan_document, status_document
from orchestration.systems.leftovers import end_leftovers
from orchestration.systems.registry import SystemRegistry

log = get_logger()

_POLL_SECONDS = 0.2
"""Between two looks at an orchestration that another process drives; what is looked at is whether anything changed."""

_KEPT = 1_000
"""Ended orchestrations whose last status `get_orchestration_status` still answers from memory."""

_TALLIED = 100_000
"""Ended orchestrations that `get_performance_metrics` covers."""

_OVER = SETTLED | {TaskStatus.SUPERSEDED}
"""Statuses in which a task needs no system any more."""


class OrchestrationDriver(OrchestrationReader):
    """What can be done with orchestrations that exist.

    Args:
        storage: Where the state lives.
        systems: Where tasks run.
        replanner: Makes alternatives of failed tasks; None when nobody can.
        planner: Makes plans while they run already; None when nobody can.
        options: Everything that shapes how it runs.
        clock: Where time comes from.
        mirror: Is sent status summaries, best effort.
        collaborators: Are told and asked beside the work.
        rng: Draws the jitter of back-offs.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        systems: SystemRegistry,
        replanner: Replanner | None = None,
        planner: StreamPlanner | None = None,
        options: OrchestratorOptions | None = None,
        clock: Clock | None = None,
        mirror: StateMirror | None = None,
        collaborators: Collaborators | None = None,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(storage, options or OrchestratorOptions(), clock or SystemClock(), systems)
        self.systems: SystemRegistry = systems
        self._mirror = mirror
        self._world = World(
            storage=storage,
            registry=systems,
            options=self.options,
            clock=self._clock,
            replanner=replanner,
            planner=planner,
            rng=rng or random.Random(),  # noqa: S311  jitter keeps no secret
            collaborators=collaborators or Collaborators(),
        )
        self._session: Session | None = None
        self._decided: anyio.Event | None = None
        """Set when the call that is about to drive an orchestration has begun to; None when there is none."""
        self._live: dict[OrchestrationId, Live] = {}
        self._ended: OrderedDict[OrchestrationId, dict[str, Any]] = OrderedDict()
        self._tally: deque[Summary] = deque(maxlen=_TALLIED)

    # Lifetime

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise NotPossibleError(
                "This orchestrator", "open", "opened", "One `async with` is enough for all calls."
            )
        session = Session(self._world)
        await session.open()
        self._session = session
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        session, self._session = self._session, None
        try:
            return await session.aclose(exc_type, exc, traceback) if session is not None else None
        finally:
            with anyio.CancelScope(shield=True):
                await self.aclose()

    async def aclose(self) -> None:
        """Close the storage. A later call opens it again."""
        await self.storage.aclose()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Session]:
        """Give the session there is, or one of this call's own."""
        if self._session is not None:
            yield self._session
            return
        session = Session(self._world)
        await session.open()
        try:
            yield session
        except BaseException as exc:
            if not await session.aclose(type(exc), exc, exc.__traceback__):
                raise
        else:
            await session.aclose(None, None, None)

    # Driving

    @asynccontextmanager
    async def _deciding(self) -> AsyncIterator[None]:
        """Let one call at a time decide what this object drives: two that begin at once would fence each other."""
        while self._decided is not None:
            await self._decided.wait()
        decided = self._decided = anyio.Event()
        try:
            yield
        finally:
            self._decided = None
            decided.set()

    def _watch(
        self,
        session: Session,
        record: OrchestrationRecord,
        driven: Driven,
        warnings: list[str],
        plan: Plan | None = None,
        planning_seconds: float = 0.0,
    ) -> None:
        """Keep an eye on an orchestration this object drives."""
        record = replace(record, holder=self._world.identity, driver=None)  # it may have been read before
        live = self._live[record.orchestration_id] = Live(record, driven, warnings, plan, planning_seconds)
        driven.on_end = self._note_end
        if self._mirror is not None:
            session.mirror(self._mirror, driven, lambda: self._status_of(live))

    def _note_end(self, driven: Driven) -> None:
        """Remember how an orchestration ended; its state need not be kept for that."""
        identifier = driven.lease.orchestration_id
        live = self._live.pop(identifier, None)
        if live is None:
            return
        self._ended[identifier] = self._status_of(live)
        while len(self._ended) > _KEPT:
            self._ended.popitem(last=False)
        if driven.summary.state.is_terminal:
            self._tally.append(driven.summary)

    async def wait(self, orchestration_id: OrchestrationId) -> dict[str, Any]:
        """Return the result of an orchestration once it has ended; one that nobody drives is driven here.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
            OrchestrationInterruptedError: This object was closed before the orchestration ended.
            StorageError: Its state could not be stored; it can be resumed.
        """
        async with self._open() as session:
            with self._lent_slot(session):
                return await self._wait(session, orchestration_id, None)

    async def _wait(
        self, session: Session, orchestration_id: OrchestrationId, started: float | None
    ) -> dict[str, Any]:
        live = self._live.get(orchestration_id)
        if live is None:
            record = await self.storage.load_orchestration(orchestration_id)
            if record.summary.state.is_terminal:
                return await self.load_result(orchestration_id)
            try:
                live, _ = await self._take_over(session, record)
            except LeaseHeldError:
                return await self._wait_elsewhere(session, orchestration_id, started)
            except NotPossibleError:  # it ended meanwhile
                return await self.load_result(orchestration_id)
        driven = live.driven
        is_ours = session.coordinator.driven.get(orchestration_id) is driven
        await driven.finished.wait()
        if isinstance(driven.failure, OrchestrationInterruptedError) and not is_ours:
            return await self._wait(session, orchestration_id, started)  # the call that drove it has left
        if driven.failure is not None:
            raise driven.failure
        total = driven.state.finished_at_us or driven.state.last_at_us
        elapsed = (total - live.record.created_at_us) / 1_000_000
        plan = live.plan or await self._plan_of(live.record)
        return await self._result(
            driven.state,
            goal=live.record.goal,
            planning_seconds=live.planning_seconds,
            total_seconds=elapsed if started is None else self._clock.monotonic() - started,
            warnings=live.warnings,
            plan=None
            if plan is None
            else plan_document(plan.planner, plan.thinking_server, plan.thoughts, plan.notes),
        )

    async def _wait_elsewhere(
        self, session: Session, orchestration_id: OrchestrationId, started: float | None
    ) -> dict[str, Any]:
        """Wait for an orchestration that another process drives; go on with it here when that process is gone."""
        while True:
            record = await self.storage.load_orchestration(orchestration_id)
            if record.summary.state.is_terminal:
                return await self.load_result(orchestration_id)
            if is_orphaned(record):
                return await self._wait(session, orchestration_id, started)
            await self._until_changed()

    async def _until_changed(self) -> None:
        """Wait until another process has changed the state, or a second has passed."""
        before = await self.storage.change_count()
        until = self._clock.monotonic() + 1.0
        while self._clock.monotonic() < until:
            await self._clock.sleep(_POLL_SECONDS)
            if await self.storage.change_count() != before:
                return

    async def wait_for_change(
        self, orchestration_id: OrchestrationId, *, after_seq: int, timeout_seconds: float
    ) -> int:
        """Return the last event's seq as soon as it is over `after_seq`, the orchestration has ended, or time is up.

        Raises:
            OrchestrationNotFoundError: There is no such orchestration.
        """
        seq = after_seq
        with anyio.move_on_after(timeout_seconds):
            while True:
                live = self._live.get(orchestration_id)
                if live is not None:
                    seq = live.driven.last_seq
                    if seq > after_seq:
                        return seq
                    changed = live.driven.changed = live.driven.changed or anyio.Event()
                    await changed.wait()
                    continue
                record = await self.storage.load_orchestration(orchestration_id)
                seq = record.last_seq
                if seq > after_seq or record.summary.state.is_terminal:
                    return seq
                await self._until_changed()
        return seq

    # Taking over

    async def _take_over(self, session: Session, record: OrchestrationRecord) -> tuple[Live, bool]:
        """Begin to drive an orchestration nobody drives.

        Returns:
            It, and whether this call began: another call of this object may have been faster.

        Raises:
            NotPossibleError: It has ended meanwhile.
            LeaseHeldError: Another process drives it.
            UnroutableTaskError: It needs systems that are not configured here.
        """
        identifier = record.orchestration_id
        async with self._deciding():
            live = self._live.get(identifier)
            if live is not None:
                return live, False

            def check(state: State) -> None:
                if state.status.is_terminal:
                    raise NotPossibleError(
                        f"Orchestration {identifier!r}",
                        state.status,
                        "taken over",
                        "Only unfinished ones can.",
                    )
                self._refuse_missing(state)

            async with self._adopted(session, record, check, is_watched=True) as driven:
                live = self._live.get(identifier) or Live(record, driven, [], None, 0.0)
                if not driven.finished.is_set():
                    session.coordinator.begin(driven)
            return live, True

    @asynccontextmanager
    async def _adopted(
        self,
        session: Session,
        record: OrchestrationRecord,
        check: Callable[[State], None],
        *,
        is_watched: bool = False,
    ) -> AsyncIterator[Driven]:
        """Hold an orchestration nobody drives, with nothing of it begun and its stored requests carried out.

        One of these may have been its end. When something goes wrong it is let go, and its lease given back.

        Args:
            session: Drives.
            record: As it was read before.
            check: Raises when it may not be held after all; it may have changed since.
            is_watched: Whether this object's status and metrics cover it from the beginning.

        Raises:
            LeaseHeldError: Another process drives it.
        """
        async with self._leased(record) as lease:
            state = await load_state(self.storage, record.orchestration_id)
            check(state)
            driven = session.coordinator.adopt(lease, state)
            try:
                if is_watched:
                    self._watch(session, record, driven, [])
                await session.watch.carry_out_stored(driven)
                yield driven
            except BaseException:
                session.coordinator.let_go(record.orchestration_id)
                raise

    @asynccontextmanager
    async def _leased(self, record: OrchestrationRecord) -> AsyncIterator[Lease]:
        """Take the lease of an orchestration nobody drives; give it back when something goes wrong.

        Raises:
            LeaseHeldError: Another process drives it.
        """
        over: list[DriverIdentity] = []

        def is_over(holder: DriverIdentity, view: DriverView | None) -> bool:
            identifier, token = record.orchestration_id, record.token
            if not self._world.observer.is_over(holder, view, identifier, token):
                return False
            over.append(holder)
            return True

        with anyio.CancelScope(shield=True):  # a lease that was taken unheard would be held by nobody
            lease = await self.storage.acquire_lease(record.orchestration_id, self._world.identity, is_over)
        try:
            for holder in over:
                await self._clear_up_after(holder)
            yield lease
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.storage.release_lease(lease)
            raise

    async def _clear_up_after(self, holder: DriverIdentity) -> None:
        """End what a driver of this host that is gone has left running; one that was only suspended ends its own."""
        world = self._world
        if holder.instance in world.cleared:
            return
        world.cleared.add(holder.instance)
        if is_gone(holder) and is_on_this_host(holder):
            ended = await end_leftovers(holder.instance)
            if ended:
                log.info(
                    "Ended what another driver left running", operation="LEFTOVERS_ENDED", processes=ended
                )

    def _refuse_missing(self, state: State) -> None:
        """Refuse to drive an orchestration that needs systems which are not here.

        Raises:
            UnroutableTaskError: Some are missing; it names them.
        """
        needed = {
            system
            for task in state.tasks.values()
            if task.status not in _OVER
            for system in (task.system, *task.fallback_systems[task.fallbacks :])
        }
        needed.discard("")  # a task whose parts do its work goes nowhere
        missing = sorted(needed - set(self.systems.names))
        if missing:
            names = ", ".join(repr(name) for name in missing)
            there = ", ".join(self.systems.names) or "none"
            problem = Problem(
                state.orchestration_id,
                f"needs system {names}, which is not configured here; there are: {there}.",
                "configure it, or resume where it is configured.",
            )
            raise UnroutableTaskError([problem])

    def _coordinating(self, live: Live) -> ParallelCoordinator:
        """Return the coordinator that drives an orchestration of this object."""
        identifier = live.record.orchestration_id
        for session in self._world.sessions:
            if identifier in session.coordinator.driven:
                return session.coordinator
        raise OrchestrationNotFoundError(identifier)

    # What is known without asking storage

    def get_orchestration_status(self, orchestration_id: OrchestrationId) -> dict[str, Any]:
        """Return the status of an orchestration this object drives or drove, as committed. A plain call.

        Raises:
            OrchestrationNotFoundError: This object knows none of that id; `load_status` asks the storage.
        """
        live = self._live.get(orchestration_id)
        if live is not None:
            return self._status_of(live)
        if orchestration_id in self._ended:
            return dict(self._ended[orchestration_id])
        raise OrchestrationNotFoundError(orchestration_id)

    def _status_of(self, live: Live) -> dict[str, Any]:
        driven = live.driven
        is_let_go = driven.failure is not None
        return status_document(
            replace(live.record, holder=None) if is_let_go else live.record,
            summary=driven.summary,
            running=list(driven.running),
            errors=driven.errors,
            open_questions=driven.open_questions,
            approvals={name: note.removeprefix(ASKS_FOR_APPROVAL) for name, note in driven.approvals.items()},
            asked=driven.asked,
            offered=list(driven.offered),
            progress=driven.progress,
            claimed=driven.claimed,
            last_seq=driven.last_seq,
            now_us=self._clock.now_us(),
            # Who was fenced off knows that somebody else drives it, though not who.
            is_orphaned=is_let_go and not isinstance(driven.failure, LeaseError),
        )

    def get_performance_metrics(self) -> dict[str, Any]:
        """Return the metrics of the orchestrations this object drives and drove. A plain call."""
        summaries = [*self._tally, *(live.driven.summary for live in self._live.values())]
        document: dict[str, Any] = dict(totals_document(add_up(summaries)))
        if self.options.enable_resource_monitoring:
            document["process"] = sample_process()
        told = self._world.collaborators.told()
        if self._mirror is not None:
            told["state_manager"] = self._mirror.collaborator.told()
        if told:
            document["collaborators"] = told
        return document

    # Orchestrating from inside an attempt

    def _refuse_loops(self, goal: str) -> None:
        """Refuse a goal that an enclosing attempt is already working on, and nesting without end.

        Raises:
            NestedOrchestrationError: One of the two.
        """
        goals = [enclosing for storage, enclosing in enclosing_goals.get() if storage is self.storage]
        if goal in goals:
            raise NestedOrchestrationError(goal, len(goals), self.options.limits.max_nesting)
        self._refuse_depth(goal)

    def _refuse_depth(self, goal: str) -> None:
        """Refuse nesting without end.

        Raises:
            NestedOrchestrationError: The present code runs in an attempt that is nested too deep already.
        """
        depth = sum(storage is self.storage for storage, _ in enclosing_goals.get())
        limit = self.options.limits.max_nesting
        if depth > limit:
            raise NestedOrchestrationError(goal, depth, limit)

    @contextmanager
    def _lent_slot(self, session: Session) -> Iterator[None]:
        """Lend the slot of the attempt this code runs in, which only waits from now on, to what it waits for."""
        if not any(storage is self.storage for storage, _ in enclosing_goals.get()):
            yield
            return
        with session.coordinator.lend_slot():
            yield


class Live:
    """An orchestration this object drives, with what only this object knows of it."""

    __slots__ = ("driven", "plan", "planning_seconds", "record", "warnings")

    def __init__(
        self,
        record: OrchestrationRecord,
        driven: Driven,
        warnings: list[str],
        plan: Plan | None,
        planning_seconds: float,
    ) -> None:
        self.record = record
        self.driven = driven
        self.warnings = warnings
        self.plan = plan
        self.planning_seconds = planning_seconds
