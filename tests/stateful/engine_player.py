"""Plays execution, storage and planner against the engine, and checks every event and effect on the way.

The rules stand in `test_engine_machine.py`; here is what they are made with.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
)

from orchestration.engine.effects import (
    AbandonAttempt,
    AnnounceFinished,
    AskVerification,
    Effect,
    LookUpResult,
    RequestAlternative,
    StartAttempt,
    StopAttempt,
)
from orchestration.engine.engine import Engine
from orchestration.engine.events import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptLeftOpen,
    AttemptStarted,
    AttemptSucceeded,
    OrchestrationFinished,
    PlanRevised,
    Recorded,
    ResultReused,
    RetryRequested,
    TaskDecided,
    TaskFailed,
    TasksCancelled,
)
from orchestration.engine.inputs import (
    Cancel,
    Decide,
    Input,
    Interrupt,
    Pause,
    Resume,
    Retry,
    TakeOver,
)
from orchestration.engine.state import State
from orchestration.errors import NotPossibleError
from orchestration.models import (
    SETTLED,
    OrchestrationStatus,
    TaskId,
    TaskStatus,
)
from tests.engine_kit import SECOND, new_engine
from tests.simulation.sameness import fields_of
from tests.stateful.engine_world import DEFAULTS, LIMITS, Driven

GOING_ON = {OrchestrationStatus.RUNNING, OrchestrationStatus.PAUSED}


class EnginePlayer(RuleBasedStateMachine):
    """What the world around an engine does."""

    now_us: int
    slots: int
    all: dict[str, Driven]
    engine: Engine

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
        is_request = isinstance(item, Pause | Resume | Cancel | Retry | Decide | Interrupt)
        before = fields_of(self.all[name].state) if is_request and name is not None else None
        try:
            decision = self.engine.handle(item, self.now_us)
        except NotPossibleError:
            assert is_request, "only a request is refused"
            assert name is None or fields_of(self.all[name].state) == before, (
                "a refused request changed something"
            )
            return False
        for entry in decision.events:
            self.note(self.all[entry.orchestration_id], entry)
        for effect in decision.effects:
            self.carry_out(self.all[effect.orchestration_id], effect)
        return True

    def note(self, driven: Driven, entry: Recorded) -> None:
        """Write an event down, and check it against what was known before."""
        driven.journal.append(entry)
        match entry.event:
            case AttemptStarted() as event:
                self.check_start(driven, event)
            case AttemptSucceeded() | AttemptFailed() | AttemptInterrupted() as event:
                assert event.task_id in driven.unended, "an end without a beginning"
                driven.unended.discard(event.task_id)
            case AttemptLeftOpen() as event:
                assert event.task_id in driven.unended, "an end without a beginning"
                assert not driven.state.tasks[event.task_id].node.idempotent
                driven.unended.discard(event.task_id)
                driven.open.add(event.task_id)
            case TaskDecided() as event:
                assert event.task_id in driven.open, "decided about what is not open"
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
            case PlanRevised() as event:
                driven.went_on_without |= {
                    node.task_id: set(driven.went_on_without[event.task_id]) for node in event.tasks
                }
            case OrchestrationFinished():
                self.check_outcomes(driven)
            case _:
                pass

    def write_down(self, driven: Driven, task_ids: tuple[TaskId, ...], outcome: str) -> None:
        for task_id in task_ids:
            assert task_id not in driven.outcomes, f"{task_id} was settled already"
            driven.outcomes[task_id] = outcome

    def carry_out(self, driven: Driven, effect: Effect) -> None:
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
            case LookUpResult():
                driven.lookups.add(effect.task_id)

    def check_start(self, driven: Driven, event: AttemptStarted) -> None:
        """Nothing runs before what it needs, nothing that is open or settled runs, and numbers only grow."""
        task = driven.state.tasks[event.task_id]
        earlier = [attempt for task_id, attempt in driven.past if task_id == event.task_id]
        assert event.attempt == len(earlier) + 1
        driven.past.append((event.task_id, event.attempt))
        assert event.task_id not in driven.unended, "two attempts at once"
        driven.unended.add(event.task_id)
        for edge in task.incoming:
            is_settled = driven.state.tasks[edge.source].status in SETTLED
            assert is_settled or edge.source in driven.went_on_without[event.task_id], (
                "started before its upstream settled"
            )
            assert edge.delivers or edge.edge.is_optional, "started over a dead required edge"
        assert event.task_id not in driven.outcomes, "a settled task ran again"
        assert event.task_id not in driven.open, "ran again before anybody decided"
        assert not driven.is_dormant, "started, but not taken over"

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

    @property
    def questions(self) -> list[tuple[Driven, TaskId]]:
        return [(driven, task_id) for driven in self.all.values() for task_id in sorted(driven.questions)]

    @property
    def verifications(self) -> list[tuple[Driven, TaskId]]:
        return [(driven, task_id) for driven in self.all.values() for task_id in driven.verifications]

    @property
    def lookups(self) -> list[tuple[Driven, TaskId]]:
        return [(driven, task_id) for driven in self.all.values() for task_id in sorted(driven.lookups)]

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
            assert task.generation == driven.generations[task_id]
            assert task.status is not TaskStatus.UNKNOWN or task_id in driven.open
            may_be_open = task.status in {TaskStatus.UNKNOWN, TaskStatus.CANCELLED}
            assert may_be_open or task_id not in driven.open, "went on before anybody decided"
            if task.status in SETTLED or task.status is TaskStatus.SUPERSEDED:
                driven.outcomes[task_id] = task.status.value

    def check_questions(self, driven: Driven, state: State) -> None:
        """What somebody must be asked was asked; the time limit of the whole is watched."""
        if state.status is OrchestrationStatus.RUNNING:
            for task_id, task in state.tasks.items():
                if task.status is TaskStatus.UNKNOWN and task.node.verify is not None and not task.is_unclear:
                    assert driven.verifications.get(task_id) == task.attempt, "its `verify` was not asked"
                if task.status is TaskStatus.REPLANNING:
                    assert task_id in driven.questions, "no alternative was asked for"
                if task.status is TaskStatus.READY and task_id in state.held:
                    assert task_id in driven.lookups, "the cache was not asked"
        if state.deadline_us is not None and state.status in GOING_ON:
            due_us = self.engine.next_deadline_us()
            assert due_us is not None
            assert due_us <= state.deadline_us, "nobody watches the time"

    def can_go_on(self, driven: Driven) -> bool:
        """Whether something is under way, or somebody is to act: nothing hangs."""
        state = driven.state
        if state.status is OrchestrationStatus.PAUSED or driven.live or driven.questions or driven.lookups:
            return True
        waiting = state.counts.get(TaskStatus.RETRYING, 0) + state.counts.get(TaskStatus.UNKNOWN, 0)
        is_full = not self.engine.scheduler.slots.is_free
        return bool(waiting or (is_full and state.counts.get(TaskStatus.READY, 0)))
