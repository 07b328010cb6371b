"""A Hypothesis machine over the engine: any order of reports, requests, time, crashes and alternatives.

After every step: the engine's own invariants hold, replaying the journal gives the live state, upstreams settled before
downstreams started, what has settled never changes again, a task has one live attempt, and no more run than there are
slots. At the end every orchestration can be driven to its end.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestration.dag import TaskDAG
from orchestration.engine.effects import (
    AbandonAttempt,
    AnnounceFinished,
    RequestAlternative,
    StartAttempt,
    StopAttempt,
)
from orchestration.engine.engine import EngineOptions
from orchestration.engine.events import AttemptStarted, AttemptSucceeded
from orchestration.engine.inputs import (
    AlternativeFound,
    Cancel,
    DeadlineReached,
    Input,
    NoAlternative,
    Pause,
    ReportCancelled,
    ReportFailure,
    ReportSuccess,
    Resume,
    SlotsFreed,
    TakeOver,
    TaskDefaults,
)
from orchestration.engine.state import State, replay
from orchestration.errors import NotPossibleError
from orchestration.models import (
    SETTLED,
    ErrorRecord,
    Json,
    OrchestrationMode,
    OrchestrationStatus,
    TaskEdge,
    TaskId,
    TaskNode,
    TaskPriority,
    TaskStatus,
)
from tests.engine_kit import ONE_OUTPUT, SECOND, START, assert_same, graph, new_engine, submitted

CONDITIONS = [None, None, None, "output.ok", "output.n > 1", "status == 'failed'", "status != 'skipped'"]
OUTPUTS: list[Json] = [{"ok": True, "n": 2}, {"ok": False, "n": 0}, {"n": 5}, {}, "text", None]
DEFAULTS = TaskDefaults(max_retries=1, timeout_seconds=60.0)
LIMITS = EngineOptions(cancel_grace_seconds=5.0, max_replans_per_task=2, max_replans=3)
NAMES = "abcdefgh"
MODES = [OrchestrationMode.ADAPTIVE, *OrchestrationMode]
"""ADAPTIVE has most that can go wrong."""


@st.composite
def dags(draw: st.DrawFn) -> TaskDAG:
    """Return a DAG of up to eight tasks with every kind of edge."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    nodes = [
        TaskNode(
            name,
            priority=draw(st.sampled_from(TaskPriority)),
            estimated_time_seconds=draw(st.sampled_from([None, 0.0, 1.0, 30.0])),
            max_retries=draw(st.sampled_from([None, 0, 2])),
            timeout_seconds=draw(st.sampled_from([None, 20.0])),
            tool=draw(st.sampled_from([None, "x", "y"])),
        )
        for name in names
    ]
    edges = [
        TaskEdge(
            source,
            target,
            data_requirements=draw(st.sampled_from([[], [], [], ["ok"]])),
            is_optional=draw(st.booleans()),
            condition=draw(st.sampled_from(CONDITIONS)),
        )
        for source, target in combinations(names, 2)
        if draw(st.integers(0, 2)) == 0
    ]
    return graph(nodes, *edges)


@st.composite
def alternatives(draw: st.DrawFn) -> tuple[TaskDAG, TaskId | None]:
    """Return an alternative plan, sometimes one that must be refused, and the task it says delivers."""
    names = draw(st.sampled_from(["p", "pq", "pqr"]))
    nodes = [TaskNode(name, tool=draw(st.sampled_from("stuvw")), max_retries=0) for name in names]
    edges = [
        TaskEdge(a, b, is_optional=draw(st.booleans()))
        for a, b in combinations(names, 2)
        if draw(st.booleans())
    ]
    return graph(nodes, *edges, dag_id="plan"), draw(st.sampled_from([None, names[-1], names[0]]))


class Driven:
    """What the outside knows of one orchestration."""

    def __init__(self, name: str, dag: TaskDAG, mode: OrchestrationMode, *, can_replan: bool) -> None:
        self.name = name
        self.dag = dag
        self.journal = [
            submitted(dag, name, mode=mode, can_replan=can_replan, defaults=DEFAULTS, context={"env": "x"})
        ]
        self.state = replay(name, dag, self.journal)
        self.live: dict[TaskId, int] = {}
        """Attempts the outside is running."""
        self.stopping: set[TaskId] = set()
        self.questions: set[TaskId] = set()
        self.past: list[tuple[TaskId, int]] = []
        """Every attempt ever started."""
        self.outcomes: dict[TaskId, str] = {}
        self.announced = 0


