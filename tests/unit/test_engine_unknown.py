"""Tasks that must not be repeated: when nobody knows how an attempt ended, and what people and `verify` say of it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.engine.effects import AskVerification
from orchestration.engine.engine import EngineOptions
from orchestration.engine.events import AttemptInterrupted, AttemptLeftOpen, TaskDecided
from orchestration.engine.inputs import DecisionKind
from orchestration.errors import NotPossibleError, TaskNotFoundError
from orchestration.models import (
    CachePolicy,
    OrchestrationMode,
    OrchestrationStatus,
    TaskNode,
    TaskStatus,
    Verification,
)
from tests.engine_kit import Bench, events_of, graph

CHECK = Verification(tool="was_it_sent")


def once(name: str = "a", **more: Any) -> TaskNode:
    return TaskNode(name, idempotent=False, **more)


def cut_off(*nodes: TaskNode, **settings: Any) -> Bench:
    """Return an orchestration whose driver died while `a` ran, taken over by the next one."""
    bench = Bench(graph(nodes or [once()]), **settings)
    bench.start()
    bench.crash()
    bench.start()
    return bench


def test_an_attempt_that_a_crash_cut_off_leaves_its_task_unknown() -> None:
    """It is not run again, and the note says what is known."""
    bench = cut_off(once(), TaskNode("b"))

    assert bench.statuses() == {"a": "unknown", "b": "running"}
    assert bench.history() == ["a#1", "b#1", "b#2"]
    assert bench.task("a").note == (
        "The process that ran attempt 1 on 'here' ended before it answered; whether its effect happened is not known."
    )
    assert bench.outcome is OrchestrationStatus.RUNNING


def test_an_attempt_that_ran_out_of_time_leaves_its_task_unknown() -> None:
    """Whether it stopped or had to be abandoned."""
    options = EngineOptions(cancel_grace_seconds=1.0)
    bench = Bench(graph([once(timeout_seconds=5.0), once("b", timeout_seconds=5.0)]), options=options)
    bench.start()

    bench.wait(5)
    bench.stopped("a")
    bench.wait(1)

    assert bench.statuses() == {"a": "unknown", "b": "unknown"}
    assert bench.task("a").note == ("Attempt 1 ran out of its 5 s. Whether its effect happened is not known.")
    assert "work may continue at here" in (bench.task("b").note or "")
    assert bench.engine.scheduler.slots.used == 0


def test_a_lost_connection_leaves_the_task_unknown() -> None:
    """A failure that leaves the effect open is not retried, however retryable it is."""
    bench = Bench(graph([once(max_retries=3)]))
    bench.start()

    bench.fail("a", retryable=True, effect_open=True)

    assert bench.statuses() == {"a": "unknown"}


def test_an_attempt_cancelled_inside_its_system_leaves_the_task_unknown() -> None:
    """Nobody asked for it, so nobody knows how far it came."""
    bench = Bench(graph([once()]))
    bench.start()

    bench.stopped("a")

    assert bench.statuses() == {"a": "unknown"}


def test_a_definite_error_is_retried() -> None:
    """The system said that nothing happened."""
    bench = Bench(graph([once(max_retries=1)]))
    bench.start()

    bench.fail("a", retryable=True)
    bench.wait(1)
    bench.succeed("a")

    assert bench.history() == ["a#1", "a#2"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_idempotent_task_runs_again_whatever_was_left_open() -> None:
    """At least once is its promise."""
    bench = Bench(graph([TaskNode("a", max_retries=1)]))
    bench.start()

    bench.fail("a", retryable=True, effect_open=True)

    assert bench.statuses() == {"a": "retrying"}


def test_deciding_done_completes_the_task_with_the_output_given() -> None:
    """Its dependents see the value, and conditions are decided by it."""
    dag = graph([once(), TaskNode("b"), TaskNode("c")], "a b if output.id == 7", "a c if output.id == 8")
    bench = Bench(dag)
    bench.start()
    bench.crash()
    bench.start()

    bench.decide("a", "done", {"id": 7}, reason="it is in the log")

    assert bench.statuses() == {"a": "completed", "b": "running", "c": "skipped"}
    assert bench.task("a").note == "decided by person: done (it is in the log)"


def test_deciding_retry_runs_the_task_again_under_the_same_key() -> None:
    """A system that honours the key repeats no effect, should it have happened after all."""
    bench = cut_off()

    bench.decide("a", "retry")

    assert bench.history() == ["a#1", "a#2"]
    assert bench.task("a").generation == 1


def test_deciding_failed_fails_the_task_and_skips_what_needs_it() -> None:
    """With the words of whoever decided, and what was known."""
    bench = Bench(graph([once(), TaskNode("b")], "a b"))
    bench.start()
    bench.crash()
    bench.start()

    bench.decide("a", "failed", by="caller", reason="nothing arrived")

    assert bench.statuses() == {"a": "failed", "b": "skipped"}
    assert bench.outcome is OrchestrationStatus.FAILED
    error = bench.task("a").error
    assert error is not None
    assert (error.code, error.retryable) == ("decided_failed", False)
    assert error.message.startswith(
        "caller decided that it failed: nothing arrived The process that ran attempt 1"
    )


@pytest.mark.parametrize("decision", ["retry", "done", "failed"])
def test_a_decision_nobody_waits_for_is_refused(decision: DecisionKind) -> None:
    """It names what the task is and which ones do wait; nothing changes."""
    bench = cut_off(once(), TaskNode("b"))
    before = len(bench.journal)

    with pytest.raises(NotPossibleError) as caught:
        bench.decide("b", decision)

    assert str(caught.value) == "Task 'b' is running, so it can't be decided. These wait for a decision: a."
    assert len(bench.journal) == before


def test_a_decision_is_made_once() -> None:
    """The second one finds nothing to decide."""
    bench = cut_off()
    bench.decide("a", "done")

    with pytest.raises(
        NotPossibleError, match=r"'a' is completed, so it can't be decided. No task of it waits"
    ):
        bench.decide("a", "retry")


def test_a_decision_about_a_task_that_is_not_there_is_refused() -> None:
    """It lists those that are."""
    bench = cut_off()

    with pytest.raises(TaskNotFoundError, match=r"has no task 'z'. It has: a."):
        bench.decide("z", "done")


def test_a_decision_can_be_made_before_anybody_drives() -> None:
    """The attempts of the driver that is gone are ended first; nothing is started."""
    bench = Bench(graph([once(), TaskNode("b"), TaskNode("c")], "a c"))
    bench.start()
    bench.crash()

    ended = events_of(bench.interrupt())
    bench.decide("a", "done")

    assert [type(event) for event in ended] == [AttemptLeftOpen, AttemptInterrupted]
    assert bench.statuses() == {"a": "completed", "b": "ready", "c": "ready"}
    bench.start()
    assert bench.statuses() == {"a": "completed", "b": "running", "c": "running"}


def test_only_what_nobody_drives_can_be_interrupted() -> None:
    """Else attempts that report here would be ended."""
    bench = Bench(graph("a"))
    bench.start()

    with pytest.raises(NotPossibleError, match=r"is driven here already"):
        bench.interrupt()


def test_verify_is_asked_first() -> None:
    """About the attempt that was cut off, and only where there is something to ask."""
    bench = cut_off(once(verify=CHECK), once("b"))

    assert bench.of(AskVerification) == [AskVerification(orchestration_id="o", task_id="a", attempt=1)]


def test_verify_that_knows_of_the_effect_completes_the_task() -> None:
    """With the output it tells; nobody else is asked."""
    bench = cut_off(once(verify=CHECK))

    decided = events_of(bench.verified("a", "done", {"id": 1}))

    assert isinstance(decided[0], TaskDecided)
    assert (decided[0].by, decided[0].decision) == ("verify", "done")
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_verify_that_knows_of_no_effect_runs_the_task_again() -> None:
    """Repeating is safe then; the key stays the same."""
    bench = cut_off(once(verify=CHECK))

    bench.verified("a", "not_done")

    assert bench.history() == ["a#1", "a#2"]
    assert bench.task("a").generation == 1


def test_verify_that_can_not_say_leaves_the_decision_to_people() -> None:
    """Its reason joins what is known, and it is not asked again by the next driver."""
    bench = cut_off(once(verify=CHECK))

    bench.verified("a", "unclear", reason="the log is gone")
    bench.crash()
    bench.start()

    assert bench.statuses() == {"a": "unknown"}
    assert (bench.task("a").note or "").endswith("`verify` could not say: the log is gone")
    assert bench.of(AskVerification) == []


def test_verify_is_asked_again_by_the_next_driver_when_its_answer_never_came() -> None:
    """The question died with its process."""
    bench = cut_off(once(verify=CHECK))

    bench.crash()
    bench.start()

    assert len(bench.of(AskVerification)) == 1


def test_verify_is_asked_anew_about_the_next_attempt() -> None:
    """What it could not say of one attempt it may know of the next."""
    bench = cut_off(once(verify=CHECK, timeout_seconds=5.0))
    bench.verified("a", "unclear")
    bench.decide("a", "retry")
    bench.wait(5)

    bench.stopped("a")

    assert [effect.attempt for effect in bench.of(AskVerification)] == [1, 2]


def test_an_answer_that_comes_after_a_decision_changes_nothing() -> None:
    """A person was faster."""
    bench = cut_off(once(verify=CHECK))
    bench.decide("a", "done")
    before = len(bench.journal)

    bench.verified("a", "not_done", attempt=1)

    assert len(bench.journal) == before


def test_while_paused_nothing_is_asked_and_resuming_asks() -> None:
    """A pause lets nothing begin."""
    bench = Bench(graph([once(verify=CHECK, timeout_seconds=5.0)]))
    bench.start()
    bench.pause()
    bench.wait(5)
    bench.stopped("a")

    assert bench.of(AskVerification) == []
    bench.resume()
    assert len(bench.of(AskVerification)) == 1


def test_an_unknown_task_is_cancelled_at_once() -> None:
    """Nothing of it runs that could be stopped."""
    bench = cut_off()

    bench.cancel()

    assert bench.statuses() == {"a": "cancelled"}
    assert bench.outcome is OrchestrationStatus.CANCELLED


def test_a_cancelled_attempt_says_that_its_effect_may_have_happened() -> None:
    """Stopped in order, cut off while cancelling, or failed with an open end while cancelling."""
    stopped, crashed, lost = (Bench(graph([once()])) for _ in range(3))
    for bench in (stopped, crashed, lost):
        bench.start()
        bench.cancel()

    stopped.stopped("a")
    crashed.crash()
    crashed.start()
    lost.fail("a", effect_open=True)

    for bench in (stopped, crashed, lost):
        assert bench.statuses() == {"a": "cancelled"}
        assert bench.task("a").note == "cancelled while it ran; its effect may have happened"


def test_an_open_end_is_not_replanned() -> None:
    """An alternative would do it again."""
    bench = Bench(graph([once(max_retries=0)]), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()

    bench.fail("a", effect_open=True)

    assert bench.task("a").status is TaskStatus.UNKNOWN
    assert bench.asked() == []


def test_an_unknown_task_holds_up_only_what_needs_it() -> None:
    """Everything else goes on."""
    bench = Bench(graph([once(), TaskNode("b"), TaskNode("c"), TaskNode("d")], "a c", "b d"))
    bench.start()
    bench.fail("a", effect_open=True)

    bench.run_out()

    assert bench.statuses() == {"a": "unknown", "b": "completed", "c": "pending", "d": "completed"}
    assert bench.outcome is OrchestrationStatus.RUNNING


@pytest.mark.parametrize("retryable", [True, False])
def test_what_a_stopped_attempt_raises_while_it_cleans_up_is_no_definite_answer(retryable: bool) -> None:
    """It ran out of time in the middle of its work; whatever its clean-up says."""
    bench = Bench(graph([once(timeout_seconds=5.0, max_retries=3)]))
    bench.start()
    bench.wait(5)

    bench.fail("a", retryable=retryable)

    assert bench.statuses() == {"a": "unknown"}


@pytest.mark.parametrize("was", ["running", "unknown"])
def test_a_retry_of_what_was_cancelled_in_the_middle_leaves_the_decision_open(was: str) -> None:
    """Reopening it decides nothing; `verify` is asked, and the key stays the same."""
    bench = Bench(graph([once(verify=CHECK), TaskNode("b")], "a b"))
    bench.start()
    if was == "unknown":
        bench.fail("a", effect_open=True)
    bench.cancel()
    if was == "running":
        bench.stopped("a")
    bench.crash()

    bench.retry()
    bench.start()

    assert bench.statuses() == {"a": "unknown", "b": "pending"}
    assert bench.of(AskVerification) == [AskVerification(orchestration_id="o", task_id="a", attempt=1)]
    bench.decide("a", "retry")
    assert (bench.history(), bench.task("a").generation) == (["a#1", "a#2"], 1)


def test_an_alternative_for_what_must_not_be_repeated_must_not_be_either() -> None:
    """It does the same in another way."""
    bench = Bench(graph([once(max_retries=0)]), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("a")

    bench.offer("a", graph([TaskNode("x", tool="x", cache=CachePolicy(60.0))]))

    node = bench.task("x~1").node
    assert (node.idempotent, node.cache) == (False, None)


def test_nothing_is_asked_about_a_task_that_the_same_moment_cancels() -> None:
    """The attempt is given up and the orchestration's time is over at once: nobody wants the answer any more."""
    bench = Bench(graph([once(verify=CHECK, timeout_seconds=5.0)]), timeout_seconds=20.0)
    bench.start()
    bench.wait(5)

    bench.wait(20)

    assert bench.statuses() == {"a": "cancelled"}
    assert bench.of(AskVerification) == []
