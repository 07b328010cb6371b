"""A new driver goes on where the one before stopped, and nothing happens twice.

The sentences quoted are those of docs/semantics.md and docs/architecture.md ("What must always hold").
"""

from __future__ import annotations

import pytest

from orchestration.engine.effects import RequestAlternative, StartAttempt
from orchestration.engine.engine import EngineOptions
from orchestration.engine.events import AttemptInterrupted, TasksCancelled
from orchestration.engine.inputs import (
    Cancel,
    DeadlineReached,
    Input,
    NoAlternative,
    ReportCancelled,
    ReportFailure,
    ReportSuccess,
    Resume,
    SlotsFreed,
    TakeOver,
    TaskDefaults,
)
from orchestration.engine.state import replay
from orchestration.errors import NotPossibleError
from orchestration.models import ErrorRecord, OrchestrationMode, OrchestrationStatus, TaskNode
from tests.engine_kit import ONE_OUTPUT, SECOND, START, Bench, events_of, graph, new_engine


def test_nothing_starts_before_the_take_over() -> None:
    """An adopted state sleeps, whatever else the engine is told meanwhile."""
    bench = Bench(graph("a"))

    decision = bench.tell(SlotsFreed())

    assert (decision.events, decision.effects) == ([], [])
    assert bench.statuses() == {"a": "ready"}


def test_a_report_about_another_orchestration_starts_nothing_of_one_not_yet_taken_over() -> None:
    """Each task starts once, although both share the engine."""
    first = Bench(graph("a b", "a b"), slots=4, orchestration_id="first")
    first.start()
    second = Bench(graph("x y"), beside=first, orchestration_id="second")

    first.succeed("a")
    second.start()

    assert second.starts() == ["x#1", "y#1"]
    assert second.engine.scheduler.slots.used == 3


def test_interrupted_attempts_go_again_under_the_next_number() -> None:
    """ "An attempt interrupted by a crash runs again (at least once)"."""
    bench = Bench(graph("a b c", "a c"))
    bench.start()
    bench.succeed("a")

    bench.crash()
    decision = bench.start()

    interrupted = [
        (event.task_id, event.attempt)
        for event in events_of(decision)
        if isinstance(event, AttemptInterrupted)
    ]
    assert interrupted == [("b", 1), ("c", 1)]
    assert sorted(bench.starts()) == ["b#2", "c#2"]
    assert bench.task("b").note == "attempt 1 was interrupted"


