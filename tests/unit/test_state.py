"""Folding events: what may be folded, what an illegal move tells, what the fold never does."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest

from orchestration.engine.events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    EdgeVerdict,
    Event,
    OrchestrationFinished,
    OrchestrationPaused,
    OrchestrationResumed,
    PlanRevised,
    Recorded,
    RetryScheduled,
)
from orchestration.engine.invariants import check_state
from orchestration.engine.state import State, replay
from orchestration.engine.task_state import fingerprint
from orchestration.errors import HistoryMismatchError, InvalidTransitionError
from orchestration.models import (
    ErrorRecord,
    OrchestrationMode,
    OrchestrationStatus,
    TaskEdge,
    TaskNode,
    TaskStatus,
)
from tests.engine_kit import ONE_OUTPUT, START, Bench, graph, plan, snapshot, submitted


def journal(
    *events: Event, tasks: str = "a b", edges: tuple[str, ...] = ("a b",)
) -> tuple[Any, list[Recorded]]:
    """Return a DAG and a journal that begins with its submission."""
    dag = graph(tasks, *edges)
    entries = [submitted(dag)]
    for event in events:
        entries.append(Recorded(orchestration_id="o", seq=len(entries) + 1, at_us=START, event=event))
    return dag, entries


def test_a_replay_of_nothing_is_an_empty_state() -> None:
    """Before the submission there are no tasks."""
    state = replay("o", graph("a"), [])

    assert (state.tasks, state.last_seq) == ({}, 0)


@pytest.mark.parametrize(("removed", "expected", "found"), [(1, 2, 3), (0, 1, 2)])
def test_a_gap_in_the_journal_is_an_error(removed: int, expected: int, found: int) -> None:
    """A lost event would make another state; the message says which one is missing."""
    dag, entries = journal(
        AttemptStarted(task_id="a", attempt=1, system="x"),
        AttemptSucceeded(task_id="a", attempt=1, output=ONE_OUTPUT),
    )
    del entries[removed]

    with pytest.raises(HistoryMismatchError) as caught:
        replay("o", dag, entries)

    assert str(caught.value) == f"Replay gave 'event {found}', but the journal says 'event {expected}'."


def test_an_event_told_twice_is_an_error() -> None:
    """The same place in the journal can't be taken twice."""
    dag, entries = journal(AttemptStarted(task_id="a", attempt=1, system="x"))

    with pytest.raises(HistoryMismatchError):
        replay("o", dag, [*entries, entries[-1]])


@pytest.mark.parametrize(
    ("event", "start", "finish"),
    [
        (AttemptStarted(task_id="b", attempt=1, system="x"), "pending", "running"),
        (AttemptSucceeded(task_id="b", attempt=1, output=ONE_OUTPUT), "pending", "completed"),
        (RetryScheduled(task_id="b", attempt=1, delay_seconds=1.0, due_at_us=START), "pending", "retrying"),
    ],
)
def test_an_illegal_move_of_a_task_is_refused_by_the_table(event: Event, start: str, finish: str) -> None:
    """Whatever the journal says: the table holds."""
    dag, entries = journal(event)

    with pytest.raises(InvalidTransitionError) as caught:
        replay("o", dag, entries)

    assert (caught.value.start, caught.value.finish) == (start, finish)
    assert f" can't go from {start} to {finish}. Its story:\n" in str(caught.value)


def test_an_illegal_move_of_an_orchestration_is_refused_by_the_table() -> None:
    """Resume what was not paused."""
    dag, entries = journal(OrchestrationPaused(), OrchestrationResumed(), OrchestrationResumed())

    with pytest.raises(InvalidTransitionError) as caught:
        replay("o", dag, entries)

    assert str(caught.value).startswith("Orchestration 'o' can't go from running to running. Its story:\n")


def test_a_completed_task_can_not_start_again() -> None:
    """ "A completed task never runs again": not even when the journal says so."""
    start = AttemptStarted(task_id="a", attempt=1, system="x")
    dag, entries = journal(
        start, AttemptSucceeded(task_id="a", attempt=1, output=ONE_OUTPUT), replace(start, attempt=2)
    )

    with pytest.raises(InvalidTransitionError, match="can't go from completed to running"):
        replay("o", dag, entries)


