"""Pause, resume and cancel. The sentences quoted are those of docs/semantics.md, "Control"."""

from __future__ import annotations

import pytest

from orchestration.engine.effects import AbandonAttempt, AnnounceFinished, StopAttempt
from orchestration.engine.engine import EngineOptions
from orchestration.engine.events import CancelRequested, OrchestrationPaused, RetryDue, TasksCancelled
from orchestration.engine.inputs import TaskDefaults
from orchestration.errors import NotPossibleError
from orchestration.models import OrchestrationMode, OrchestrationStatus, TaskNode, TaskPriority
from tests.engine_kit import Bench, events_of, graph, plan

# Pause and resume


def test_a_pause_starts_nothing_more_and_lets_running_attempts_finish() -> None:
    """ "Pause is immediate: running attempts … finish and may report; no start … begins"."""
    bench = Bench(graph("a b c", "a b"), slots=1)
    bench.start()

    decision = bench.pause()
    bench.succeed("a")

    assert events_of(decision) == [OrchestrationPaused()]
    assert decision.effects == []
    assert bench.statuses() == {"a": "completed", "b": "ready", "c": "ready"}
    assert bench.starts() == ["a#1"]


def test_a_resume_starts_what_became_ready() -> None:
    """As far as slots allow."""
    bench = Bench(graph("a b c", "a b", "a c"))
    bench.start()
    bench.pause()
    bench.succeed("a")

    bench.resume()

    assert bench.starts() == ["a#1", "b#1", "c#1"]


def test_an_orchestration_whose_last_task_settles_while_paused_ends() -> None:
    """ "An orchestration whose last task settles while paused ends"."""
    bench = Bench(graph("a"))
    bench.start()
    bench.pause()

    decision = bench.succeed("a")

    assert bench.outcome is OrchestrationStatus.COMPLETED
    assert decision.effects == [AnnounceFinished(orchestration_id="o", outcome=OrchestrationStatus.COMPLETED)]


def test_a_failure_while_paused_can_end_it_as_failed() -> None:
    """A skip is no start, so what fails and what is skipped settle at once."""
    bench = Bench(graph("a b", "a b"))
    bench.start()
    bench.pause()

    bench.fail("a")

    assert bench.statuses() == {"a": "failed", "b": "skipped"}
    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_retry_that_is_due_while_paused_waits_for_the_resume() -> None:
    """ "No … retry … begins"."""
    bench = Bench(graph("a"))
    bench.start()
    bench.pause()
    bench.fail("a", retryable=True, jitter=0.5)

    decision = bench.wait(0.5)

    assert events_of(decision) == [RetryDue(task_id="a")]
    assert bench.statuses() == {"a": "ready"}
    bench.resume()
    assert bench.starts() == ["a#1", "a#2"]


def test_a_retry_that_is_due_after_the_resume_is_not_hurried() -> None:
    """The back-off is not shortened by a pause."""
    bench = Bench(graph("a"))
    bench.start()
    bench.fail("a", retryable=True, jitter=0.5)
    bench.pause()

    bench.resume()

    assert bench.statuses() == {"a": "retrying"}
    bench.wait(0.5)
    assert bench.starts() == ["a#1", "a#2"]