def test_completed_tasks_stay_completed_over_a_crash() -> None:
    """ "Done is done. A completed task never runs again, whatever process dies"."""
    bench = Bench(graph("a b", "a b"))
    bench.start()
    bench.succeed("a")
    for _ in range(3):
        bench.crash()
        bench.start()
    bench.run_out()

    assert bench.history() == ["a#1", "b#1", "b#2", "b#3", "b#4"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_interruption_costs_no_retry() -> None:
    """However often the process dies, the task keeps all its attempts."""
    bench = Bench(graph([TaskNode("a", max_retries=1)]))
    bench.start()
    for _ in range(5):
        bench.crash()
        bench.start()

    bench.fail("a", retryable=True, jitter=0.0)
    bench.wait(0)
    bench.fail("a", retryable=True)

    assert bench.task("a").attempt == 7
    assert bench.task("a").failures == 2
    assert bench.outcome is OrchestrationStatus.FAILED


def test_reports_of_the_dead_driver_are_ignored() -> None:
    """An attempt's number tells them apart."""
    bench = Bench(graph("a"))
    bench.start()
    bench.crash()
    bench.start()

    decision = bench.succeed("a", attempt=1)

    assert decision.events == []
    assert bench.statuses() == {"a": "running"}


@pytest.mark.parametrize("kind", ["success", "failure", "cancelled", "alternative"])
def test_a_report_before_the_take_over_changes_nothing(kind: str) -> None:
    """Whoever reports then reports to the driver before."""
    bench = Bench(graph("a"))
    bench.start()
    bench.crash()
    error = ErrorRecord(code="broken", message="it broke")
    items: dict[str, Input] = {
        "success": ReportSuccess(orchestration_id="o", task_id="a", attempt=1, output=ONE_OUTPUT),
        "failure": ReportFailure(orchestration_id="o", task_id="a", attempt=1, error=error),
        "cancelled": ReportCancelled(orchestration_id="o", task_id="a", attempt=1),
        "alternative": NoAlternative(orchestration_id="o", task_id="a", reason="none"),
    }

    decision = bench.tell(items[kind])
    bench.start()

    assert decision.events == []
    assert bench.starts() == ["a#2"]
    assert bench.engine.scheduler.slots.used == 1


def test_taking_over_a_paused_orchestration_leaves_it_paused() -> None:
    """A person's wish outlives the process; what ran is ready again."""
    bench = Bench(graph("a b"), slots=1)
    bench.start()
    bench.pause()

    bench.crash()
    bench.start()

    assert bench.outcome is OrchestrationStatus.PAUSED
    assert bench.statuses() == {"a": "ready", "b": "ready"}
    assert bench.starts() == []
    bench.resume()
    assert bench.starts() == ["a#2"]


def test_a_resume_that_comes_before_the_take_over_starts_every_task_once() -> None:
    """A request may be the reason why somebody takes over; it waits for the take-over to start anything."""
    bench = Bench(graph("a b"), slots=2)
    bench.start()
    bench.pause()
    bench.crash()

    bench.tell(Resume(orchestration_id="o"))
    bench.start()

    assert sorted(bench.starts()) == ["a#2", "b#2"]
    assert bench.engine.scheduler.slots.used == 2


def test_a_cancel_that_comes_before_the_take_over_starts_nothing() -> None:
    """The attempts of the dead driver end with the take-over, and the orchestration with them."""
    bench = Bench(graph("a b c", "a c"))
    bench.start()
    bench.crash()

    bench.tell(Cancel(orchestration_id="o", reason="enough"))
    bench.start()

    assert bench.statuses() == {"a": "cancelled", "b": "cancelled", "c": "cancelled"}
    assert bench.outcome is OrchestrationStatus.CANCELLED
    assert bench.starts() == []
    assert bench.engine.scheduler.slots.used == 0


def test_a_cancelling_orchestration_ends_when_it_is_taken_over() -> None:
    """Its attempts went with the process that ran them."""
    bench = Bench(graph("a b"))
    bench.start()
    bench.cancel("enough")
    bench.crash()

    decision = bench.start()

    assert [event.task_ids for event in events_of(decision) if isinstance(event, TasksCancelled)] == [
        ("a", "b")
    ]
    assert bench.outcome is OrchestrationStatus.CANCELLED
    assert bench.state.reason == "enough"


def test_back_offs_are_armed_again() -> None:
    """The wait goes on from where it was: its end is recorded."""
    bench = Bench(graph("a"))
    bench.start()
    bench.fail("a", retryable=True, jitter=0.5)
    bench.crash()
    bench.now_us += SECOND // 10

    bench.start()
    due = bench.engine.next_deadline_us()
    bench.wait(0.4)

    assert due == START + SECOND // 2
    assert bench.starts() == ["a#2"]


def test_a_back_off_that_ended_while_nobody_drove_is_due_at_once() -> None:
    """The deadline lies in the past, so the timer comes at once."""
    bench = Bench(graph("a"))
    bench.start()
    bench.fail("a", retryable=True)
    bench.crash()
    bench.now_us += 3600 * SECOND

    bench.start()
    bench.wait(0)

    assert bench.starts() == ["a#2"]


def test_an_attempt_under_a_timeout_gets_its_whole_time_again() -> None:
    """The limit is one attempt's."""
    bench = Bench(graph("a"), defaults=TaskDefaults(timeout_seconds=10.0))
    bench.start()
    bench.crash()
    bench.now_us += 7 * SECOND

    bench.start()

    assert bench.engine.next_deadline_us() == START + 17 * SECOND


def test_an_attempt_that_was_being_stopped_for_its_timeout_goes_again() -> None:
    """Interrupted is interrupted; the stop died with the process."""
    bench = Bench(graph("a"), defaults=TaskDefaults(timeout_seconds=10.0))
    bench.start()
    bench.wait(10)
    bench.crash()

    bench.start()

    assert bench.starts() == ["a#2"]
    assert bench.task("a").stopping is None
    assert bench.task("a").failures == 0


def test_an_alternative_is_asked_for_again() -> None:
    """The question died with the process."""
    bench = Bench(graph("a"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("a")
    bench.crash()

    bench.start()

    assert bench.asked() == ["a"]


def test_an_answer_before_the_take_over_is_asked_for_again() -> None:
    """Whoever was asked answers the driver before."""
    bench = Bench(graph("a"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("a")
    bench.crash()

    early = bench.refuse("a")
    bench.start()

    assert early.events == []
    assert bench.statuses() == {"a": "replanning"}
    assert bench.asked() == ["a"]


def test_an_alternative_is_not_asked_for_while_paused() -> None:
    """Only when it is resumed."""
    bench = Bench(graph("a b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.pause()
    bench.fail("a")
    bench.crash()

    bench.start()
    asked = bench.of(RequestAlternative)
    bench.resume()

    assert asked == []
    assert bench.asked() == ["a"]


def test_taking_over_twice_is_refused() -> None:
    """What is driven here already can't be taken over; its attempts go on."""
    bench = Bench(graph("a"))
    bench.start()

    with pytest.raises(NotPossibleError) as caught:
        bench.start()

    assert str(caught.value) == "Orchestration 'o' is driven here already, so it can't be taken over."
    assert bench.starts() == ["a#1"]
    bench.check()


def test_adopting_twice_is_refused() -> None:
    """The state the engine drives is never exchanged under it."""
    bench = Bench(graph("a"))
    bench.start()

    with pytest.raises(NotPossibleError) as caught:
        bench.engine.adopt(replay("o", bench.dag, bench.journal))

    assert str(caught.value) == "Orchestration 'o' is driven here already, so it can't be taken over."
    assert bench.engine.states["o"] is bench.state


def test_dropping_what_was_never_taken_over_frees_no_slot() -> None:
    """The attempts its journal calls running never held one here."""
    bench = Bench(graph("a b"))
    bench.start()
    bench.crash()

    bench.engine.drop("o")

    assert bench.engine.scheduler.slots.used == 0


def test_dropping_a_driven_orchestration_frees_its_slots() -> None:
    """Others get them, and its reports and deadlines mean nothing any more."""
    bench = Bench(graph("a b"), slots=2, defaults=TaskDefaults(timeout_seconds=5.0))
    bench.start()
    Bench(graph("x y"), beside=bench, orchestration_id="other").start()

    bench.engine.drop("o")
    late = bench.engine.handle(
        ReportSuccess(orchestration_id="o", task_id="a", attempt=1, output=ONE_OUTPUT), START
    )

    assert [effect.task_id for effect in late.effects if isinstance(effect, StartAttempt)] == ["x", "y"]
    assert bench.engine.scheduler.slots.used == 2
    assert bench.engine.next_deadline_us() is None


def test_dropping_what_is_not_held_does_nothing() -> None:
    """Letting go twice is no mistake."""
    engine = new_engine()

    engine.drop("nobody")

    assert engine.scheduler.slots.used == 0


def test_time_goes_on_from_the_journal() -> None:
    """ "Time never runs backwards", over a crash and to a clock that is behind as well."""
    bench = Bench(graph("a b", "a b"))
    bench.start()
    bench.now_us += 50 * SECOND
    bench.succeed("a")
    bench.crash()
    bench.now_us = START

    bench.start()
    bench.tell(DeadlineReached())

    assert bench.journal[-1].at_us == START + 50 * SECOND
    assert [entry.at_us for entry in bench.journal] == sorted(entry.at_us for entry in bench.journal)


def test_the_grace_of_an_attempt_that_is_gone_means_nothing() -> None:
    """Deadlines belong to an attempt: those of the driver before are not the new one's."""
    bench = Bench(
        graph("a"),
        defaults=TaskDefaults(timeout_seconds=10.0),
        options=EngineOptions(cancel_grace_seconds=1.0),
    )
    bench.start()
    bench.wait(10)
    bench.crash()
    bench.start()

    bench.wait(1)

    assert bench.statuses() == {"a": "running"}
    assert bench.task("a").stopping is None


def test_a_take_over_of_a_new_orchestration_is_its_start() -> None:
    """One path, well trodden."""
    bench = Bench(graph("a"))

    decision = bench.tell(TakeOver(orchestration_id="o"))

    assert [effect.task_id for effect in decision.effects if isinstance(effect, StartAttempt)] == ["a"]