def test_an_illegal_move_carries_the_story_of_its_task() -> None:
    """The events that led there: the task's own and the orchestration's, not those of other tasks."""
    start = AttemptStarted(task_id="a", attempt=1, system="x")
    other = AttemptStarted(task_id="c", attempt=1, system="x")
    dag, entries = journal(start, other, OrchestrationPaused(), replace(start, attempt=2), tasks="a b c")

    with pytest.raises(InvalidTransitionError) as caught:
        replay("o", dag, entries)

    assert [entry.seq for entry in caught.value.story if isinstance(entry, Recorded)] == [1, 2, 4, 5]
    assert "AttemptStarted(task_id='a', attempt=2" in str(caught.value)


def test_a_long_story_is_cut_to_its_end() -> None:
    """Twenty events are enough to see how it came about."""
    moves = [event for _ in range(30) for event in (OrchestrationPaused(), OrchestrationResumed())]
    dag, entries = journal(*moves, OrchestrationResumed())

    with pytest.raises(InvalidTransitionError) as caught:
        replay("o", dag, entries)

    assert len(caught.value.story) == 20


def test_an_illegal_move_pickles_with_its_story() -> None:
    """It may cross a process boundary; pydantic models in the story as well."""
    dag = graph("a")
    bench = Bench(dag, mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("a")
    bench.offer("a", plan("x"))
    again = Recorded(
        orchestration_id="o", seq=bench.state.last_seq + 1, at_us=START, event=bench.journal[-2].event
    )
    with pytest.raises(InvalidTransitionError) as caught:
        replay("o", dag, [*bench.journal, again])

    copy = pickle.loads(pickle.dumps(caught.value))

    assert str(copy) == str(caught.value)
    assert copy.story == caught.value.story
    assert (copy.subject, copy.start, copy.finish, copy.code) == (
        "Task 'a'",
        "superseded",
        "superseded",
        "invalid_transition",
    )
    assert any(isinstance(entry.event, PlanRevised) for entry in copy.story)


def test_the_fold_believes_the_verdict_and_never_evaluates() -> None:
    """A condition that can't even be compiled is no matter on replay."""
    dag = graph("a b", TaskEdge("a", "b", condition="this is no CEL"))
    verdict = EdgeVerdict(target_task_id="b", delivers=True)
    entries = [
        submitted(dag),
        Recorded(
            orchestration_id="o", seq=2, at_us=START, event=AttemptStarted(task_id="a", attempt=1, system="x")
        ),
        Recorded(
            orchestration_id="o",
            seq=3,
            at_us=START,
            event=AttemptSucceeded(task_id="a", attempt=1, output=ONE_OUTPUT, verdicts=(verdict,)),
        ),
    ]

    state = replay("o", dag, entries)

    assert state.tasks["b"].status is TaskStatus.READY


def test_folding_twice_gives_the_same_state() -> None:
    """Nothing is drawn, read or measured; the events and the DAG are left as they were."""
    bench = Bench(graph("a b c", "a b", "a c?"))
    bench.start()
    bench.fail("a", retryable=True)
    bench.wait(1)
    bench.succeed("a")

    first = snapshot(replay("o", bench.dag, bench.journal))

    assert snapshot(replay("o", bench.dag, bench.journal)) == first


def test_times_of_an_orchestration_are_those_of_its_events() -> None:
    """Submitted, first start, last settled, finished."""
    bench = Bench(graph("a b", "a b"))
    bench.now_us += 5
    bench.start()
    bench.now_us += 10
    bench.succeed("a")
    bench.now_us += 20
    bench.succeed("b")

    state = bench.state
    assert state.submitted_at_us == START
    assert state.first_started_at_us == START + 5
    assert (state.last_settled_at_us, state.finished_at_us) == (START + 35, START + 35)
    assert (state.attempts, state.work_us) == (2, 30)
    assert state.tasks["b"].started_at_us == START + 15


def test_counts_follow_every_move() -> None:
    """Status never scans the tasks."""
    bench = Bench(graph("a b c", "a b"))
    bench.start()
    bench.fail("a")

    kept = {status.value: count for status, count in bench.state.counts.items() if count}

    assert kept == {"failed": 1, "skipped": 1, "running": 1}
    assert bench.state.unsettled == 1


def test_what_changed_is_noted_for_the_journal_once() -> None:
    """Each task a batch touched is written once, in the order of its first change."""
    bench = Bench(graph("a b c", "a b"))
    bench.start()
    bench.state.touched.clear()

    bench.succeed("a")
    bench.fail("b", retryable=True)

    assert list(bench.state.touched) == ["a", "b"]


def test_an_end_needs_an_outcome_the_table_knows() -> None:
    """An orchestration nobody cancelled can't end as cancelled."""
    dag, entries = journal(OrchestrationFinished(outcome=OrchestrationStatus.CANCELLED))

    with pytest.raises(InvalidTransitionError, match="can't go from running to cancelled"):
        replay("o", dag, entries)


def test_an_interrupted_replay_can_go_on() -> None:
    """A fold of a prefix and then the rest is the fold of the whole."""
    bench = Bench(graph("a b c", "a b", "b c"))
    bench.start()
    bench.run_out()

    for length in range(1, len(bench.journal)):
        state = replay("o", bench.dag, bench.journal[:length])
        for entry in bench.journal[length:]:
            state.evolve(entry)
        assert snapshot(state) == snapshot(bench.state)


# Fingerprints


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"task_id": "other"}, True),
        ({"priority": 5}, True),
        ({"max_retries": 7}, True),
        ({"tool": "other"}, False),
        ({"arguments": {"n": 2}}, False),
        ({"description": "Do else"}, False),
        ({"system_preference": "there"}, False),
    ],
)
def test_a_fingerprint_is_what_is_done_where(change: dict[str, Any], is_same: bool) -> None:
    """Not how it is called or how often it is tried."""
    node = TaskNode("a", description="Do it", tool="t", arguments={"n": 1})

    assert (fingerprint([node]) == fingerprint([replace(node, **change)])) is is_same


