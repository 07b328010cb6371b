"""Carries out what the engine decides: commits its events, then lets its effects out. The only interpreter of effects.

May import: orchestration.{claim_records, clock, errors, logs, models, options, ports}, orchestration.engine.*,
orchestration.execution.*, anyio, stdlib.

Theory of operation. Reports and requests gather in an inbox. One loop takes what has gathered, feeds it to the engine,
writes all events as one transaction (group commit) and only then performs the effects; meanwhile the next batch
gathers. A standing set of workers (`workers.py`) runs attempts. One timer sleeps until the engine's next deadline.

When a commit fails, the engine is ahead of what is durable: the orchestrations of that batch are let go (they can be
resumed from the database), and whoever waits for them gets the error.

Crash points. A process may die before a commit, between a commit and its effects, or between an effect and its report;
`tests/chaos` kills it there. What each leaves behind is the same for whoever takes over: a journal that ends with a
whole decision.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
import anyio.abc

from orchestration.claim_records import Offer
from orchestration.clock import Clock
from orchestration.engine.effects import (
    AbandonAttempt,
    AnnounceFinished,
    ContinuePlan,
    Effect,
    RequestAlternative,
    StartAttempt,
    StopAttempt,
)
from orchestration.engine.engine import Engine
from orchestration.engine.events import (
    AttemptSucceeded,
    ChildrenGathered,
    ClaimReported,
    Recorded,
    ResultReused,
    TaskDecided,
    TaskOffered,
)
from orchestration.engine.inputs import (
    DeadlineReached,
    Input,
    Interrupt,
    PlanEnded,
    PlanGrown,
    SlotsFreed,
    TakeOver,
)
from orchestration.engine.state import State
from orchestration.errors import (
    InvalidTransitionError,
    OrchestrationInterruptedError,
    StaleFencingTokenError,
    StateError,
    StorageError,
)
from orchestration.execution.attempts import AttemptRunner
from orchestration.execution.claim_outcomes import claim_outcomes_in
from orchestration.execution.driven import Driven, ListenerQueue, enclosing_goals
from orchestration.execution.letters import (
    FindAlternative,
    Letter,
    MakePlan,
    reopened_in,
    revision_in,
    unblocked_by,
)
from orchestration.execution.open_ends import tell_open
from orchestration.execution.outputs import OutputCache
from orchestration.execution.questions import QuestionDesk
from orchestration.execution.requests import Request
from orchestration.execution.revisions import revisions_in
from orchestration.execution.timer import DeadlineTimer
from orchestration.execution.views import progress_words, row_of, summary_of
from orchestration.execution.workers import Workers
from orchestration.logs import get_logger
from orchestration.models import OrchestrationId
from orchestration.ports import CacheEntry, Commit, ControlAnswer, Lease, Listener, Storage, StoredOutput

log = get_logger()

_DELIVERIES = (AttemptSucceeded, TaskDecided, ResultReused, ChildrenGathered, ClaimReported)
"""Events with which an output is stored."""


class ParallelCoordinator:
    """Drives orchestrations until its task group ends.

    Args:
        engine: Decides.
        storage: Keeps; every event is stored before its effect is let out.
        runner: Runs attempts.
        outputs: Outputs that dependents may need.
        clock: Where time comes from.
        draw: Draws a number in [0, 1): the jitter of attempts that were stopped.
        desk: Answers questions about tasks.
        find_alternative: Answers an effect that asks for an alternative plan; None when nobody can.
        make_plan: Makes the rest of a plan; None when nobody can.
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
        desk: QuestionDesk,
        find_alternative: FindAlternative | None = None,
        make_plan: MakePlan | None = None,
        is_detailed: bool = False,
    ) -> None:
        self.engine = engine
        self.driven: dict[OrchestrationId, Driven] = {}
        self.peers: list[ParallelCoordinator] = [self]
        """Coordinators that share this one's slots, itself included."""
        self.keep_leases: Callable[[], Awaitable[None]] | None = None
        """Called before each round: after a gap the leases are renewed before anything is committed or started."""
        self._storage = storage
        self._outputs = outputs
        self._clock = clock
        self._find_alternative = find_alternative
        self._make_plan = make_plan
        self._is_detailed = is_detailed
        self._inbox: deque[Letter] = deque()
        self._mail: anyio.Event | None = None
        self._workers = Workers(runner, desk, clock, draw, self.post, self.driven.get, self._renew)
        self._touched: dict[OrchestrationId, Driven] = {}
        """Orchestrations that have something to be committed."""
        self._group: anyio.abc.TaskGroup | None = None
        self._timer = DeadlineTimer(clock, engine.next_deadline_us, lambda: self.post(DeadlineReached()))
        self._feeding = 0
        self._fed: anyio.Event | None = None
        self._is_over = False
        """Whether the loop has ended: nothing in the inbox will be looked at any more."""

    # What callers do

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Drive until cancelled. Attempts under way are cancelled then; the journal says they were running."""
        async with anyio.create_task_group() as group:
            self._group = group
            self._workers.start(group, self.engine.scheduler.slots.limit)
            group.start_soon(self._timer.run)
            group.start_soon(self._drive)
            task_status.started()

    def take_over(self, lease: Lease, state: State, listener: Listener | None = None) -> Driven:
        """Begin to drive an orchestration, new or left behind.

        Args:
            lease: The right to.
            state: As it is stored.
            listener: Told of every event from now on.
        """
        driven = self.adopt(lease, state, listener)
        self.begin(driven)
        return driven

    def adopt(self, lease: Lease, state: State, listener: Listener | None = None) -> Driven:
        """Hold an orchestration and take requests for it; nothing of it starts before `begin`."""
        summary = summary_of(state, self.engine.scheduler)
        self.engine.adopt(state)
        goals = (*enclosing_goals.get(), (self._storage, state.dag.goal or state.dag.dag_id))
        driven = Driven(lease, state, summary, goals)
        self.driven[state.orchestration_id] = driven
        if listener is not None:
            self.listen(driven, listener)
        return driven

    def begin(self, driven: Driven) -> None:
        """Go on with an orchestration that was adopted."""
        self.post(TakeOver(orchestration_id=driven.lease.orchestration_id))

    def listen(self, driven: Driven, listener: Listener) -> None:
        """Tell a listener of every event from now on."""
        queue = ListenerQueue(listener)
        driven.listeners.append(queue)
        assert self._group is not None, "a coordinator drives only while it runs"
        self._feeding += 1
        self._group.start_soon(self._feed, queue)

    def post(
        self,
        item: Input,
        output: StoredOutput | None = None,
        cached: CacheEntry | None = None,
        offer: Offer | None = None,
    ) -> None:
        """Put something into the inbox."""
        self._put(Letter(item, output, cached, offer))

    async def request(
        self, item: Request | Interrupt | PlanGrown | PlanEnded, output: StoredOutput | None = None
    ) -> list[Recorded]:
        """Put a caller's request into the inbox, wait until what it led to is committed, and return that.

        Raises:
            NotPossibleError: It does not fit the orchestration's state; nothing was changed.
            TaskNotFoundError: The orchestration has no such task.
            OrchestrationNotFoundError: It is not driven here any more.
            OrchestrationInterruptedError: This coordinator ended before it came to it.
            StorageError: It could not be stored.
        """
        answered = anyio.Event()
        letter = Letter(item, output, on_answered=answered.set)
        if not self._is_over:
            self._put(letter)
            await answered.wait()
        if not letter.was_heard:
            raise OrchestrationInterruptedError(item.orchestration_id)
        if letter.error is not None:
            raise letter.error
        return letter.events

    def carry_out(
        self, item: Request, output: StoredOutput | None, control_id: int, on_answered: Callable[[], None]
    ) -> None:
        """Put a stored request into the inbox; what became of it is stored with what it led to."""
        self._put(Letter(item, output, on_answered=on_answered, control_id=control_id))

    def refuse(self, driven: Driven, answer: ControlAnswer) -> None:
        """Store the refusal of a request that can't even be put to the engine."""
        self._put(Letter(SlotsFreed(), refusal=(driven, answer)))

    def _put(self, letter: Letter) -> None:
        self._inbox.append(letter)
        if self._mail is not None:
            self._mail.set()

    def take_progress(self) -> None:
        """Have what running attempts say of their progress stored with the next commit, as far as it is news."""
        is_news = False
        for (orchestration_id, task_id, attempt), progress in list(self._workers.told.items()):
            driven = self.driven.get(orchestration_id)
            task = None if driven is None else driven.state.tasks.get(task_id)
            told = progress_words(progress)
            if driven is None or task is None or task.attempt != attempt or task_id not in driven.running:
                continue
            if driven.progress.get(task_id) != told:
                driven.progress[task_id] = told
                driven.state.touched[task_id] = None
                self._touched[orchestration_id] = driven
                is_news = True
        if is_news:
            self.post(SlotsFreed())  # a round of its own, where nothing else happens

    @contextmanager
    def lend_slot(self) -> Iterator[None]:
        """Let one more attempt run, because a running one waits for what it starts."""
        slots = self.engine.scheduler.slots
        slots.lent += 1
        self._workers.hire()
        try:
            yield
        finally:
            slots.lent -= 1
            self._workers.dismiss()

    def let_go(self, orchestration_id: OrchestrationId, failure: Exception | None = None) -> None:
        """Stop driving an orchestration: it has ended, or somebody else drives it now."""
        driven = self.driven.pop(orchestration_id, None)
        if driven is None:
            return
        self._touched.pop(orchestration_id, None)
        self._outputs.forget(orchestration_id, driven.state.tasks)
        self.engine.drop(orchestration_id)
        self._workers.cancel_all(orchestration_id)
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
        waiting: list[Letter] = []
        try:
            await self._drive_on(waiting)
        finally:
            self._is_over = True
            for letter in (*waiting, *self._inbox):
                letter.answer()

    async def _drive_on(self, waiting: list[Letter]) -> None:
        """Go round until cancelled; `waiting` holds the letters of this round whose senders wait for an answer."""
        while True:
            if not self._inbox:
                self._mail = anyio.Event()
                await self._mail.wait()
                self._mail = None
            await self._renew()
            effects: list[Effect] = []
            now_us = self._clock.now_us()
            while self._inbox:
                letter = self._inbox.popleft()
                if letter.on_answered is not None:
                    waiting.append(letter)
                self._decide(letter, now_us, effects)
            touched, self._touched = self._touched, {}
            await self._commit(list(touched.values()), waiting)
            for effect in effects:
                self._perform(effect)
            for letter in waiting:
                letter.was_heard = True
                letter.answer()
            waiting.clear()
            self._timer.rearm()
            if len(self.peers) > 1:
                self.share_slots()

    async def _renew(self) -> None:
        """Make sure that what is about to be decided is still this process's to decide."""
        if self.keep_leases is not None:
            try:
                await self.keep_leases()
            except StorageError as exc:  # the commit will meet the same fault, and let go of what it concerns
                log.warning("Can't renew the leases", operation="RENEWAL_FAILED", reason=str(exc))

    def _decide(self, letter: Letter, now_us: int, effects: list[Effect]) -> None:
        """Feed one input to the engine and note what it led to."""
        if letter.refusal is not None:
            driven, answer = letter.refusal
            if self.driven.get(driven.lease.orchestration_id) is driven:
                self._touched_one(driven.lease.orchestration_id).pending_answers.append(answer)
        try:
            decision = self.engine.handle(letter.item, now_us)
        except InvalidTransitionError:
            raise  # a mistake in the program, not in the request
        except StateError as exc:
            letter.error = exc  # the state had moved on, or it never fitted
            self._answer_stored(letter)
            return
        for recorded in decision.events:
            self._touched_one(recorded.orchestration_id).add(recorded)
        if letter.on_answered is not None:
            letter.events = decision.events
            if decision.events:
                self.driven[decision.events[0].orchestration_id].is_critical = True
            self._answer_stored(letter)
        if letter.output is not None or letter.offer is not None:
            self._keep(letter, decision.events)
        effects += decision.effects

    def _keep(self, letter: Letter, events: list[Recorded]) -> None:
        """Have what a letter brought stored with what it led to; not where it came too late for anybody."""
        for recorded in events[:2]:  # a late report of a claim has the claim hold again first
            driven = self.driven[recorded.orchestration_id]
            if isinstance(recorded.event, TaskOffered) and letter.offer is not None:
                driven.pending_offers.append(letter.offer)
            elif isinstance(recorded.event, _DELIVERIES) and letter.output is not None:
                driven.pending_outputs.append(letter.output)
                self._outputs.put(recorded.orchestration_id, letter.output.task_id, letter.output.text)
                if letter.cached is not None:
                    driven.pending_cached.append(letter.cached)
                return

    def _touched_one(self, orchestration_id: OrchestrationId) -> Driven:
        """Return an orchestration that has something to be committed from now on."""
        driven = self.driven[orchestration_id]
        self._touched[orchestration_id] = driven
        return driven

    def _answer_stored(self, letter: Letter) -> None:
        """Add the answer to a stored request to what its orchestration commits next."""
        orchestration_id = getattr(letter.item, "orchestration_id", None)
        driven = self.driven.get(orchestration_id) if orchestration_id is not None else None
        if letter.control_id is None or driven is None:
            return  # not driven here any more: whoever drives it next finds the request
        error = letter.error
        answer = ControlAnswer(
            control_id=letter.control_id,
            is_done=error is None,
            code=getattr(error, "code", ""),
            message="" if error is None else str(error),
            task_ids=reopened_in(letter.events) or unblocked_by(driven.state, letter.events),
            revision=revision_in(letter.events),
        )
        self._touched_one(driven.lease.orchestration_id).pending_answers.append(answer)

    async def _commit(self, touched: list[Driven], waiting: list[Letter]) -> None:
        """Store what the engine decided; let go of every orchestration for which that fails."""
        while touched:
            commits = [self._commit_of(driven) for driven in touched]
            try:
                await self._storage.append(commits)
            except StaleFencingTokenError as exc:
                self._fence_off(exc, waiting)
                touched = [
                    driven for driven in touched if driven.lease.orchestration_id != exc.orchestration_id
                ]
                continue
            except Exception as exc:  # noqa: BLE001  whatever it was, the engine is ahead of what is durable
                self._give_up(exc, touched, waiting)
                return
            for driven, commit in zip(touched, commits, strict=True):
                events, changed = driven.pending_events, list(driven.state.touched)
                tell_open(driven.state, events)
                driven.clear_pending()
                driven.publish(changed, events, commit.summary)
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

    def _fence_off(self, exc: StaleFencingTokenError, waiting: list[Letter]) -> None:
        """Let go of what another process has taken over; nobody is told that it was done."""
        log.warning(
            "Another process took the orchestration over",
            operation="ORCHESTRATION_FENCED",
            orchestration_id=exc.orchestration_id,
        )
        self.let_go(exc.orchestration_id, exc)
        for letter in waiting:
            if getattr(letter.item, "orchestration_id", None) == exc.orchestration_id:
                letter.error = letter.error or exc

    def _give_up(self, exc: Exception, touched: list[Driven], waiting: list[Letter]) -> None:
        """Let go of everything that could not be stored; it can be resumed from what is."""
        log.error(
            "Can't store",
            operation="STORAGE_FAILED",
            reason=str(exc),
            exc_info=None if isinstance(exc, StorageError) else exc,
        )
        for driven in touched:
            self.let_go(driven.lease.orchestration_id, exc)
            if self._group is not None:
                self._group.start_soon(self._release, driven.lease)
        for letter in waiting:
            letter.error = letter.error or exc

    def _commit_of(self, driven: Driven) -> Commit:
        state = driven.state
        return Commit(
            lease=driven.lease,
            events=driven.pending_events,
            tasks=[row_of(state.tasks[task_id], driven.progress.get(task_id)) for task_id in state.touched],
            outputs=driven.pending_outputs,
            summary=summary_of(state, self.engine.scheduler),
            cached=driven.pending_cached,
            answers=driven.pending_answers,
            revisions=revisions_in(driven.pending_events),
            offers=driven.pending_offers,
            claim_outcomes=claim_outcomes_in(state, driven.pending_events),
            is_critical=driven.is_critical or bool(driven.pending_answers),
        )

    def _perform(self, effect: Effect) -> None:
        """Carry out one effect; what led to it is durable."""
        if effect.orchestration_id not in self.driven:
            return  # let go between decision and commit
        match effect:
            case StartAttempt():
                self._workers.give(effect)
            case StopAttempt():
                self._workers.stop(effect)
            case AbandonAttempt():
                self._workers.abandon(effect)
            case RequestAlternative():
                self._request_alternative(effect)
            case ContinuePlan():
                self._continue_plan(effect)
            case AnnounceFinished():
                self._announce(effect)
            case _:  # a question about one task
                self._workers.answer(self.driven[effect.orchestration_id].state, effect)

    def _announce(self, effect: AnnounceFinished) -> None:
        driven = self.driven.get(effect.orchestration_id)
        if driven is None or not driven.state.status.is_terminal:
            return  # a retry that came in the same batch has reopened it
        if log.is_enabled_for(logging.INFO):
            log.info(
                "Orchestration finished",
                operation="ORCHESTRATION_FINISHED",
                orchestration_id=effect.orchestration_id,
                outcome=effect.outcome.value,
            )
        self.let_go(effect.orchestration_id)
        if self._group is not None:
            self._group.start_soon(self._release, driven.lease)

    async def _release(self, lease: Lease) -> None:
        try:
            await self._storage.release_lease(lease)
        except StorageError as exc:  # whoever looks for orphans finds it once this process has gone
            log.warning("Can't release a lease", operation="LEASE_KEPT", reason=str(exc))

    # Alternatives

    def _request_alternative(self, effect: RequestAlternative) -> None:
        assert self._group is not None, "effects are carried out only while running"
        self._group.start_soon(self._alternative, self.driven[effect.orchestration_id].state, effect)

    async def _alternative(self, state: State, effect: RequestAlternative) -> None:
        if self._find_alternative is not None:
            self.post(await self._find_alternative(state, effect))

    # Plans still being made

    def _continue_plan(self, effect: ContinuePlan) -> None:
        assert self._group is not None, "effects are carried out only while running"
        driven = self.driven[effect.orchestration_id]
        if self._make_plan is None:
            reason = "plan_incomplete: its plan was still being made, and there is no planner here that could go on"
            self.post(PlanEnded(orchestration_id=effect.orchestration_id, error=reason))
        else:
            self._group.start_soon(self._plan, driven, self._make_plan)

    async def _plan(self, driven: Driven, make_plan: MakePlan) -> None:
        """Have the rest of a plan made, for as long as this very driver of the orchestration is there to take it."""
        identifier = driven.lease.orchestration_id

        async def hand_in(item: PlanGrown | PlanEnded) -> list[Recorded]:
            if self.driven.get(identifier) is not driven:  # let go of, and perhaps taken up again since
                raise OrchestrationInterruptedError(identifier)
            return await self.request(item)

        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_at_the_end, driven, group.cancel_scope)
            await make_plan(driven, hand_in)
            group.cancel_scope.cancel()


async def _cancel_at_the_end(driven: Driven, scope: anyio.CancelScope) -> None:
    """Cancel what is done for an orchestration once it has ended, or is driven here no longer."""
    await driven.finished.wait()
    scope.cancel()
