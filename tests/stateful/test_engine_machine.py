"""A Hypothesis machine over the engine: any order of reports, requests, answers, time, crashes and alternatives.

After every step: the engine's own invariants hold, replaying the journal gives the live state, upstreams settled before
downstreams started, what has settled never changes again but by an explicit retry, a task has one live attempt, what
must not be repeated is not repeated before somebody decided, nothing runs that somebody must agree to and has not,
nothing that was replaced or removed starts, revisions come one by one, every question is asked once, and no more run
than there are slots. At the end every orchestration can be driven to its end.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestration.dag import TaskDAG
from orchestration.engine.inputs import (
    AlternativeFound,
    CacheAnswer,
    Cancel,
    DeadlineReached,
    Decide,
    DecisionKind,
    Heartbeat,
    Interrupt,
    NoAlternative,
    Pause,
    ReportCancelled,
    ReportFailure,
    ReportSuccess,
    Resume,
    Retry,
    Routes,
    SlotsFreed,
    VerifyAnswer,
)
from orchestration.engine.state import replay
from orchestration.models import (
    ErrorRecord,
    Json,
    OrchestrationMode,
    OrchestrationStatus,
    TaskId,
    TaskStatus,
)
from tests.engine_kit import ONE_OUTPUT, SECOND, START
from tests.simulation.sameness import compare
from tests.stateful.engine_agents import AgentMoves
from tests.stateful.engine_player import GOING_ON
from tests.stateful.engine_world import LIMITS, OUTPUTS, Beginning, Driven, alternatives, beginnings


class EngineMachine(AgentMoves):
    """Any order of everything that can happen."""

    @initialize(data=st.lists(beginnings(), min_size=1, max_size=2), slots=st.integers(1, 4))
    def begin(self, data: list[Beginning], slots: int) -> None:
        self.now_us = START
        self.slots = slots
        self.all = {f"o{number}": Driven(f"o{number}", beginning) for number, beginning in enumerate(data)}
        for driven in self.all.values():
            self.check_outcomes(driven)
        self.open_desk()
        self.restart()
        for driven in self.all.values():
            self.take_over(driven)

    # Attempts end

    @precondition(lambda self: self.running)
    @rule(data=st.data(), value=st.sampled_from(OUTPUTS))
    def succeed(self, data: st.DataObject, value: Json) -> None:
        driven, task_id = self.one(data, self.running)
        self.report_success(driven, task_id, value)

    def report_success(self, driven: Driven, task_id: TaskId, value: Json) -> None:
        attempt = driven.live[task_id]
        driven.forget(task_id)
        driven.values[task_id] = value
        self.tell(
            ReportSuccess(
                orchestration_id=driven.name, task_id=task_id, attempt=attempt, output=ONE_OUTPUT, value=value
            )
        )
        assert driven.state.tasks[task_id].status is TaskStatus.COMPLETED

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(),
        retryable=st.booleans(),
        effect_open=st.booleans(),
        jitter=st.sampled_from([0.0, 0.5, 0.99]),
    )
    def fail(self, data: st.DataObject, retryable: bool, effect_open: bool, jitter: float) -> None:
        self.report_failure(*self.one(data, self.running), retryable, effect_open, jitter)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), times=st.integers(1, 4))
    def fail_for_good(self, data: st.DataObject, times: int) -> None:
        """One task after another, or one in all its ways: what comes after the retries is what this is about."""
        for _ in range(times):
            if self.running:
                self.report_failure(*self.one(data, self.running), False, False, 0.0)

    def report_failure(
        self, driven: Driven, task_id: TaskId, retryable: bool, effect_open: bool, jitter: float
    ) -> None:
        attempt = driven.live[task_id]
        driven.forget(task_id)
        is_cancelling = driven.state.status is OrchestrationStatus.CANCELLING
        is_idempotent = driven.state.tasks[task_id].node.idempotent
        error = ErrorRecord(
            code="broken", message="it broke", retryable=retryable, attempt=attempt, effect_open=effect_open
        )
        self.tell(
            ReportFailure(
                orchestration_id=driven.name, task_id=task_id, attempt=attempt, error=error, jitter=jitter
            )
        )
        task = driven.state.tasks[task_id]
        if effect_open and not is_idempotent:
            wanted = TaskStatus.CANCELLED if is_cancelling else TaskStatus.UNKNOWN
            assert task.status is wanted, "an open end that was not left open"

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end_as_cancelled(self, data: st.DataObject) -> None:
        driven, task_id = self.one(data, self.running)
        attempt = driven.live[task_id]
        driven.forget(task_id)
        self.tell(ReportCancelled(orchestration_id=driven.name, task_id=task_id, attempt=attempt, jitter=0.1))

    @precondition(lambda self: any(driven.past for driven in self.all.values()))
    @rule(data=st.data(), kind=st.sampled_from(["success", "failure", "cancelled", "sign of life"]))
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
            case "cancelled":
                self.tell(ReportCancelled(**name))
            case _:
                self.tell(Heartbeat(**name))
        assert len(driven.journal) == before, "a late report changed something"

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def give_a_sign_of_life(self, data: st.DataObject) -> None:
        driven, task_id = self.one(data, self.running)
        self.tell(Heartbeat(orchestration_id=driven.name, task_id=task_id, attempt=driven.live[task_id]))
        driven.beats_us[task_id] = self.now_us

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
        driven = self.any_one(data)
        was = driven.state.status
        assert self.tell(Pause(orchestration_id=driven.name)) == (was is OrchestrationStatus.RUNNING)

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        driven = self.any_one(data)
        was = driven.state.status
        assert self.tell(Resume(orchestration_id=driven.name)) == (was is OrchestrationStatus.PAUSED)

    @precondition(lambda self: self.running or self.dormant)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        driven = self.any_one(data)
        may = driven.state.status in GOING_ON
        assert self.tell(Cancel(orchestration_id=driven.name)) == may

    @rule(data=st.data())
    def retry_all(self, data: st.DataObject) -> None:
        driven = self.any_one(data)
        state = driven.state
        may = state.status in GOING_ON or state.status.is_terminal
        may = may and state.status is not OrchestrationStatus.COMPLETED
        found = {
            task_id
            for task_id, task in state.tasks.items()
            if task.status is TaskStatus.CANCELLED
            or (
                task.status is TaskStatus.FAILED
                and not task.dead
                and not self.is_done_without(driven, task_id)
            )
        }
        is_anything = bool(found) or (state.status.is_terminal and not driven.is_whole)
        assert self.tell(Retry(orchestration_id=driven.name)) == (may and is_anything)

    def is_done_without(self, driven: Driven, task_id: TaskId) -> bool:
        """Whether a task is part of something that has completed without it."""
        parent = driven.state.tasks[task_id].node.parent
        if parent is None:
            return False
        is_completed = driven.state.tasks[parent].status is TaskStatus.COMPLETED
        return is_completed or self.is_done_without(driven, parent)

    @precondition(lambda self: self.has_tasks)
    @rule(data=st.data())
    def retry_one(self, data: st.DataObject) -> None:
        driven, task_id = self.any_task(data)
        was = driven.state.tasks[driven.state.current(task_id)].status
        if self.tell(Retry(orchestration_id=driven.name, task_ids=(task_id,))):
            assert was in {TaskStatus.FAILED, TaskStatus.CANCELLED}

    @rule(
        data=st.data(), decision=st.sampled_from(["retry", "done", "failed"]), value=st.sampled_from(OUTPUTS)
    )
    def decide(self, data: st.DataObject, decision: DecisionKind, value: Json) -> None:
        unknown = [(driven, task_id) for driven in self.all.values() for task_id in sorted(driven.open)]
        if not unknown and not self.has_tasks:
            return
        driven, task_id = self.one(data, unknown) if unknown else self.any_task(data)
        self.decide_about(driven, task_id, decision, value)

    def decide_about(
        self, driven: Driven, task_id: TaskId, decision: DecisionKind, value: Json = None
    ) -> None:
        task = driven.state.tasks[task_id]
        may = task.status is TaskStatus.UNKNOWN or task.is_asked
        if may and decision == "done":
            driven.values[task_id] = value
        item = Decide(
            orchestration_id=driven.name, task_id=task_id, decision=decision, output=ONE_OUTPUT, value=value
        )
        assert self.tell(item) == may
        driven.verifications.pop(task_id, None)  # whatever it may still answer, nobody waits for it

    # Answers

    @precondition(lambda self: self.verifications)
    @rule(
        data=st.data(),
        answer=st.sampled_from(["done", "not_done", "unclear"]),
        is_stale=st.sampled_from([False, False, True]),
    )
    def verify(
        self, data: st.DataObject, answer: Literal["done", "not_done", "unclear"], is_stale: bool
    ) -> None:
        driven, task_id = self.one(data, self.verifications)
        attempt = driven.verifications[task_id]
        before = len(driven.journal)
        if not is_stale:
            del driven.verifications[task_id]
            driven.values[task_id] = {"ok": True}
        self.tell(
            VerifyAnswer(
                orchestration_id=driven.name,
                task_id=task_id,
                attempt=attempt - is_stale,
                answer=answer,
                output=ONE_OUTPUT if answer == "done" else None,
                value={"ok": True},
            )
        )
        assert not is_stale or len(driven.journal) == before, (
            "an answer about another attempt changed something"
        )

    @precondition(lambda self: self.lookups)
    @rule(data=st.data(), is_there=st.booleans(), value=st.sampled_from(OUTPUTS))
    def look_up(self, data: st.DataObject, is_there: bool, value: Json) -> None:
        driven, task_id = self.one(data, self.lookups)
        self.answer_lookup(driven, task_id, is_there=is_there, value=value)

    def answer_lookup(self, driven: Driven, task_id: TaskId, *, is_there: bool, value: Json = None) -> None:
        if is_there:
            driven.values[task_id] = value
        self.tell(
            CacheAnswer(
                orchestration_id=driven.name,
                task_id=task_id,
                generation=driven.lookups.pop(task_id),
                output=ONE_OUTPUT if is_there else None,
                value=value,
                source="earlier:there",
            )
        )

    @precondition(lambda self: self.questions)
    @rule(data=st.data(), offered=alternatives())
    def offer(self, data: st.DataObject, offered: tuple[TaskDAG, TaskId | None]) -> None:
        driven, task_id = self.one(data, self.questions)
        driven.questions.discard(task_id)
        dag, delivers = offered
        routes = Routes(systems=dict.fromkeys(dag.nodes, "there"))
        self.tell(
            AlternativeFound(
                orchestration_id=driven.name, task_id=task_id, dag=dag, routes=routes, delivers=delivers
            )
        )
        task = driven.state.tasks[task_id]
        assert task.status is not TaskStatus.REPLANNING or task.is_asked

    @precondition(lambda self: self.questions)
    @rule(data=st.data())
    def have_no_alternative(self, data: st.DataObject) -> None:
        self.refuse(*self.one(data, self.questions))

    def refuse(self, driven: Driven, task_id: TaskId) -> None:
        driven.questions.discard(task_id)
        self.tell(NoAlternative(orchestration_id=driven.name, task_id=task_id, reason="none"))

    # Crashes

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A new process holds what the journals say, and takes over some of it."""
        self.restart()
        for driven in self.all.values():
            if data.draw(st.sampled_from([True, True, False])):
                self.take_over(driven)

    @precondition(lambda self: self.dormant)
    @rule(data=st.data())
    def take_over_later(self, data: st.DataObject) -> None:
        self.take_over(data.draw(st.sampled_from(self.dormant)))

    @rule(data=st.data(), decision=st.sampled_from(["retry", "done", "failed"]))
    def interrupt_and_decide(self, data: st.DataObject, decision: DecisionKind) -> None:
        """Somebody decides about what nobody drives: attempts of the driver that is gone are ended first."""
        driven = self.any_one(data)
        assert self.tell(Interrupt(orchestration_id=driven.name)) == driven.is_dormant
        if driven.is_dormant:
            assert not driven.state.running
            for task_id in sorted(driven.open):
                self.decide_about(driven, task_id, decision)

    # What must always hold

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "engine"):
            return
        self.engine.check_invariants()
        assert self.engine.scheduler.slots.used == sum(len(driven.live) for driven in self.all.values())
        assert self.engine.scheduler.slots.used <= self.slots
        self.check_loads()
        for driven in self.all.values():
            state = driven.state
            compare(state, replay(driven.name, driven.dag, driven.journal))
            times = [entry.at_us for entry in driven.journal]
            assert times == sorted(times)
            if not driven.is_dormant:
                assert set(state.running) == set(driven.live), (
                    "the outside runs something else than the engine thinks"
                )
            if state.mode is OrchestrationMode.SIMPLE:
                assert len(driven.live) + len(driven.held) <= 1, "two at once, and they come one by one"
            for task_id, task in state.tasks.items():
                assert (task.status is TaskStatus.CLAIMED) == (task_id in driven.held)
            self.check_outcomes(driven)
            assert len(state.replacement) - driven.splits <= LIMITS.max_replans
            assert state.revision == driven.revision
            assert driven.announced == state.status.is_terminal
            if not driven.is_dormant and not state.status.is_terminal:
                self.check_questions(driven, state)
                assert self.can_go_on(driven), "nothing can ever happen any more"

    def teardown(self) -> None:
        """Drive everything to its end."""
        if not hasattr(self, "engine"):
            return
        for system in list(self.gates):
            self.change_gate(system, None, None, None)
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
            if driven.is_dormant:
                self.take_over(driven)
            if driven.state.status is OrchestrationStatus.PAUSED:
                self.tell(Resume(orchestration_id=driven.name))
        unknown = [
            (driven, task_id)
            for driven in open_ones
            for task_id in sorted(driven.open)
            if driven.state.tasks[task_id].status is TaskStatus.UNKNOWN
        ]
        if self.running:
            self.report_success(*self.running[0], {"ok": True, "n": 2})
        elif self.questions:
            self.refuse(*self.questions[0])
        elif self.lookups:
            self.answer_lookup(*self.lookups[0], is_there=False)
        elif self.answer_kindly():
            return
        elif unknown:
            self.decide_about(*unknown[0], "failed")
        elif any(not driven.state.status.is_terminal for driven in open_ones):
            self.to_the_deadline()