class EngineMachine(RuleBasedStateMachine):
    """Plays execution, storage, planner and users against the engine."""

    @initialize(
        data=st.lists(
            st.tuples(dags(), st.sampled_from(MODES), st.sampled_from([True, True, False])),
            min_size=1,
            max_size=2,
        ),
        slots=st.integers(1, 4),
    )
    def begin(self, data: list[tuple[TaskDAG, OrchestrationMode, bool]], slots: int) -> None:
        self.now_us = START
        self.slots = slots
        self.all = {
            f"o{number}": Driven(f"o{number}", dag, mode, can_replan=can_replan)
            for number, (dag, mode, can_replan) in enumerate(data)
        }
        self.restart()

    def restart(self) -> None:
        """Begin with a new engine and whatever the journals say."""
        self.engine = new_engine(self.slots, options=LIMITS)
        for driven in self.all.values():
            driven.live, driven.stopping, driven.questions = {}, set(), set()
            driven.state = replay(driven.name, driven.dag, driven.journal)
            self.engine.adopt(driven.state)
        for driven in self.all.values():
            self.tell(TakeOver(orchestration_id=driven.name))

    def tell(self, item: Input) -> bool:
        """Hand the engine an input and carry out its effects; False when it was refused."""
        self.now_us += 1
        try:
            decision = self.engine.handle(item, self.now_us)
        except NotPossibleError:
            return False
        for entry in decision.events:
            driven = self.all[entry.orchestration_id]
            driven.journal.append(entry)
            event = entry.event
            if isinstance(event, AttemptStarted):
                self.check_start(driven, event)
            elif isinstance(event, AttemptSucceeded):
                assert (event.task_id, event.attempt) in driven.past
        for effect in decision.effects:
            driven = self.all[effect.orchestration_id]
            match effect:
                case StartAttempt():
                    assert effect.task_id not in driven.live, "two live attempts of one task"
                    driven.live[effect.task_id] = effect.attempt
                case StopAttempt():
                    assert driven.live.get(effect.task_id) == effect.attempt
                    assert effect.task_id not in driven.stopping, "stopped twice"
                    self.check_stop(driven, effect)
                    driven.stopping.add(effect.task_id)
                case AbandonAttempt():
                    assert effect.task_id in driven.stopping, "abandoned without having been asked"
                    self.forget(driven, effect.task_id)
                case RequestAlternative():
                    assert effect.task_id not in driven.questions, "asked twice"
                    driven.questions.add(effect.task_id)
                case AnnounceFinished():
                    driven.announced += 1
        return True

    def check_start(self, driven: Driven, event: AttemptStarted) -> None:
        """Nothing runs before what it needs, and numbers only grow."""
        task = driven.state.tasks[event.task_id]
        earlier = [attempt for task_id, attempt in driven.past if task_id == event.task_id]
        assert event.attempt == len(earlier) + 1
        driven.past.append((event.task_id, event.attempt))
        for edge in task.incoming:
            assert driven.state.tasks[edge.source].status in SETTLED, "started before its upstream settled"
            assert edge.delivers or edge.edge.is_optional, "started over a dead required edge"
        assert event.task_id not in driven.outcomes, "a settled task ran again"

    def check_stop(self, driven: Driven, effect: StopAttempt) -> None:
        """Nobody is stopped before the time is up."""
        task = driven.state.tasks[effect.task_id]
        limit = task.node.timeout_seconds or DEFAULTS.timeout_seconds
        assert task.started_at_us is not None
        assert limit is not None
        spent = driven.state.last_at_us - task.started_at_us
        assert effect.because == "cancelled" or spent >= limit * SECOND, "stopped before its limit"

    def forget(self, driven: Driven, task_id: TaskId) -> None:
        driven.live.pop(task_id, None)
        driven.stopping.discard(task_id)

    def one(self, data: st.DataObject, found: list[tuple[Driven, TaskId]]) -> tuple[Driven, TaskId]:
        index = data.draw(st.integers(0, len(found) - 1))
        return found[index]

    @property
    def running(self) -> list[tuple[Driven, TaskId]]:
        return [(driven, task_id) for driven in self.all.values() for task_id in driven.live]

    @property
    def questions(self) -> list[tuple[Driven, TaskId]]:
        return [(driven, task_id) for driven in self.all.values() for task_id in sorted(driven.questions)]

    # Attempts end

    @precondition(lambda self: self.running)
    @rule(data=st.data(), value=st.sampled_from(OUTPUTS))
    def succeed(self, data: st.DataObject, value: Json) -> None:
        driven, task_id = self.one(data, self.running)
        self.report_success(driven, task_id, value)

    def report_success(self, driven: Driven, task_id: TaskId, value: Json) -> None:
        attempt = driven.live[task_id]
        self.forget(driven, task_id)
        self.tell(
            ReportSuccess(
                orchestration_id=driven.name, task_id=task_id, attempt=attempt, output=ONE_OUTPUT, value=value
            )
        )
        assert driven.state.tasks[task_id].status is TaskStatus.COMPLETED

    @precondition(lambda self: self.running)
    @rule(data=st.data(), retryable=st.booleans(), jitter=st.sampled_from([0.0, 0.5, 0.99]))
    def fail(self, data: st.DataObject, retryable: bool, jitter: float) -> None:
        driven, task_id = self.one(data, self.running)
        attempt = driven.live[task_id]
        self.forget(driven, task_id)
        error = ErrorRecord(code="broken", message="it broke", retryable=retryable, attempt=attempt)
        self.tell(
            ReportFailure(
                orchestration_id=driven.name, task_id=task_id, attempt=attempt, error=error, jitter=jitter
            )
        )

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end_as_cancelled(self, data: st.DataObject) -> None:
        driven, task_id = self.one(data, self.running)
        attempt = driven.live[task_id]
        self.forget(driven, task_id)
        self.tell(ReportCancelled(orchestration_id=driven.name, task_id=task_id, attempt=attempt, jitter=0.1))

    @precondition(lambda self: any(driven.past for driven in self.all.values()))
    @rule(data=st.data(), kind=st.sampled_from(["success", "failure", "cancelled"]))
    def report_late(self, data: st.DataObject, kind: str) -> None:
        """Repeat the report of an attempt that is over: nothing may come of it."""
        driven = data.draw(st.sampled_from([driven for driven in self.all.values() if driven.past]))
        task_id, attempt = data.draw(st.sampled_from(driven.past))
        if driven.live.get(task_id) == attempt:
            return
        name: dict[str, Any] = {"orchestration_id": driven.name, "task_id": task_id, "attempt": attempt}
        error = ErrorRecord(code="late", message="late", retryable=True)
        before = len(driven.journal)
        match kind:
            case "success":
                self.tell(ReportSuccess(**name, output=ONE_OUTPUT))
            case "failure":
                self.tell(ReportFailure(**name, error=error))
            case _:
                self.tell(ReportCancelled(**name))
        assert len(driven.journal) == before, "a late report changed something"

    # Time

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 6.0, 61.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.now_us += round(seconds * SECOND)
        self.tell(DeadlineReached())
        due = self.engine.next_deadline_us()
        assert due is None or due > self.now_us - 1

    @precondition(lambda self: self.engine.next_deadline_us() is not None)
    @rule()
    def reach_the_deadline(self) -> None:
        self.to_the_deadline()

    def to_the_deadline(self) -> None:
        due = self.engine.next_deadline_us()
        assert due is not None
        self.now_us = max(self.now_us, due)
        self.tell(DeadlineReached())

    @rule()
    def turn_the_clock_back(self) -> None:
        """Wall clocks do that; the journal never does."""
        self.now_us = max(START, self.now_us - 10 * SECOND)

    @rule()
    def free_slots_elsewhere(self) -> None:
        self.tell(SlotsFreed())

    # Requests

    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        driven = data.draw(st.sampled_from(list(self.all.values())))
        was = driven.state.status
        assert self.tell(Pause(orchestration_id=driven.name)) == (was is OrchestrationStatus.RUNNING)

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        driven = data.draw(st.sampled_from(list(self.all.values())))
        was = driven.state.status
        assert self.tell(Resume(orchestration_id=driven.name)) == (was is OrchestrationStatus.PAUSED)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        driven = data.draw(st.sampled_from(list(self.all.values())))
        may = driven.state.status in {OrchestrationStatus.RUNNING, OrchestrationStatus.PAUSED}
        assert self.tell(Cancel(orchestration_id=driven.name)) == may

    @rule()
    def crash(self) -> None:
        self.restart()

    # Planner

    @precondition(lambda self: self.questions)
    @rule(data=st.data(), offered=alternatives())
    def offer(self, data: st.DataObject, offered: tuple[TaskDAG, TaskId | None]) -> None:
        driven, task_id = self.one(data, self.questions)
        driven.questions.discard(task_id)
        dag, delivers = offered
        routes = dict.fromkeys(dag.nodes, "there")
        self.tell(
            AlternativeFound(
                orchestration_id=driven.name, task_id=task_id, dag=dag, routes=routes, delivers=delivers
            )
        )
        assert driven.state.tasks[task_id].status is not TaskStatus.REPLANNING

    @precondition(lambda self: self.questions)
    @rule(data=st.data())
    def have_no_alternative(self, data: st.DataObject) -> None:
        driven, task_id = self.one(data, self.questions)
        self.refuse(driven, task_id)

    def refuse(self, driven: Driven, task_id: TaskId) -> None:
        driven.questions.discard(task_id)
        self.tell(NoAlternative(orchestration_id=driven.name, task_id=task_id, reason="none"))

    # What must always hold

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "engine"):
            return
        self.engine.check_invariants()
        assert self.engine.scheduler.slots.used == sum(len(driven.live) for driven in self.all.values())
        assert self.engine.scheduler.slots.used <= self.slots
        for driven in self.all.values():
            state = driven.state
            assert_same(state, replay(driven.name, driven.dag, driven.journal))
            times = [entry.at_us for entry in driven.journal]
            assert times == sorted(times)
            assert set(state.running) == set(driven.live), (
                "the outside runs something else than the engine thinks"
            )
            if state.mode is OrchestrationMode.SIMPLE:
                assert len(driven.live) <= 1
            self.check_outcomes(driven, state)
            revisions = state.revision - 1
            assert revisions <= LIMITS.max_replans
            assert driven.announced == state.status.is_terminal
            if not state.status.is_terminal:
                assert self.can_go_on(driven), "nothing can ever happen any more"

    def check_outcomes(self, driven: Driven, state: State) -> None:
        """Terminal stays terminal."""
        for task_id, outcome in driven.outcomes.items():
            assert state.tasks[task_id].status.value == outcome
        for task_id, task in state.tasks.items():
            if task.status in SETTLED or task.status is TaskStatus.SUPERSEDED:
                driven.outcomes[task_id] = task.status.value

    def can_go_on(self, driven: Driven) -> bool:
        """Whether something is under way, or somebody is to act: nothing hangs."""
        state = driven.state
        if state.status is OrchestrationStatus.PAUSED or driven.live or driven.questions:
            return True
        retrying = state.counts.get(TaskStatus.RETRYING, 0)
        is_full = not self.engine.scheduler.slots.is_free
        return bool(retrying or (is_full and state.counts.get(TaskStatus.READY, 0)))

    def teardown(self) -> None:
        """Drive everything to its end."""
        if not hasattr(self, "engine"):
            return
        for _ in range(1_000):
            open_ones = [driven for driven in self.all.values() if not driven.state.status.is_terminal]
            if not open_ones:
                break
            self.drive_on(open_ones)
            self.all_is_well()
        for driven in self.all.values():
            assert driven.state.status.is_terminal, "it never ended"
            assert driven.announced == 1
        assert self.engine.scheduler.slots.used == 0

    def drive_on(self, open_ones: list[Driven]) -> None:
        for driven in open_ones:
            if driven.state.status is OrchestrationStatus.PAUSED:
                self.tell(Resume(orchestration_id=driven.name))
        if self.running:
            driven, task_id = self.running[0]
            self.report_success(driven, task_id, {"ok": True, "n": 2})
        elif self.questions:
            self.refuse(*self.questions[0])
        else:
            self.to_the_deadline()


QUICK = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_whatever_happens_nothing_is_lost_repeated_or_stuck() -> None:
    """ "Done is done", one live attempt, replay equals history, and everything ends."""
    run_state_machine_as_test(EngineMachine, settings=QUICK)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_happens_for_much_longer_nothing_is_lost_repeated_or_stuck() -> None:
    """The same with many more and longer stories."""
    run_state_machine_as_test(
        EngineMachine, settings=settings(QUICK, max_examples=1_500, stateful_step_count=60)
    )