def test_an_alternative_is_not_asked_for_while_paused() -> None:
    """ "No … replan begins"; it is asked for on resume, once."""
    bench = Bench(graph("a"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.pause()
    bench.fail("a")

    asked = bench.asked()
    bench.resume()

    assert asked == []
    assert bench.asked() == ["a"]


def test_an_alternative_already_asked_for_is_not_asked_for_again_on_resume() -> None:
    """Whoever was asked before the pause still answers; a second planner call would be paid for nothing."""
    bench = Bench(graph("a"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("a")

    bench.pause()
    bench.resume()

    assert bench.asked() == ["a"]


def test_an_alternative_that_arrives_while_paused_is_spliced_in_and_waits() -> None:
    """The answer was asked for before; its tasks start on resume."""
    bench = Bench(graph("a"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("a")
    bench.pause()

    bench.offer("a", plan("other"))

    assert bench.statuses() == {"a": "superseded", "other~1": "ready"}
    bench.resume()
    assert bench.starts() == ["a#1", "other~1#1"]


@pytest.mark.parametrize("status", ["paused", "cancelling"])
def test_only_what_runs_can_be_paused(status: str) -> None:
    """The refusal says how it stands."""
    bench = Bench(graph("a"))
    bench.start()
    bench.pause() if status == "paused" else bench.cancel()

    with pytest.raises(NotPossibleError) as caught:
        bench.pause()

    assert (
        str(caught.value) == f"Orchestration 'o' is {status}, so it can't be paused. Only running ones can."
    )


@pytest.mark.parametrize("status", ["running", "cancelling"])
def test_only_what_is_paused_can_be_resumed(status: str) -> None:
    """The refusal says how it stands."""
    bench = Bench(graph("a"))
    bench.start()
    if status == "cancelling":
        bench.cancel()

    with pytest.raises(NotPossibleError) as caught:
        bench.resume()

    assert (
        str(caught.value) == f"Orchestration 'o' is {status}, so it can't be resumed. Only paused ones can."
    )


# Cancel


def test_a_cancel_ends_what_waits_at_once_and_asks_what_runs_to_stop() -> None:
    """ "Cancel: pending, … retrying, … tasks at once"; "a running attempt has `cancel_grace_seconds`"."""
    first = TaskNode("again", priority=TaskPriority.URGENT)
    dag = graph([first, TaskNode("runs"), TaskNode("ready"), TaskNode("waits")], "runs waits")
    bench = Bench(dag, slots=1)
    bench.start()
    bench.fail("again", retryable=True)
    before = bench.statuses()

    decision = bench.cancel("enough")

    assert before == {"again": "retrying", "runs": "running", "ready": "ready", "waits": "pending"}
    assert events_of(decision)[0] == CancelRequested(reason="enough")
    assert decision.effects == [
        StopAttempt(orchestration_id="o", task_id="runs", attempt=1, because="cancelled")
    ]
    assert bench.statuses() == {
        "again": "cancelled",
        "runs": "running",
        "ready": "cancelled",
        "waits": "cancelled",
    }
    assert bench.outcome is OrchestrationStatus.CANCELLING


def test_a_retrying_task_is_cancelled_at_once() -> None:
    """Its back-off means nothing any more."""
    bench = Bench(graph("a b"))
    bench.start()
    bench.fail("a", retryable=True)

    bench.cancel()
    decision = bench.wait(60)

    assert bench.statuses()["a"] == "cancelled"
    assert not [event for event in events_of(decision) if isinstance(event, RetryDue)]


def test_a_task_being_replanned_and_those_it_holds_are_cancelled_at_once() -> None:
    """The answer of the planner comes too late."""
    bench = Bench(graph("a b", "a b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("a")

    bench.cancel()
    decision = bench.offer("a", plan("other"))

    assert bench.statuses() == {"a": "cancelled", "b": "cancelled"}
    assert bench.outcome is OrchestrationStatus.CANCELLED
    assert decision.events == []


def test_what_an_alternative_replaced_is_not_cancelled() -> None:
    """A superseded task has its outcome already."""
    bench = Bench(graph("a b", "a b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("a")
    bench.offer("a", plan("x"))

    bench.cancel()
    bench.stopped("x~1")

    assert bench.statuses() == {"a": "superseded", "b": "cancelled", "x~1": "cancelled"}
    assert bench.outcome is OrchestrationStatus.CANCELLED


def test_a_cancel_with_nothing_running_ends_at_once() -> None:
    """There is nothing to wait for."""
    bench = Bench(graph("a"))
    bench.start()
    bench.fail("a", retryable=True)

    decision = bench.cancel()

    assert bench.outcome is OrchestrationStatus.CANCELLED
    assert decision.effects == [AnnounceFinished(orchestration_id="o", outcome=OrchestrationStatus.CANCELLED)]


def test_it_is_cancelled_when_the_last_running_attempt_has_stopped() -> None:
    """One after the other."""
    bench = Bench(graph("a b"))
    bench.start()
    bench.cancel()

    bench.stopped("a")
    half = bench.outcome
    bench.stopped("b")

    assert half is OrchestrationStatus.CANCELLING
    assert bench.outcome is OrchestrationStatus.CANCELLED
    assert bench.engine.scheduler.slots.used == 0


def test_a_result_that_arrives_before_the_attempt_stopped_counts() -> None:
    """ "A result that arrives before the cancellation is committed counts"; nothing runs after it."""
    bench = Bench(graph("a b", "a b"))
    bench.start()
    bench.cancel()

    bench.succeed("a")

    assert bench.statuses() == {"a": "completed", "b": "cancelled"}
    assert bench.outcome is OrchestrationStatus.CANCELLED


def test_a_cancel_that_came_too_late_for_everything_leaves_it_completed() -> None:
    """Everything had completed before it could be stopped."""
    bench = Bench(graph("a"))
    bench.start()
    bench.cancel()

    bench.succeed("a")

    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_retryable_failure_while_cancelling_is_not_retried() -> None:
    """Nothing starts any more."""
    bench = Bench(graph("a b"))
    bench.start()
    bench.cancel()

    bench.fail("a", retryable=True)
    bench.stopped("b")

    assert bench.statuses()["a"] in {"failed", "cancelled"}
    assert bench.outcome is OrchestrationStatus.CANCELLED
    assert bench.starts() == ["a#1", "b#1"]


def test_no_alternative_is_asked_for_while_cancelling() -> None:
    """Nobody would run it."""
    bench = Bench(graph("a b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.cancel()

    bench.fail("a")

    assert bench.asked() == []


def test_an_attempt_that_does_not_stop_is_abandoned_with_a_note() -> None:
    """It "is abandoned with "work may continue at SYSTEM""."""
    bench = Bench(graph("a"), options=EngineOptions(cancel_grace_seconds=3.0))
    bench.start()
    bench.cancel()

    decision = bench.wait(3)

    assert decision.effects[0] == AbandonAttempt(orchestration_id="o", task_id="a", attempt=1)
    assert events_of(decision)[0] == TasksCancelled(task_ids=("a",), note="work may continue at here")
    assert bench.task("a").note == "work may continue at here"
    assert bench.outcome is OrchestrationStatus.CANCELLED


def test_the_grace_of_a_cancel_is_its_own() -> None:
    """A moment earlier the attempt still runs."""
    bench = Bench(graph("a"), options=EngineOptions(cancel_grace_seconds=3.0))
    bench.start()
    bench.cancel()

    bench.wait(2.999999)

    assert bench.statuses() == {"a": "running"}


def test_cancelling_an_attempt_that_is_stopping_for_its_timeout_does_not_stop_it_twice() -> None:
    """One stop, one grace; but it ends as cancelled."""
    bench = Bench(
        graph("a"),
        defaults=TaskDefaults(timeout_seconds=10.0),
        options=EngineOptions(cancel_grace_seconds=3.0),
    )
    bench.start()
    bench.wait(10)
    bench.cancel()

    bench.stopped("a")

    assert len(bench.of(StopAttempt)) == 1
    assert bench.statuses() == {"a": "cancelled"}
    assert bench.outcome is OrchestrationStatus.CANCELLED


def test_a_timeout_that_comes_while_cancelling_changes_nothing() -> None:
    """It has been asked to stop already."""
    bench = Bench(
        graph("a"),
        defaults=TaskDefaults(timeout_seconds=10.0),
        options=EngineOptions(cancel_grace_seconds=60.0),
    )
    bench.start()
    bench.cancel()

    decision = bench.wait(10)

    assert decision.events == []
    assert bench.task("a").stopping == "cancelled"


def test_a_paused_orchestration_can_be_cancelled() -> None:
    """No resume is needed first."""
    bench = Bench(graph("a b", "a b"))
    bench.start()
    bench.pause()

    bench.cancel()
    bench.stopped("a")

    assert bench.outcome is OrchestrationStatus.CANCELLED


def test_cancelling_twice_is_refused() -> None:
    """The second one changes nothing."""
    bench = Bench(graph("a"))
    bench.start()
    bench.cancel()

    with pytest.raises(NotPossibleError) as caught:
        bench.cancel()

    refusal = "Orchestration 'o' is cancelling, so it can't be cancelled. Only running and paused ones can."
    assert str(caught.value) == refusal


def test_a_cancelled_orchestration_frees_its_slots_for_others() -> None:
    """Slots are the engine's."""
    bench = Bench(graph("a b"), slots=2)
    bench.start()
    other = Bench(graph("x"), beside=bench, orchestration_id="other")
    other.start()
    bench.cancel()

    bench.stopped("a")

    assert other.statuses() == {"x": "running"}


# Reports that come late


@pytest.mark.parametrize("report", ["success", "failure", "cancelled"])
def test_a_second_report_of_an_attempt_is_ignored(report: str) -> None:
    """An attempt ends once."""
    bench = Bench(graph("a b"))
    bench.start()
    bench.succeed("a")

    decision = {
        "success": lambda: bench.succeed("a", attempt=1),
        "failure": lambda: bench.fail("a", attempt=1),
        "cancelled": lambda: bench.stopped("a", attempt=1),
    }[report]()

    assert (decision.events, decision.effects) == ([], [])


@pytest.mark.parametrize(("task_id", "attempt"), [("a", 0), ("a", 2), ("nobody", 1), ("c", 1), ("c", 0)])
def test_a_report_about_an_attempt_that_does_not_run_is_ignored(task_id: str, attempt: int) -> None:
    """Wrong number, unknown task, a task that has not started."""
    bench = Bench(graph("a b c", "a c"))
    bench.start()

    decision = bench.succeed(task_id, attempt=attempt)

    assert decision.events == []


def test_a_report_of_a_task_that_waits_for_its_retry_is_ignored() -> None:
    """Its attempt has ended."""
    bench = Bench(graph("a"))
    bench.start()
    bench.fail("a", retryable=True)

    decision = bench.succeed("a")

    assert decision.events == []
    assert bench.statuses() == {"a": "retrying"}


def test_time_never_runs_backwards() -> None:
    """ "The engine uses max(now, last now)"."""
    bench = Bench(graph("a b", "a b"))
    bench.start()
    bench.now_us += 5_000_000
    bench.succeed("a")
    bench.now_us -= 4_000_000

    bench.succeed("b")

    assert [entry.at_us for entry in bench.journal] == sorted(entry.at_us for entry in bench.journal)
    assert bench.task("b").duration_us == 0
