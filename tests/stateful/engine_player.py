"""Plays execution, storage and planner against the engine, and checks every event and effect on the way.

The rules stand in `test_engine_machine.py`; here is what they are made with.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
)

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
    ApprovalGiven,
    ApprovalRequested,
    ApprovalVoided,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLeftOpen,
    AttemptStarted,
    AttemptSucceeded,
    CallerAsked,
    CancelRequested,
    ChildrenGathered,
    ClaimReleased,
    ClaimReported,
    ClaimResumed,
    ClaimStarted,
    FallbackStarted,
    OrchestrationFinished,
    PlanCompleted,
    PlanEdited,
    PlanRevised,
    Recorded,
    ResultReused,
    RetryRequested,
    TaskDecided,
    TaskFailed,
    TaskOffered,
    TaskRerouted,
    TasksCancelled,
)
from orchestration.engine.inputs import (
    AlternativeFound,
    Approve,
    Cancel,
    DeadlineReached,
    Decide,
    EditPlan,
    Input,
    Interrupt,
    Pause,
    PlanEnded,
    PlanGrown,
    Resume,
    Retry,
    TakeOver,
)
from orchestration.engine.state import State
from orchestration.errors import InvalidTransitionError, StateError
from orchestration.models import (
    AGENT,
    SETTLED,
    OrchestrationStatus,
    TaskId,
    TaskStatus,
)
from tests.engine_kit import SECOND, new_engine
from tests.simulation.sameness import fields_of
from tests.stateful.engine_world import DEFAULTS, LIMITS, Driven

GOING_ON = {OrchestrationStatus.RUNNING, OrchestrationStatus.PAUSED, OrchestrationStatus.PLANNING}
STARTING = {OrchestrationStatus.RUNNING, OrchestrationStatus.PLANNING}
"""Statuses in which tasks start, and questions are asked."""
_REQUESTS = (
    Pause | Resume | Cancel | Retry | Decide | Interrupt | Approve | EditPlan | AlternativeFound
    | PlanGrown | PlanEnded
)  # fmt: skip


class EnginePlayer(RuleBasedStateMachine):
    """What the world around an engine does."""

    now_us: int
    slots: int
    all: dict[str, Driven]
    engine: Engine
    may_ask_twice: frozenset[TaskId] = frozenset()

    def restart(self) -> None:
        """Begin with a new engine and whatever the journals say; nothing is taken over yet."""
        self.engine = new_engine(self.slots, options=LIMITS)
        for driven in self.all.values():
            driven.lose()
            self.engine.adopt(driven.state)

    def take_over(self, driven: Driven) -> None:
        driven.is_dormant = False
        assert self.tell(TakeOver(orchestration_id=driven.name))

    def tell(self, item: Input) -> bool:
        """Hand the engine an input and carry out its effects; False when it was refused, and changed nothing."""
        self.now_us += 1
        name = getattr(item, "orchestration_id", None)
        is_request = isinstance(item, _REQUESTS)
        before = fields_of(self.all[name].state) if is_request and name is not None else None
        try:
            decision = self.engine.handle(item, self.now_us)
        except InvalidTransitionError:
            raise  # not a refusal: a decision that can't be carried out
        except StateError:
            assert is_request, "only a request is refused"
            assert name is None or fields_of(self.all[name].state) == before, (
                "a refused request changed something"
            )
            return False
        for entry in decision.events:
            self.note(self.all[entry.orchestration_id], entry)
        self.store(item, decision)
        for effect in decision.effects:
            self.carry_out(self.all[effect.orchestration_id], effect)
        return True

    def store(self, item: Input, decision: Decision) -> None:
        """Store what a decision means for offers and claims."""

    def note(self, driven: Driven, entry: Recorded) -> None:
        """Write an event down, and check it against what was known before."""
        driven.journal.append(entry)
        match entry.event:
            case AttemptStarted() as event:
                self.check_start(driven, event)
            case AttemptSucceeded() | AttemptFailed() | AttemptInterrupted() as event:
                assert event.task_id in driven.unended, "an end without a beginning"
                driven.unended.discard(event.task_id)
                driven.held.pop(event.task_id, None)
            case AttemptLeftOpen() as event:
                assert event.task_id in driven.unended, "an end without a beginning"
                driven.held.pop(event.task_id, None)
                assert not driven.state.tasks[event.task_id].node.idempotent
                driven.unended.discard(event.task_id)
                driven.open.add(event.task_id)
            case TaskDecided() as event:
                is_asked = event.task_id in driven.asks
                assert is_asked or event.task_id in driven.open, "decided about what is not open"
                driven.generations[event.task_id] += is_asked and event.decision == "retry"
                driven.asks.discard(event.task_id)
                driven.open.discard(event.task_id)
            case ResultReused() as event:
                node = driven.state.tasks[event.task_id].node
                assert event.because == "reuse" or (node.cache is not None and node.idempotent)
            case RetryRequested() as event:
                driven.reopen(event)
                driven.announced = 0
            case TasksCancelled() as event:
                driven.cease(event.task_ids)
                self.write_down(driven, event.task_ids, "cancelled")
            case TaskFailed() as event:
                self.write_down(driven, (event.task_id,), "failed")
            case OrchestrationFinished():
                self.check_outcomes(driven)
            case TaskOffered() | ClaimStarted() | ClaimResumed() | ClaimReported() | ClaimReleased() as event:
                self.note_of_claim(driven, event)
            case _:
                self.note_of_plan(driven, entry)

    def note_of_claim(
        self,
        driven: Driven,
        event: TaskOffered | ClaimStarted | ClaimResumed | ClaimReported | ClaimReleased,
    ) -> None:
        """The same for what becomes of offers."""
        task_id = event.task_id
        match event:
            case TaskOffered():
                assert event.number == driven.offers[task_id] + 1, "an offer is left out, or comes twice"
                assert task_id not in driven.held, "offered while somebody has it"
                self.check_begin(driven, task_id)
                driven.offers[task_id] = event.number
            case ClaimStarted():
                self.check_begin(driven, task_id)
                assert task_id not in driven.held, "claimed twice at once"
                assert event.attempt == sum(name == task_id for name, _ in driven.past) + 1
                driven.past.append((task_id, event.attempt))
                driven.unended.add(task_id)
                driven.held[task_id] = driven.latest[task_id] = event.claim
            case ClaimResumed():
                assert task_id not in driven.held, "claimed twice at once"
                assert task_id not in driven.outcomes, "a settled task goes on"
                assert driven.latest[task_id] == event.claim, "somebody else had it since"
                assert (task_id, event.attempt) in driven.past
                driven.unended.add(task_id)
                driven.open.discard(task_id)
                driven.stop_asking(task_id, agreed=True)
                driven.held[task_id] = event.claim
            case ClaimReported():
                assert driven.held[task_id] == event.claim, "reported by somebody who has it not"
                assert driven.state.tasks[task_id].node.acceptance is not None
            case ClaimReleased():
                assert driven.held.pop(task_id) == event.claim, "given back by somebody who has it not"
                driven.unended.discard(task_id)
                if not event.has_begun:  # then it was no attempt
                    driven.past.remove((task_id, event.attempt))

    def note_of_plan(self, driven: Driven, entry: Recorded) -> None:
        """The same for what changes the plan, a way of doing a task, or who agrees to it."""
        match entry.event:
            case TaskRerouted() | FallbackStarted() | ApprovalVoided() as event:
                driven.agreed.pop(event.task_id, None)
                if isinstance(event, FallbackStarted):
                    driven.generations[event.task_id] += 1
                elif isinstance(event, ApprovalVoided):
                    driven.unended.discard(event.task_id)
                else:
                    assert driven.state.tasks[event.task_id].node.idempotent
            case ApprovalRequested() as event:
                assert driven.state.tasks[event.task_id].node.approval is not None
            case ApprovalGiven() as event:
                approval = driven.state.tasks[event.task_id].node.approval
                assert event.by == "person" or approval == "caller", "a model agreed in a person's name"
                driven.agreed[event.task_id] = event.digest
            case CallerAsked() as event:
                driven.asks.add(event.task_id)
            case ChildrenGathered() as event:
                children = driven.state.tasks[event.task_id].children
                assert all(driven.state.tasks[child].is_settled for child in children)
            case PlanEdited() as event:
                driven.edit(event)
            case PlanCompleted():
                driven.is_whole = True
            case CancelRequested():
                driven.is_grown = False
            case PlanRevised() as event:
                assert event.revision == driven.revision + 1, "a revision is left out, or comes twice"
                driven.revision = event.revision
                driven.splits += event.by.startswith("worker")
                driven.gone.add(event.task_id)
                driven.asks.discard(event.task_id)
                driven.went_on_without |= {
                    node.task_id: set(driven.went_on_without[event.task_id]) for node in event.tasks
                }
            case _:
                pass

    def write_down(self, driven: Driven, task_ids: tuple[TaskId, ...], outcome: str) -> None:
        for task_id in task_ids:
            assert task_id not in driven.outcomes, f"{task_id} was settled already"
            driven.outcomes[task_id] = outcome

    def carry_out(self, driven: Driven, effect: Effect) -> None:  # noqa: C901  one flat case per effect
        """Play the world that the engine asks for something."""
        if isinstance(effect, AnnounceFinished):
            driven.announced += 1
            return
        assert not driven.is_dormant, "something is to be done for what is not driven here"
        match effect:
            case StartAttempt():
                assert effect.task_id not in driven.live, "two live attempts of one task"
                driven.live[effect.task_id] = effect.attempt
                driven.begun_us[effect.task_id] = driven.beats_us[effect.task_id] = self.now_us
            case StopAttempt():
                assert driven.live.get(effect.task_id) == effect.attempt
                assert effect.task_id not in driven.stopping, "stopped twice"
                self.check_stop(driven, effect)
                driven.stopping.add(effect.task_id)
            case AbandonAttempt():
                assert effect.task_id in driven.stopping, "abandoned without having been asked"
                driven.forget(effect.task_id)
            case RequestAlternative():
                assert effect.task_id not in driven.questions, "asked twice"
                driven.questions.add(effect.task_id)
            case AskVerification():
                assert driven.verifications.get(effect.task_id) != effect.attempt, "asked twice"
                driven.verifications[effect.task_id] = effect.attempt
            case ContinuePlan():
                assert not driven.is_grown, "asked twice"
                driven.is_grown = True
            case LookUpResult():
                self.ask(driven.lookups, effect, effect.generation)
            case DescribeApproval():
                digest = driven.digest(driven.state.tasks[effect.task_id])
                asked = {task_id: generation for task_id, (generation, _) in driven.descriptions.items()}
                self.ask(asked, effect, effect.generation)
                driven.descriptions[effect.task_id] = effect.generation, digest
            case FindItems():
                self.ask(driven.lists, effect, effect.generation)
            case GatherOutputs():
                self.ask(driven.gathers, effect, effect.generation)
            case DescribeOffer():
                wanted = effect.generation, effect.number
                assert driven.briefs.get(effect.task_id) != wanted, "asked twice"
                driven.briefs[effect.task_id] = wanted
            case LookAtClaim():
                assert driven.held[effect.task_id] == effect.claim, "who has it not is looked at"
                driven.looks[effect.task_id] = effect.claim
            case CheckAcceptance():
                assert driven.held[effect.task_id], "what nobody has reported is looked at"
                result = effect.attempt, effect.output
                assert driven.checks.get(effect.task_id) != result, "asked twice"
                driven.checks[effect.task_id] = result

    def ask(self, asked: dict[TaskId, int], effect: Any, generation: int) -> None:
        """Note a question about a task as it is in this generation; each is asked once."""
        assert asked.get(effect.task_id) != generation or effect.task_id in self.may_ask_twice, "asked twice"
        asked[effect.task_id] = generation

    def check_start(self, driven: Driven, event: AttemptStarted) -> None:
        """Nothing runs before what it needs, nothing that is open or settled runs, and numbers only grow."""
        earlier = [attempt for task_id, attempt in driven.past if task_id == event.task_id]
        assert event.attempt == len(earlier) + 1
        assert event.system != AGENT, "what is offered was started"
        assert not driven.is_dormant, "started, but not taken over"
        driven.past.append((event.task_id, event.attempt))
        self.check_begin(driven, event.task_id)
        self.check_gate(event.system)
        driven.unended.add(event.task_id)

    def check_gate(self, system: str) -> None:
        """Look whether a system takes an attempt that is started now."""

    def check_begin(self, driven: Driven, task_id: TaskId) -> None:
        """Nothing begins that may not, be it as an attempt, an offer or a claim."""
        task = driven.state.tasks[task_id]
        assert task_id not in driven.unended, "two attempts at once"
        went_on_without = driven.all_went_on_without(task_id)
        for edge in task.incoming:
            is_settled = driven.state.tasks[edge.source].status in SETTLED
            assert is_settled or edge.source in went_on_without, "started before its upstream settled"
            assert edge.delivers or edge.edge.is_optional, "started over a dead required edge"
        assert task_id not in driven.outcomes, "a settled task ran again"
        assert task_id not in driven.open, "ran again before anybody decided"
        assert task_id not in driven.gone, "what was replaced or removed starts"
        assert not task.is_composite, "a composite makes no attempts"
        if task.node.approval is not None:
            assert driven.agreed.get(task_id) == driven.digest(task), "nobody agreed to what runs"
        if not driven.is_whole:
            assert task.node.idempotent, "what must not be repeated runs before its plan is whole"
            assert task.node.approval is None, "what somebody must agree to runs before its plan is whole"
        if task.node.parent is not None:
            parent = driven.state.tasks[task.node.parent]
            assert parent.status is TaskStatus.EXPANDED, "a part runs before its parent has begun"

    def check_stop(self, driven: Driven, effect: StopAttempt) -> None:
        """Nobody is stopped before the time is up."""
        task = driven.state.tasks[effect.task_id]
        if effect.because == "timeout":
            limit = task.node.timeout_seconds or DEFAULTS.timeout_seconds
            assert limit is not None
            spent_us = self.now_us - driven.begun_us[effect.task_id]
            assert spent_us >= limit * SECOND, "stopped before its limit"
        elif effect.because == "silence":
            limit = task.node.heartbeat_timeout_seconds
            assert limit is not None
            assert self.now_us - driven.beats_us[effect.task_id] >= limit * SECOND, (
                "stopped although it gave signs of life"
            )

    # Time

    def to_the_deadline(self) -> None:
        """Let time pass until the engine's next deadline."""
        due = self.engine.next_deadline_us()
        assert due is not None
        self.now_us = max(self.now_us, due)
        self.tell(DeadlineReached())

    # What there is to choose from

    def one(self, data: st.DataObject, found: list[tuple[Driven, TaskId]]) -> tuple[Driven, TaskId]:
        return found[data.draw(st.integers(0, len(found) - 1))]

    def any_one(self, data: st.DataObject) -> Driven:
        return data.draw(st.sampled_from(list(self.all.values())))

    def any_task(self, data: st.DataObject) -> tuple[Driven, TaskId]:
        driven = self.any_one(data)
        return driven, data.draw(st.sampled_from(list(driven.state.tasks)))

    @property
    def running(self) -> list[tuple[Driven, TaskId]]:
        return [(driven, task_id) for driven in self.all.values() for task_id in driven.live]

    def asked(self, name: str) -> list[tuple[Driven, TaskId]]:
        """Return the tasks that questions of one kind are open about."""
        return [
            (driven, task_id) for driven in self.all.values() for task_id in sorted(getattr(driven, name))
        ]

    @property
    def questions(self) -> list[tuple[Driven, TaskId]]:
        return self.asked("questions")

    @property
    def verifications(self) -> list[tuple[Driven, TaskId]]:
        return self.asked("verifications")

    @property
    def lookups(self) -> list[tuple[Driven, TaskId]]:
        return self.asked("lookups")

    @property
    def awaiting(self) -> list[tuple[Driven, TaskId]]:
        """Return the tasks somebody must agree to."""
        return [
            (driven, task_id)
            for driven in self.all.values()
            for task_id, task in driven.state.tasks.items()
            if task.status is TaskStatus.AWAITING_APPROVAL
        ]

    @property
    def dormant(self) -> list[Driven]:
        return [driven for driven in self.all.values() if driven.is_dormant]

    # What must hold

    def check_outcomes(self, driven: Driven) -> None:
        """Terminal stays terminal, but for an explicit retry; the idempotency key changes by nothing else."""
        tasks = driven.state.tasks
        for task_id, outcome in driven.outcomes.items():
            assert tasks[task_id].status.value == outcome
        for task_id, task in tasks.items():
            assert task.is_composite or task.generation == driven.generations[task_id]
            assert task.status is not TaskStatus.UNKNOWN or task_id in driven.open
            may_be_open = task.status in {TaskStatus.UNKNOWN, TaskStatus.CANCELLED}
            assert may_be_open or task_id not in driven.open, "went on before anybody decided"
            if task.status in SETTLED or task.status is TaskStatus.SUPERSEDED:
                driven.outcomes[task_id] = task.status.value

    def check_questions(self, driven: Driven, state: State) -> None:
        """What somebody must be asked was asked; the time limit of the whole is watched."""
        assert (state.status is OrchestrationStatus.PLANNING) <= driven.is_grown, (
            "the rest of the plan is not made"
        )
        for task_id, task in state.tasks.items() if state.status in STARTING else ():
            if task.status is TaskStatus.UNKNOWN and task.node.verify is not None and not task.is_unclear:
                assert driven.verifications.get(task_id) == task.attempt, "its `verify` was not asked"
            if task.status is TaskStatus.REPLANNING:
                assert (task_id in driven.asks) == task.is_asked
                assert task.is_asked or task_id in driven.questions, "no alternative was asked for"
            if task.status is TaskStatus.READY and task_id in state.held:
                described = driven.descriptions.get(task_id, (0, ""))[0]
                offered = driven.briefs.get(task_id, (0, 0))[0]
                is_asked = task.generation in {
                    driven.lookups.get(task_id), driven.lists.get(task_id), described, offered
                }  # fmt: skip
                assert is_asked or not driven.is_whole, "what it waits for was not asked"
            if task.status is TaskStatus.CLAIMED and task.reported is not None:
                assert driven.checks.get(task_id) == (task.attempt, task.reported), (
                    "nobody looks at its result"
                )
            if task.status is TaskStatus.EXPANDED and not task.open_children:
                assert driven.gathers.get(task_id) == task.generation, "its outputs are not gathered"
        if state.deadline_us is not None and state.status in GOING_ON:
            due_us = self.engine.next_deadline_us()
            assert due_us is not None
            assert due_us <= state.deadline_us, "nobody watches the time"

    def can_go_on(self, driven: Driven) -> bool:
        """Whether something is under way, or somebody is to act: nothing hangs."""
        state = driven.state
        if state.status in {OrchestrationStatus.PAUSED, OrchestrationStatus.PLANNING} or driven.live:
            return True
        asked = (
            driven.questions,
            driven.lookups,
            driven.descriptions,
            driven.lists,
            driven.gathers,
            driven.asks,
            driven.briefs,
        )
        if any(asked):
            return True
        waiting = sum(
            state.counts.get(status, 0)
            for status in (
                TaskStatus.RETRYING, TaskStatus.UNKNOWN, TaskStatus.AWAITING_APPROVAL, TaskStatus.OFFERED,
                TaskStatus.CLAIMED,
            )
        )  # fmt: skip
        is_full = not self.engine.scheduler.slots.is_free or self.is_gated
        return bool(waiting or (is_full and state.counts.get(TaskStatus.READY, 0)))

    @property
    def is_gated(self) -> bool:
        """Whether something that will come about lets more start on the systems that take no more now."""
        return bool(self.running) or self.engine.next_deadline_us() is not None
