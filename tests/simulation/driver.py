"""A process that can drive: takes the lease, replays, and goes round as the coordinator does, from point to point.

What it does is a generator that stops at every named point where a process may die, be suspended, or be slow; whoever
advances it decides. The engine, the replay, the watch over heartbeats and the cache's key are the real ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator

from orchestration.claim_records import Offer
from orchestration.engine.effects import (
    AbandonAttempt,
    AnnounceFinished,
    AskVerification,
    CheckAcceptance,
    ContinuePlan,
    DescribeApproval,
    DescribeOffer,
    Effect,
    FindItems,
    GatherOutputs,
    LookAtClaim,
    LookUpResult,
    RequestAlternative,
    StartAttempt,
    StopAttempt,
)
from orchestration.engine.engine import Decision, Engine
from orchestration.engine.events import (
    AttemptSucceeded,
    ChildrenGathered,
    ClaimReported,
    ResultReused,
    TaskDecided,
    TaskOffered,
)
from orchestration.engine.inputs import (
    AcceptanceAnswer,
    AlternativeFound,
    ApprovalDescribed,
    CacheAnswer,
    Cancel,
    ClaimLooked,
    ClaimTaken,
    Decide,
    EditPlan,
    Heartbeat,
    Input,
    Interrupt,
    OfferDescribed,
    OutputsGathered,
    PlanEnded,
    PlanGrown,
    ReportCancelled,
    ReportClaim,
    ReportFailure,
    ReportSuccess,
    Resume,
    Retry,
    TakeOver,
)
from orchestration.engine.outcomes import APPROVAL_VOID
from orchestration.engine.state import State
from orchestration.engine.task_state import TaskState
from orchestration.errors import (
    InvalidTransitionError,
    LeaseHeldError,
    StaleFencingTokenError,
    StateError,
    StorageUnavailableError,
)
from orchestration.execution.cache_key import cache_key
from orchestration.execution.leases import LeaseObserver
from orchestration.models import ErrorRecord, Json, OrchestrationStatus, TaskId, TaskStatus
from orchestration.ports import AttemptRequest, DriverIdentity, DriverView, Lease
from tests.engine_kit import new_engine
from tests.simulation.graphs import ID, Value, gathered, value_of
from tests.simulation.outside import Attempt
from tests.simulation.sameness import compare, fields_of
from tests.simulation.store import Batch, Cached, Control, StandIn
from tests.simulation.surroundings import Letter, Point, Surroundings, letter_of

LEASE_SECONDS = 8.0
"""How long a claim holds without a report."""
_STAND_IN = StandIn()
_GOES_ON = (Resume, Retry, Cancel)
_REPORTS = (ReportSuccess, ReportFailure, ReportCancelled)
_NEEDS_ENDS = (Decide, EditPlan, AlternativeFound)
"""Requests about tasks that the driver before may have run: its attempts are ended first."""


class Process:
    """One process: watches, takes over, drives, is fenced, dies.

    Args:
        around: The schedule.
        number: Tells processes apart.
    """

    def __init__(self, around: Surroundings, number: int) -> None:
        self.around = around
        self.identity = DriverIdentity(
            host="elsewhere", boot_id="b", pid=number, process_start=1, instance=f"p{number}"
        )
        self.number = number
        self.observer = LeaseObserver(self)  # type: ignore[arg-type]  # it only ever asks for `monotonic`
        self.offset_us = 0
        """Its wall clock's distance from true time."""
        self.frozen_us = 0
        """How long its clocks have stood still."""
        self.is_dead = False
        self.asleep_until: int | None = None
        self.is_waiting = False
        self.steps: Iterator[Point] | None = None
        self.mail: deque[Letter] = deque()
        self.taken: set[int] = set()
        """Stored requests on their way, by identity."""
        self.lease: Lease | None = None
        self.engine: Engine
        self.state: State
        self.under_way: set[str] = set()
        """Kinds of the events that are being committed, or have just been and their effects are still to come."""
        self._renewed_us = -(10**15)
        self.fenced = 0

    # Time

    def monotonic(self) -> float:
        return (self.around.now_us - self.frozen_us) / 1_000_000

    @property
    def wall_us(self) -> int:
        return self.around.now_us + self.offset_us

    def is_asleep_until(self) -> int | None:
        return self.asleep_until

    @property
    def is_driving(self) -> bool:
        return self.lease is not None

    # What comes in

    def hear(self, item: Input, value: Value | None = None, attempt: Attempt | None = None) -> None:
        """Put a report, an answer or a deadline into the inbox."""
        if self.is_driving and not self.is_dead:
            self._post(Letter(item, value, attempt))

    def look_at_controls(self) -> None:
        """Take stored requests out of the shared inbox."""
        if self.is_driving and not self.is_dead and self.asleep_until is None:
            for control in self.around.store.pending():
                if id(control) not in self.taken:
                    self.taken.add(id(control))
                    self._post(letter_of(control))

    def has_acted(self) -> None:
        """An attempt of it took effect."""
        if self.is_waiting and self.asleep_until is None:
            self.around.meet(self, Point.EFFECT)

    def _post(self, letter: Letter) -> None:
        self.mail.append(letter)
        if self.is_waiting:
            self.around.wake(self)

    def may_take(self, holder: DriverIdentity, view: DriverView | None) -> bool:
        """Whether a holder is gone: at once when it died on this host, else by its heartbeats."""
        token = self.around.store.token
        return self.around.is_dead_here(holder) or self.observer.is_over(holder, view, ID, token)

    # Leases

    def beat(self) -> bool:
        """Give a heartbeat; False when the lease was lost, and everything is let go."""
        assert self.lease is not None
        self._renewed_us = self.around.now_us - self.frozen_us
        if self.around.store.beat(self.identity, self.lease, self.around.lease_seconds):
            return True
        self.fenced += 1
        self.let_go("found itself replaced")
        return False

    def _renew_if_due(self) -> bool:
        elapsed_us = self.around.now_us - self.frozen_us - self._renewed_us
        return elapsed_us < self.around.lease_seconds / 3 * 1_000_000 or self.beat()

    def let_go(self, why: str) -> None:
        """Stop driving: it has ended, or somebody else drives it."""
        assert self.lease is not None
        self.around.say(f"p{self.number} lets go: {why}")
        self.around.outside.lose(self.lease.token, is_dead=False)
        self.engine.drop(ID)
        assert self.engine.scheduler.slots.used == 0, "a slot was not given back"
        self.lease = None
        self.taken.clear()
        self.mail.clear()

    # What it does

    def drive(self, control: Control | None = None) -> Iterator[Point]:
        """Take over and drive; or carry out a request nobody else can, and drive on if that is what it asks for."""
        around = self.around
        try:
            lease = around.store.acquire(self.identity, self.may_take)
        except LeaseHeldError:
            return
        around.say(f"p{self.number} has lease {lease.token}")
        yield Point.AFTER_LEASE
        self.state = around.store.replay()
        if self.state.status.is_terminal and not (control is not None and isinstance(control.item, Retry)):
            around.store.release(lease)
            return
        self.engine = new_engine(around.story.slots, options=around.story.options)
        self.engine.adopt(self.state)
        self.lease = lease
        yield from self._carry_out_stored()
        if control is not None and self.is_driving:
            is_done = yield from self._carry_out(control)
            goes_on = is_done and isinstance(control.item, _GOES_ON)
            if self.is_driving and not goes_on:
                self.let_go("carried out what was asked")
                around.store.release(lease)
        if self.is_driving:
            self.mail.appendleft(Letter(TakeOver(orchestration_id=ID)))
            yield from self._round(Point.TAKEOVER_BEFORE, Point.TAKEOVER_AFTER)
            self.look_at_controls()
        while self.is_driving:
            while self.is_driving and not self.mail:
                yield Point.WAITING
            if self.is_driving:
                yield from self._round()

    def _carry_out_stored(self) -> Iterator[Point]:
        """Carry out what was asked of the driver before, before anything is started."""
        stored = self.around.store.pending()
        self.taken |= {id(control) for control in stored}
        if stored:
            yield from self._put(Letter(Interrupt(orchestration_id=ID)))
        for control in stored:
            if self.is_driving:
                yield from self._put(letter_of(control))

    def _carry_out(self, control: Control) -> Generator[Point, None, bool]:
        """Put a request to the engine before anything is started; return whether it was done."""
        item = control.item
        if isinstance(item, Resume) and self.state.status is not OrchestrationStatus.PAUSED:
            control.answers.append(True)  # what stopped it was the end of its driver
            control.is_plain = True
            return True
        if isinstance(item, _NEEDS_ENDS):
            yield from self._put(Letter(Interrupt(orchestration_id=ID)))
        if self.is_driving:
            yield from self._put(letter_of(control))
        return control.answers == [True]

    def _put(self, letter: Letter) -> Iterator[Point]:
        """Decide about one letter alone; what comes in meanwhile is kept."""
        held, self.mail = self.mail, deque([letter])
        yield from self._round(Point.CONTROL_BEFORE, Point.CONTROL_AFTER)
        if self.is_driving:
            self.mail.extendleft(reversed(held))

    def _round(self, before: Point | None = None, after: Point = Point.AFTER) -> Iterator[Point]:
        """Decide about everything that has come in, commit it, then let its effects out."""
        if not self._renew_if_due():
            return
        letters = list(self.mail)
        self.mail.clear()
        batch, effects = Batch(), list[Effect]()
        for letter in letters:
            self._decide(letter, batch, effects)
        self.engine.check_invariants()
        assert self.lease is not None
        lease = self.lease
        self.under_way = {entry.event.type for entry in batch.events}
        if not batch.is_empty:
            if batch.answers:
                before, after = Point.CONTROL_BEFORE, Point.CONTROL_AFTER
            elif before is None and any(isinstance(letter.item, _REPORTS) for letter in letters):
                before = Point.REPORT_BEFORE
            yield before or Point.BEFORE
            if not self._commit(lease, batch):
                return
            yield after
        for effect in effects:
            if self.lease is not lease or not self._renew_if_due():
                return
            self._perform(effect)
            yield Point.BETWEEN if self.lease is lease else Point.RELEASE
            if self.lease is not lease:
                self.around.store.release(lease)
        self.under_way = set()

    def _decide(self, letter: Letter, batch: Batch, effects: list[Effect]) -> None:
        """Feed one letter to the engine and note what it led to."""
        item = letter.item
        self.around.say(f"p{self.number} {item!r:.180}")
        is_late = isinstance(item, _REPORTS) and not self._waits_for(item)
        seq, revision = self.state.last_seq, self.state.revision
        before = fields_of(self.state) if letter.control is not None else None
        try:
            decision = self.engine.handle(item, self.wall_us)
        except InvalidTransitionError:
            raise  # not a refusal: a decision that can't be carried out
        except StateError:
            may_be = isinstance(item, Interrupt | PlanGrown | PlanEnded)
            assert letter.control is not None or may_be, "only requests and parts of plans are refused"
            assert self.state.last_seq == seq, "a refused request changed something"
            if letter.control is not None:
                assert fields_of(self.state) == before, "a refused request changed something"
                batch.answers.append((letter.control, False))
            return
        if is_late or isinstance(item, Heartbeat):
            assert not decision.events, f"{item!r} came too late, and changed something"
        if letter.control is not None:
            is_claim = isinstance(item, ClaimTaken | ReportClaim)  # of an offer that has changed, perhaps
            assert decision.events or is_claim, "a request was accepted, and nothing came of it"
            if isinstance(item, EditPlan | AlternativeFound):
                assert item.expected_revision == revision, "a change for another revision was made"
            batch.answers.append((letter.control, True))
        batch.events += decision.events
        effects += decision.effects
        self._keep_output(letter, decision, batch)

    def _waits_for(self, item: ReportSuccess | ReportFailure | ReportCancelled) -> bool:
        task = self.state.tasks.get(item.task_id)
        return task is not None and task.status is TaskStatus.RUNNING and task.attempt == item.attempt

    def _keep_output(self, letter: Letter, decision: Decision, batch: Batch) -> None:
        offered = next((each.event for each in decision.events if isinstance(each.event, TaskOffered)), None)
        if offered is not None and isinstance(letter.item, OfferDescribed):
            batch.offers.append(self._offer(letter.item))
        kinds = AttemptSucceeded | TaskDecided | ResultReused | ChildrenGathered | ClaimReported
        event = next((each.event for each in decision.events if isinstance(each.event, kinds)), None)
        if letter.value is None or not isinstance(event, kinds):
            return
        batch.outputs[event.task_id] = letter.value
        policy = self.state.tasks[event.task_id].node.cache
        if policy is not None and isinstance(letter.item, ReportSuccess):
            expires_us = self.wall_us + round(policy.ttl_seconds * 1_000_000)
            key = self._key(self.state.tasks[event.task_id], batch)
            batch.cached[key] = Cached(letter.value, f"{ID}:{event.task_id}", expires_us)

    def _offer(self, item: OfferDescribed) -> Offer:
        task = self.state.tasks[item.task_id]
        return Offer(
            task_id=item.task_id,
            number=item.number,
            attempt=task.attempt + 1,
            lease_seconds=item.lease_seconds,
            brief="do it",
            offered_at_us=self.wall_us,
            failed_by=task.failed_by,
        )

    def _commit(self, lease: Lease, batch: Batch) -> bool:
        """Store a batch; let go when somebody else has the lease, or when it can't be stored."""
        around = self.around
        fault = around.fault()
        try:
            if fault == "before":
                raise StorageUnavailableError("the file", "the disk is full")
            around.store.append(lease, batch)
            for cached in batch.cached.values():
                around.promises.cached(cached.source.partition(":")[2])
            if fault == "after":
                raise StorageUnavailableError("the file", "stored, but nobody was told")
        except StaleFencingTokenError:
            self.fenced += 1
            if self.lease is lease:
                self.let_go("was refused")
            return False
        except StorageUnavailableError as exc:
            if self.lease is lease:
                self.let_go(str(exc))
            if around.rng.random() < 0.7:
                around.store.release(lease)
            return False
        for entry in batch.events:
            around.say(f"    {entry.seq} {entry.event!r:.180}")
        if self.lease is lease:
            compare(self.state, around.store.folded)
        return self.lease is lease

    # Effects

    def _perform(self, effect: Effect) -> None:  # noqa: C901  one flat case per effect
        around = self.around
        match effect:
            case StartAttempt():
                self._start(effect)
            case StopAttempt():
                around.outside.stop(effect)
            case AbandonAttempt():
                around.outside.abandon(effect.task_id, effect.attempt)
            case RequestAlternative():
                around.outside.plan(self, effect)
            case AskVerification():
                around.outside.verify(self, effect)
            case LookUpResult():
                self._look_up(effect)
            case DescribeApproval():
                self._describe(effect)
            case FindItems():
                around.outside.count_items(self, effect)
            case GatherOutputs():
                self._gather(effect)
            case DescribeOffer():
                self._describe_offer(effect)
            case LookAtClaim():
                around.later(around.rng.random(), self._look_at_claim, effect)
            case CheckAcceptance():
                self._check(effect)
            case ContinuePlan():
                around.grow_plan(self)
            case AnnounceFinished():
                if self.state.status.is_terminal:  # else a retry that came in the same batch has reopened it
                    self.let_go("it has ended")

    def _start(self, effect: StartAttempt) -> None:
        """Begin an attempt outside."""
        assert self.lease is not None
        task = self.state.tasks[effect.task_id]
        key = f"{ID}:{effect.task_id}:{task.generation}"
        if self.lease.token == self.around.store.token:
            assert not self.around.promises.tasks[effect.task_id].outcome, "what is over begins again"
            assert key == self.around.promises.tasks[effect.task_id].key, "not the task's idempotency key"
        else:  # its clock stood still: nothing could tell it
            assert self.frozen_us, "a driver that could know better began an attempt without the lease"
            self.around.stale_starts += 1
        if task.node.approval is not None and self.digest(task) != task.approved_digest:
            error = ErrorRecord(
                code=APPROVAL_VOID, message="it is not what was agreed to", attempt=effect.attempt
            )
            report = ReportFailure(
                orchestration_id=ID, task_id=effect.task_id, attempt=effect.attempt, error=error
            )
            self.around.answer_later(self, report, None)
            return
        self.around.outside.begin(self, self.lease.token, effect, task.node, key)

    def digest(self, task: TaskState) -> str:
        """Return the identity of what an attempt of a task would do."""
        return f"{self._key(task)} {task.system} {self.around.declaration}"

    def _describe(self, effect: DescribeApproval) -> None:
        answer = ApprovalDescribed(
            orchestration_id=ID,
            task_id=effect.task_id,
            generation=effect.generation,
            digest=self.digest(self.state.tasks[effect.task_id]),
            shown="what would run",
        )
        self.around.answer_later(self, answer, None)

    def _gather(self, effect: GatherOutputs) -> None:
        value = value_of(gathered(self.state, effect.task_id, self.around.store.outputs))
        answer = OutputsGathered(
            orchestration_id=ID,
            task_id=effect.task_id,
            generation=effect.generation,
            output=value.ref,
            value=value.json,
        )
        self.around.answer_later(self, answer, value)

    def _look_up(self, effect: LookUpResult) -> None:
        found = self.around.store.load_cached(self._key(self.state.tasks[effect.task_id]), self.wall_us)
        answer = CacheAnswer(orchestration_id=ID, task_id=effect.task_id, generation=effect.generation)
        if found is not None:
            answer = CacheAnswer(
                orchestration_id=ID,
                task_id=effect.task_id,
                generation=effect.generation,
                output=found.value.ref,
                value=found.value.json,
                source=found.source,
            )
        self.around.answer_later(self, answer, found.value if found else None)

    def _describe_offer(self, effect: DescribeOffer) -> None:
        answer = OfferDescribed(
            orchestration_id=ID,
            task_id=effect.task_id,
            generation=effect.generation,
            number=effect.number,
            lease_seconds=LEASE_SECONDS,
        )
        self.around.answer_later(self, answer, None)

    def _look_at_claim(self, effect: LookAtClaim) -> None:
        """Let a claim run out, if it should: stored at once, and told some time later, unless it dies before."""
        if self.is_dead:
            return  # whoever takes over looks itself
        if self.asleep_until is not None:
            seconds = (self.asleep_until - self.around.now_us) / 1_000_000
            self.around.later(seconds, self._look_at_claim, effect)
            return
        claim = self.around.store.desk.expire(effect.claim, self.wall_us)
        answer = ClaimLooked(
            orchestration_id=ID,
            task_id=effect.task_id,
            claim=effect.claim,
            is_expired=claim.state in {"expired", "revoked"},
            again_at_us=claim.expires_at_us if claim.state == "active" else self.wall_us + 1_000_000,
            jitter=0.5,
        )
        self.around.answer_later(self, answer, None)

    def _check(self, effect: CheckAcceptance) -> None:
        value = self.around.store.outputs[effect.task_id].json
        is_right = isinstance(value, dict) and value.get("ok") is True
        refusal = ErrorRecord(code="not_accepted", message="not so", retryable=True, effect_open=True)
        answer = AcceptanceAnswer(
            orchestration_id=ID,
            task_id=effect.task_id,
            attempt=effect.attempt,
            output=effect.output,
            value=value,
            error=None if is_right else refusal,
            jitter=0.5,
        )
        self.around.answer_later(self, answer, None)

    def _key(self, task: TaskState, batch: Batch | None = None) -> str:
        """Return the cache key of an attempt, made as attempts make it."""
        inputs: dict[TaskId, Json] = {}
        for edge in task.incoming:
            if edge.delivers:
                value = (batch.outputs if batch else {}).get(edge.source) or self.around.store.outputs.get(
                    edge.source
                )
                is_there = self.state.tasks[edge.source].status is TaskStatus.COMPLETED
                content = value.json if value is not None and is_there else None
                keys = edge.edge.data_requirements
                if keys:
                    content = {
                        key: content.get(key) if isinstance(content, dict) else content for key in keys
                    }
                inputs[edge.edge.source_task_id] = content
        request = AttemptRequest(
            orchestration_id=ID,
            task=task.node,
            attempt=task.attempt,
            idempotency_key="",
            tool=task.node.tool,
            arguments={} if task.index is None else {"item": task.index},
            inputs=inputs,
        )
        return cache_key(_STAND_IN, request)  # type: ignore[arg-type]  # as far as the key is concerned, a system