class AgentEngineMachine(EngineMachine):
    """The same where nearly everything is offered to workers."""

    @initialize(data=st.lists(beginnings(are_agents=True), min_size=1, max_size=2), slots=st.integers(1, 2))
    def begin(self, data: list[Beginning], slots: int) -> None:
        super().begin(data, slots)


ELSEWHERE = (
    "answer_what_is_not_asked",
    "approve_what_is_not_asked",
    "edit_badly",
    "end_as_cancelled",
    "end_plan",
    "fail",
    "free_slots_elsewhere",
    "give_a_sign_of_life",
    "grow",
    "have_no_alternative",
    "interrupt_and_decide",
    "meet_something_else_than_was_agreed_to",
    "offer_as_caller",
    "report_late",
    "turn_the_clock_back",
)
"""Rules that say little about workers: each leaves fewer steps for what does."""

WORKERS_ALONE: type[EngineMachine] = type("WorkersAlone", (AgentEngineMachine,), dict.fromkeys(ELSEWHERE))

QUICK = settings(
    max_examples=250, stateful_step_count=45, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_whatever_happens_nothing_is_lost_repeated_or_stuck() -> None:
    """ "Done is done", one live attempt, replay equals history, and everything ends."""
    run_state_machine_as_test(EngineMachine, settings=QUICK)


def test_whatever_workers_do_nothing_is_lost_given_twice_or_stuck() -> None:
    """Offers, claims, reports of every kind, late and repeated ones, leases that end, crashes in between."""
    run_state_machine_as_test(WORKERS_ALONE, settings=settings(QUICK, max_examples=25))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_workers_do_for_much_longer_nothing_is_lost_given_twice_or_stuck() -> None:
    """The same with many more and longer stories."""
    run_state_machine_as_test(
        WORKERS_ALONE, settings=settings(QUICK, max_examples=1_500, stateful_step_count=60)
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_happens_for_much_longer_nothing_is_lost_repeated_or_stuck() -> None:
    """The same with many more and longer stories."""
    run_state_machine_as_test(
        EngineMachine, settings=settings(QUICK, max_examples=1_500, stateful_step_count=60)
    )