def test_a_fingerprint_does_not_depend_on_order() -> None:
    """Of tasks or of keys."""
    one, two = TaskNode("a", tool="x", arguments={"k": 1, "l": 2}), TaskNode("b", tool="y")
    turned = TaskNode("a", tool="x", arguments={"l": 2, "k": 1})

    assert fingerprint([one, two]) == fingerprint([two, turned])


# Invariants


def broken_counts(state: State) -> None:
    state.counts[TaskStatus.READY] += 1


def broken_unsettled(state: State) -> None:
    state.unsettled -= 1


def broken_running(state: State) -> None:
    state.running.clear()


def broken_end(state: State) -> None:
    state.status = OrchestrationStatus.COMPLETED


def broken_undecided(state: State) -> None:
    state.tasks["b"].undecided = 0


def broken_dead(state: State) -> None:
    state.tasks["b"].dead = 1


def broken_order(state: State) -> None:
    state.tasks["b"].status = TaskStatus.READY
    state.counts = {TaskStatus.RUNNING: 1, TaskStatus.READY: 2}


def broken_output(state: State) -> None:
    state.tasks["c"].status = TaskStatus.COMPLETED
    state.counts = {TaskStatus.RUNNING: 1, TaskStatus.PENDING: 1, TaskStatus.COMPLETED: 1}
    state.unsettled -= 1


def broken_paused(state: State) -> None:
    state.tasks["b"].status = TaskStatus.PAUSED
    state.counts = {TaskStatus.RUNNING: 1, TaskStatus.PAUSED: 1, TaskStatus.READY: 1}


def broken_cancelling(state: State) -> None:
    state.status = OrchestrationStatus.CANCELLING


def broken_superseded(state: State) -> None:
    state.tasks["b"].status = TaskStatus.SUPERSEDED
    state.counts = {TaskStatus.RUNNING: 1, TaskStatus.SUPERSEDED: 1, TaskStatus.READY: 1}
    state.unsettled -= 1


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (broken_counts, "counts say"),
        (broken_unsettled, "2 unsettled counted, 3 found"),
        (broken_running, "the running set is not the running tasks"),
        (broken_end, "ended with unsettled tasks"),
        (broken_undecided, "b: 0 undecided edges counted, 1 found"),
        (broken_dead, "b: 1 dead edges counted, 0 found"),
        (broken_order, "b is ready before its upstreams settled"),
        (broken_output, "c completed without an output"),
        (broken_paused, "b is paused by nobody"),
        (broken_cancelling, "b is pending while the orchestration is being cancelled"),
        (broken_superseded, "b is superseded by nothing"),
    ],
)
def test_a_broken_state_is_found(breaking: Any, message: str) -> None:
    """A check that never fails checks nothing."""
    bench = Bench(graph("a b c", "a b"), slots=1)
    bench.start()
    check_state(bench.state)

    breaking(bench.state)

    with pytest.raises(AssertionError, match=message):
        check_state(bench.state)


def test_a_failed_attempt_is_not_the_end_of_a_decision() -> None:
    """The event says what happened to the attempt; what becomes of the task is the next one."""
    error = ErrorRecord(code="x", message="x")
    dag, entries = journal(
        AttemptStarted(task_id="a", attempt=1, system="x"), AttemptFailed(task_id="a", attempt=1, error=error)
    )

    state = replay("o", dag, entries)

    assert state.tasks["a"].failures == 1
    assert state.running == {}
