"""Carries out what the engine decides: commits its events, then lets its effects out. The only interpreter of effects.

May import: orchestration.{clock, errors, logs, models, options, ports}, orchestration.engine.*,
orchestration.execution.*, anyio, stdlib.

Theory of operation. Reports and requests gather in an inbox. One loop takes what has gathered, feeds it to the engine,
writes all events as one transaction (group commit) and only then performs the effects; meanwhile the next batch
gathers. A standing set of workers runs attempts. One timer sleeps until the engine's next deadline.

When a commit fails, the engine is ahead of what is durable: the orchestrations of that batch are let go (they can be
resumed from the database), and whoever waits for them gets the error.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import anyio.abc

from orchestration.clock import Clock
from orchestration.engine.effects import (
    AbandonAttempt,
    AnnounceFinished,
    Effect,
    RequestAlternative,
    StartAttempt,
    StopAttempt,
)
from orchestration.engine.engine import Engine
from orchestration.engine.events import AttemptSucceeded
from orchestration.engine.inputs import (
    Cancel,
    DeadlineReached,
    Input,
    Pause,
    ReportCancelled,
    Resume,
    SlotsFreed,
    TakeOver,
)
from orchestration.engine.state import State
from orchestration.errors import (
    NotPossibleError,
    OrchestrationInterruptedError,
    OrchestrationNotFoundError,
    StaleFencingTokenError,
    StorageError,
)
from orchestration.execution.attempts import AttemptRunner
from orchestration.execution.driven import Driven, ListenerQueue, enclosing_goals
from orchestration.execution.outputs import OutputCache
from orchestration.execution.views import row_of, summary_of
from orchestration.logs import get_logger
from orchestration.models import OrchestrationId, TaskId
from orchestration.ports import Commit, Lease, Listener, Storage, StoredOutput

log = get_logger()

FindAlternative = Callable[[State, RequestAlternative], Awaitable[Input]]
"""Answers a `RequestAlternative` with `AlternativeFound` or `NoAlternative`."""

AttemptKey = tuple[OrchestrationId, TaskId, int]


@dataclass(slots=True)
class _Letter:
    """Something in the inbox."""

    item: Input
    output: StoredOutput | None = None
    answered: anyio.Event | None = None
    """Set when what it led to is committed, for callers that wait for that."""
    was_heard: bool = False
    """Whether it was decided and committed; False for one the loop ended before."""
    error: Exception | None = None

    def answer(self) -> None:
        """Tell the caller."""
        if self.answered is not None:
            self.answered.set()


class ParallelCoordinator:
    """Drives orchestrations until its task group ends.

    Args:
        engine: Decides.
        storage: Keeps; every event is stored before its effect is let out.
        runner: Runs attempts.
        outputs: Outputs that dependents may need.
        clock: Where time comes from.
        draw: Draws a number in [0, 1): the jitter of attempts that were stopped.
        find_alternative: Answers an effect that asks for an alternative plan; None when nobody can.
        is_detailed: Whether to log every committed event at DEBUG.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        storage: Storage,
        runner: AttemptRunner,
        outputs: OutputCache,
        clock: Clock,
        draw: Callable[[], float],
        find_alternative: FindAlternative | None = None,
        is_detailed: bool = False,
    ) -> None:
        self.engine = engine
        self.driven: dict[OrchestrationId, Driven] = {}
        self.peers: list[ParallelCoordinator] = [self]
        """Coordinators that share this one's slots, itself included."""
        self._storage = storage
        self._runner = runner
        self._outputs = outputs
        self._clock = clock
        self._draw = draw
        self._find_alternative = find_alternative
        self._is_detailed = is_detailed
        self._inbox: deque[_Letter] = deque()
        self._mail: anyio.Event | None = None
        self._attempts: deque[StartAttempt | None] = deque()
        """Attempts no worker has taken yet; None sends one worker home."""
        self._idle: list[anyio.Event] = []
        self._scopes: dict[AttemptKey, anyio.CancelScope] = {}
        self._abandoned: set[AttemptKey] = set()
        self._group: anyio.abc.TaskGroup | None = None
        self._armed_us = math.inf
        self._timer_scope: anyio.CancelScope | None = None
        self._timer_rest: anyio.Event | None = None
        self._feeding = 0
        self._fed: anyio.Event | None = None
        self._is_over = False
        """Whether the loop has ended: nothing in the inbox will be looked at any more."""

    # What callers do

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Drive until cancelled. Attempts under way are cancelled then; the journal says they were running."""
        async with anyio.create_task_group() as group:
            self._group = group
            for _ in range(self.engine.scheduler.slots.limit):
                group.start_soon(self._work)
            group.start_soon(self._keep_time)
            group.start_soon(self._drive)
            task_status.started()

    def take_over(
        self, lease: Lease, state: State, listener: Listener | None = None, first: Input | None = None
    ) -> Driven:
        """Begin to drive an orchestration, new or left behind.

        Args:
            lease: The right to.
            state: As it is stored.
            listener: Told of every event from now on.
            first: A request that comes before anything is started.
        """
        summary = summary_of(state, self.engine.scheduler)
        self.engine.adopt(state)
        goals = (*enclosing_goals.get(), (self._storage, state.dag.goal or state.dag.dag_id))
        driven = Driven(lease, state, summary, goals)
        self.driven[state.orchestration_id] = driven
        if listener is not None:
            self.listen(driven, listener)
        if first is not None:
            self.post(first)
        self.post(TakeOver(orchestration_id=state.orchestration_id))
        return driven

    def listen(self, driven: Driven, listener: Listener) -> None:
        """Tell a listener of every event from now on."""
        queue = ListenerQueue(listener)
        driven.listeners.append(queue)
        assert self._group is not None, "a coordinator drives only while it runs"
        self._feeding += 1
        self._group.start_soon(self._feed, queue)

    def post(self, item: Input, output: StoredOutput | None = None) -> None:
        """Put something into the inbox."""
        self._put(_Letter(item, output))

    async def request(self, item: Pause | Resume | Cancel) -> None:
        """Put a caller's request into the inbox and wait until what it led to is committed.

        Raises:
            NotPossibleError: It does not fit the orchestration's state; nothing was changed.
            OrchestrationNotFoundError: It is not driven here any more.
            OrchestrationInterruptedError: This coordinator ended before it came to it.
            StorageError: It could not be stored.
        """
        letter = _Letter(item, answered=anyio.Event())
        if not self._is_over:
            self._put(letter)
            assert letter.answered is not None, "just made"
            await letter.answered.wait()
        if not letter.was_heard:
            raise OrchestrationInterruptedError(item.orchestration_id)
        if letter.error is not None:
            raise letter.error

    def _put(self, letter: _Letter) -> None:
        self._inbox.append(letter)
        if self._mail is not None:
            self._mail.set()

    @contextmanager
    def lend_slot(self) -> Iterator[None]:
        """Let one more attempt run, because a running one waits for what it starts."""
        slots = self.engine.scheduler.slots
        assert self._group is not None, "a coordinator lends only while it runs"
        slots.lent += 1
        self._group.start_soon(self._work)
        try:
            yield
        finally:
            slots.lent -= 1
            self._attempts.append(None)
            if self._idle:
                self._idle.pop().set()

    def let_go(self, orchestration_id: OrchestrationId, failure: Exception | None = None) -> None:
        """Stop driving an orchestration: it has ended, or somebody else drives it now."""
        driven = self.driven.pop(orchestration_id, None)
        if driven is None:
            return
        self._outputs.forget(orchestration_id, driven.state.tasks)
        self.engine.drop(orchestration_id)
        for key, scope in list(self._scopes.items()):
            if key[0] == orchestration_id:
                scope.cancel()
        driven.end(failure)
        self.share_slots()

    def share_slots(self) -> None:
        """Tell every coordinator that waits for a slot, this one included, that one may be free."""
        for peer in self.peers:
            if peer.engine.scheduler.slots.is_free and peer.engine.scheduler.is_hungry:
                peer.post(SlotsFreed())

    async def finish_feeding(self) -> None:
        """Wait until the listeners of orchestrations that have ended were told everything."""
        while self._feeding:
            self._fed = anyio.Event()
            await self._fed.wait()

    async def _feed(self, queue: ListenerQueue) -> None:
        """Hand a listener its events, one by one; its faults are logged and forgotten."""
        try:
            while queue.waiting or not queue.is_closed:
                if not queue.waiting:
                    queue.arrived = anyio.Event()
                    await queue.arrived.wait()
                    continue
                recorded = queue.waiting.popleft()
                try:
                    answer = queue.listener(recorded)
                    if answer is not None:
                        await answer
                except (Exception, KeyboardInterrupt, SystemExit) as exc:  # noqa: BLE001  a listener is the caller's code; it must not end anything
                    log.warning("A listener failed", operation="LISTENER_FAILED", reason=type(exc).__name__)
        finally:
            self._feeding -= 1
            if self._fed is not None:
                self._fed.set()

    # The loop

    async def _drive(self) -> None:
        waiting: list[_Letter] = []
        try:
            await self._drive_on(waiting)
        finally:
            self._is_over = True
            for letter in (*waiting, *self._inbox):
                letter.answer()

    async def _drive_on(self, waiting: list[_Letter]) -> None:
        """Go round until cancelled; `waiting` holds the letters of this round whose senders wait for an answer."""
        while True:
            if not self._inbox:
                self._mail = anyio.Event()
                await self._mail.wait()
                self._mail = None
            effects: list[Effect] = []
            touched: dict[OrchestrationId, Driven] = {}
            now_us = self._clock.now_us()
            while self._inbox:
                letter = self._inbox.popleft()
                self._decide(letter, now_us, effects, touched)
                if letter.answered is not None:
                    waiting.append(letter)
            await self._commit(list(touched.values()), waiting)
            for effect in effects:
                self._perform(effect)
            for letter in waiting:
                letter.was_heard = True
                letter.answer()
            waiting.clear()
            self._rearm()
            if len(self.peers) > 1:
                self.share_slots()

    def _decide(
        self,
        letter: _Letter,
        now_us: int,
        effects: list[Effect],
        touched: dict[OrchestrationId, Driven],
    ) -> None:
        """Feed one input to the engine and note what it led to."""
        try:
            decision = self.engine.handle(letter.item, now_us)
        except (NotPossibleError, OrchestrationNotFoundError) as exc:  # the state had moved on
            letter.error = exc
            return
        for recorded in decision.events:
            driven = self.driven[recorded.orchestration_id]
            driven.pending_events.append(recorded)
            touched[recorded.orchestration_id] = driven
        output = letter.output
        if output is not None and decision.events:
            first = decision.events[0]
            if isinstance(first.event, AttemptSucceeded):  # not a late report that nobody waits for any more
                self.driven[first.orchestration_id].pending_outputs.append(output)
                self._outputs.put(first.orchestration_id, output.task_id, output.text)
        effects += decision.effects

    async def _commit(self, touched: list[Driven], waiting: list[_Letter]) -> None:
        """Store what the engine decided; let go of every orchestration for which that fails."""
        while touched:
            commits = [self._commit_of(driven) for driven in touched]
            try:
                await self._storage.append(commits)
            except StaleFencingTokenError as exc:
                fenced = [
                    driven for driven in touched if driven.lease.orchestration_id == exc.orchestration_id
                ]
                log.warning(
                    "Another process took the orchestration over",
                    operation="ORCHESTRATION_FENCED",
                    orchestration_id=exc.orchestration_id,
                )
                touched = [driven for driven in touched if driven not in fenced]
                for driven in fenced:
                    self.let_go(driven.lease.orchestration_id, exc)
                continue
            except Exception as exc:
                is_fault = isinstance(exc, StorageError)
                log.error(
                    "Can't store",
                    operation="STORAGE_FAILED",
                    reason=str(exc),
                    exc_info=None if is_fault else exc,
                )
                for driven in touched:
                    self.let_go(driven.lease.orchestration_id, exc)
                    if self._group is not None:
                        self._group.start_soon(self._release, driven.lease)
                for letter in waiting:
                    letter.error = letter.error or exc
                return
            for driven, commit in zip(touched, commits, strict=True):
                events = driven.pending_events
                driven.pending_events, driven.pending_outputs = [], []
                driven.state.touched.clear()
                driven.publish(events, commit.summary)
                if self._is_detailed and log.is_enabled_for(logging.DEBUG):
                    for recorded in events:
                        log.debug(
                            "Event committed",
                            operation=recorded.event.type.upper(),
                            orchestration_id=recorded.orchestration_id,
                            seq=recorded.seq,
                            task_id=getattr(recorded.event, "task_id", None),
                        )
            return

    def _commit_of(self, driven: Driven) -> Commit:
        state = driven.state
        return Commit(
            lease=driven.lease,
            events=driven.pending_events,
            tasks=[row_of(state.tasks[task_id]) for task_id in state.touched],
            outputs=driven.pending_outputs,
            summary=summary_of(state, self.engine.scheduler),
        )

    def _perform(self, effect: Effect) -> None:
        """Carry out one effect; what led to it is durable."""
        if effect.orchestration_id not in self.driven:
            return  # let go between decision and commit
        match effect:
            case StartAttempt():
                self._attempts.append(effect)
                if self._idle:
                    self._idle.pop().set()
            case StopAttempt():
                self._stop(effect)
            case AbandonAttempt():
                self._abandon(effect)
            case RequestAlternative():
                self._request_alternative(effect)
            case AnnounceFinished():
                self._announce(effect)

    def _announce(self, effect: AnnounceFinished) -> None:
        if log.is_enabled_for(logging.INFO):
            log.info(
                "Orchestration finished",
                operation="ORCHESTRATION_FINISHED",
                orchestration_id=effect.orchestration_id,
                outcome=effect.outcome.value,
            )
        driven = self.driven.get(effect.orchestration_id)
        self.let_go(effect.orchestration_id)
        if driven is not None and self._group is not None:
            self._group.start_soon(self._release, driven.lease)

    async def _release(self, lease: Lease) -> None:
        try:
            await self._storage.release_lease(lease)
        except StorageError as exc:  # whoever looks for orphans finds it once this process has gone
            log.warning("Can't release a lease", operation="LEASE_KEPT", reason=str(exc))

    # Attempts

    async def _work(self) -> None:
        """Run attempts, one after the other, for as long as the coordinator runs."""
        while True:
            while not self._attempts:
                called = anyio.Event()
                self._idle.append(called)
                await called.wait()
            effect = self._attempts.popleft()
            if effect is None or not await self._attempt(effect):
                return

    async def _attempt(self, effect: StartAttempt) -> bool:
        """Run one attempt and report it. False when it had been abandoned: another worker took this one's place."""
        driven = self.driven.get(effect.orchestration_id)
        if driven is None:
            return True
        key = (effect.orchestration_id, effect.task_id, effect.attempt)
        if log.is_enabled_for(logging.INFO):
            node = driven.state.tasks[effect.task_id].node
            log.info(
                "Task execution started",
                operation="TASK_EXECUTION_START",
                task_id=effect.task_id,
                orchestration_id=effect.orchestration_id,
                estimated_time=node.estimated_time_seconds,
                priority=node.priority.value,
            )
        reported = None
        enclosing_goals.set(driven.goals)
        with anyio.CancelScope() as scope:
            self._scopes[key] = scope
            reported = await self._runner.run(driven.state, effect)
        del self._scopes[key]
        if key in self._abandoned:
            self._abandoned.discard(key)
            return False
        if reported is None:
            self.post(
                ReportCancelled(
                    orchestration_id=effect.orchestration_id,
                    task_id=effect.task_id,
                    attempt=effect.attempt,
                    jitter=self._draw(),
                )
            )
        else:
            self.post(reported.report, reported.output)
        return True

    def _stop(self, effect: StopAttempt) -> None:
        """Cancel a running attempt; one that no worker has taken yet is reported as cancelled at once."""
        key = (effect.orchestration_id, effect.task_id, effect.attempt)
        scope = self._scopes.get(key)
        if scope is not None:
            scope.cancel()
            return
        for queued in self._attempts:
            if queued is not None and (queued.orchestration_id, queued.task_id, queued.attempt) == key:
                self._attempts.remove(queued)
                self.post(
                    ReportCancelled(
                        orchestration_id=effect.orchestration_id,
                        task_id=effect.task_id,
                        attempt=effect.attempt,
                    )
                )
                return

    def _abandon(self, effect: AbandonAttempt) -> None:
        """Leave a worker to an attempt that will not stop, and put another in its place."""
        key = (effect.orchestration_id, effect.task_id, effect.attempt)
        if key in self._scopes:
            self._abandoned.add(key)
            log.warning(
                "Attempt did not stop; its work may go on",
                operation="ATTEMPT_ABANDONED",
                orchestration_id=effect.orchestration_id,
                task_id=effect.task_id,
                attempt=effect.attempt,
            )
            assert self._group is not None, "effects are carried out only while running"
            self._group.start_soon(self._work)

    # Alternatives, time, slots

    def _request_alternative(self, effect: RequestAlternative) -> None:
        assert self._group is not None, "effects are carried out only while running"
        self._group.start_soon(self._alternative, self.driven[effect.orchestration_id].state, effect)

    async def _alternative(self, state: State, effect: RequestAlternative) -> None:
        if self._find_alternative is not None:
            self.post(await self._find_alternative(state, effect))

    async def _keep_time(self) -> None:
        """Tell the engine when its next deadline has come."""
        while True:
            due = self.engine.next_deadline_us()
            self._armed_us = math.inf if due is None else due
            with anyio.CancelScope() as self._timer_scope:
                if due is None:
                    await anyio.sleep_forever()
                else:
                    await self._clock.sleep((due - self._clock.now_us()) / 1_000_000)
            self._timer_scope = None
            if due is not None and self._clock.now_us() >= due:
                self._timer_rest = anyio.Event()
                self.post(DeadlineReached())
                await self._timer_rest.wait()

    def _rearm(self) -> None:
        """Wake the timer when a deadline has come up that is earlier than the one it sleeps for."""
        if self._timer_rest is not None:
            self._timer_rest.set()
            self._timer_rest = None
        due = self.engine.next_deadline_us()
        if due is not None and due < self._armed_us and self._timer_scope is not None:
            self._timer_scope.cancel()
