"""Questions to whoever submitted an orchestration: nobody had an alternative, how is it to go on?"""

from __future__ import annotations

import pytest

from orchestration.engine.effects import LookUpResult, RequestAlternative
from orchestration.engine.engine import EngineOptions
from orchestration.engine.events import CallerAsked, PlanRevised, ReplanRequested
from orchestration.errors import NotPossibleError, RevisionConflictError
from orchestration.models import CachePolicy, OrchestrationMode, OrchestrationStatus, TaskNode, TaskPriority
from tests.engine_kit import Bench, events_of, graph, plan


def asked(*edges: str, tasks: str = "a b c", can_replan: bool = False, **more: object) -> Bench:
    """Return an orchestration whose task `b` has failed and asks how to go on."""
    bench = Bench(
        graph(tasks, *edges),
        mode=OrchestrationMode.ADAPTIVE,
        can_replan=can_replan,
        asks_caller=True,
        **more,  # type: ignore[arg-type]
    )
    bench.start()
    while "b" not in bench.running:
        bench.succeed(bench.running[0])
    bench.fail("b")
    if can_replan:
        bench.refuse("b", "no idea")
    return bench


CHAIN = ("a b", "b c")


def test_without_a_planner_whoever_submitted_it_is_asked() -> None:
    """The task waits, its descendants are paused, and nobody else is asked."""
    bench = asked(*CHAIN)

    assert bench.statuses() == {"a": "completed", "b": "replanning", "c": "paused"}
    assert bench.task("b").note == "asks: how to go on? there is no planner that could be asked"
    assert bench.asked() == []
    events = events_of(bench.journal)
    assert [type(event) for event in events[-2:]] == [ReplanRequested, CallerAsked]


def test_they_are_asked_when_the_planner_has_nothing() -> None:
    """With what the planner said."""
    bench = asked(*CHAIN, can_replan=True)

    assert events_of(bench.journal)[-1] == CallerAsked(task_id="b", reason="no idea")
    assert bench.statuses()["b"] == "replanning"


def test_they_are_asked_when_the_planner_offers_what_was_tried_already() -> None:
    """The refused alternative is the reason."""
    bench = Bench(graph("b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True, asks_caller=True)
    bench.start()
    bench.fail("b")

    bench.offer("b", graph("b"))

    assert bench.task("b").is_asked
    assert bench.task("b").note == "asks: how to go on? the alternative is what was tried already"


@pytest.mark.parametrize("mode", [OrchestrationMode.SIMPLE, OrchestrationMode.HIERARCHICAL])
def test_only_adaptive_orchestrations_ask(mode: OrchestrationMode) -> None:
    """In the other modes the task has failed."""
    bench = Bench(graph("b"), mode=mode, asks_caller=True)
    bench.start()

    bench.fail("b")

    assert bench.statuses() == {"b": "failed"}


def test_whoever_does_not_ask_fails() -> None:
    """The planner's reason stands in the error."""
    bench = Bench(graph("b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.fail("b")

    bench.refuse("b", "no idea")

    assert bench.statuses() == {"b": "failed"}
    assert bench.error("b").message == "b broke (no alternative plan: no idea)"


def test_everything_else_goes_on_while_somebody_is_asked() -> None:
    """And the orchestration does not end."""
    bench = asked("a b", tasks="a b other")

    bench.run_out()

    assert bench.statuses() == {"a": "completed", "b": "replanning", "other": "completed"}
    assert bench.outcome is OrchestrationStatus.RUNNING


# Answers


def test_an_alternative_answers() -> None:
    """As one of a planner does, and it is written down whose it is."""
    bench = asked(*CHAIN)

    decision = bench.offer("b", plan("x y", "x y"), by="caller", reason="try this", expected_revision=1)

    revised = events_of(decision)[0]
    assert isinstance(revised, PlanRevised)
    assert (revised.by, revised.reason, revised.revision) == ("caller", "try this", 2)
    assert bench.statuses() == {
        "a": "completed", "b": "superseded", "c": "pending", "x~1": "running", "y~1": "pending"
    }  # fmt: skip
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED
    assert bench.history() == ["a#1", "b#1", "x~1#1", "y~1#1", "c#1"]


def test_an_answer_made_for_another_revision_is_refused() -> None:
    """Nothing is changed, and the refusal says which revision there is."""
    bench = asked("a b", "b c", tasks="a b c d")
    bench.edit(added=(TaskNode("more"),))
    before = list(bench.journal)

    with pytest.raises(RevisionConflictError) as caught:
        bench.offer("b", plan("x"), by="caller", expected_revision=1)

    assert (caught.value.expected, caught.value.present) == (1, 2)
    assert bench.journal == before
    bench.offer("b", plan("x"), by="caller", expected_revision=2)
    assert bench.statuses()["b"] == "superseded"


def test_an_answer_that_can_not_take_the_place_is_refused() -> None:
    """With the reason; the question stays open."""
    bench = asked(*CHAIN)

    with pytest.raises(NotPossibleError) as caught:
        bench.offer("b", graph("b"), by="caller")

    assert str(caught.value) == (
        "Task 'b' is replanning, so it can't be replaced by this. Because the alternative is what was tried already."
    )
    assert bench.task("b").is_asked


def test_nobody_answers_for_a_task_that_asks_nothing() -> None:
    """A running task can't be replaced so."""
    bench = Bench(graph("b"), mode=OrchestrationMode.ADAPTIVE, asks_caller=True)
    bench.start()

    with pytest.raises(NotPossibleError, match="Task 'b' is running, so it can't be replaced"):
        bench.offer("b", plan("x"), by="caller")


def test_somebody_may_answer_before_the_planner_does() -> None:
    """What the planner says then is passed over."""
    bench = Bench(graph("b c", "b c"), mode=OrchestrationMode.ADAPTIVE, can_replan=True, asks_caller=True)
    bench.start()
    bench.fail("b")
    assert bench.asked() == ["b"]

    bench.offer("b", plan("x"), by="caller")
    before = list(bench.journal)
    bench.offer("b", plan("y"))
    bench.refuse("b")

    assert bench.journal == before
    assert bench.running == ["x~1"]


def test_a_late_answer_of_the_planner_is_passed_over_when_somebody_else_is_asked() -> None:
    """Its turn is over."""
    bench = asked(*CHAIN, can_replan=True)
    before = list(bench.journal)

    bench.offer("b", plan("x"))
    bench.refuse("b")

    assert bench.journal == before


def test_run_it_again_as_it_is() -> None:
    """Under a new key, with all its retries; what was paused waits for it."""
    bench = asked(*CHAIN)

    bench.decide("b", "retry", by="caller")

    assert bench.statuses() == {"a": "completed", "b": "running", "c": "pending"}
    assert (bench.task("b").generation, bench.task("b").failures) == (2, 0)
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_somebody_did_it() -> None:
    """With the output they bring; conditions see it."""
    bench = asked("a b", "b c if output.ok")

    bench.decide("b", "done", {"ok": True}, by="caller", reason="by hand")

    assert bench.statuses() == {"a": "completed", "b": "completed", "c": "running"}
    assert bench.task("b").note == "decided by caller: done (by hand)"


def test_it_has_failed() -> None:
    """As if nobody had been asked."""
    bench = asked(*CHAIN)

    bench.decide("b", "failed", reason="forget it.")

    assert bench.statuses() == {"a": "completed", "b": "failed", "c": "skipped"}
    assert bench.outcome is OrchestrationStatus.FAILED
    assert bench.error("b").message == "person decided that it failed: forget it. b broke"


def test_an_edit_of_the_task_answers() -> None:
    """It runs again, as it is from now on."""
    bench = asked(*CHAIN)

    bench.edit(changed=(TaskNode("b", tool="better"),), by="caller")

    assert bench.statuses() == {"a": "completed", "b": "running", "c": "pending"}
    assert bench.task("b").node.tool == "better"
    assert bench.task("b").generation == 2
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_edit_of_its_priority_is_no_answer() -> None:
    """The question stays open."""
    bench = asked(*CHAIN)

    bench.edit(changed=(TaskNode("b", priority=TaskPriority.HIGH),))

    assert bench.statuses() == {"a": "completed", "b": "replanning", "c": "paused"}
    assert bench.task("b").is_asked


def test_while_the_planner_is_asked_nothing_is_decided_or_edited() -> None:
    """Only what somebody is asked about can be."""
    bench = Bench(graph("b"), mode=OrchestrationMode.ADAPTIVE, can_replan=True, asks_caller=True)
    bench.start()
    bench.fail("b")

    with pytest.raises(NotPossibleError, match="No task of it waits for a decision"):
        bench.decide("b", "retry")
    with pytest.raises(NotPossibleError, match="it is replanning; wait until it is not"):
        bench.edit(changed=(TaskNode("b", tool="better"),))


def test_a_task_that_is_cached_is_looked_for_once_when_it_runs_again() -> None:
    """The question is open until it is answered, whatever happens between."""
    dag = graph([TaskNode("b", cache=CachePolicy(60.0))])
    bench = Bench(dag, mode=OrchestrationMode.ADAPTIVE, asks_caller=True)
    bench.start()
    bench.miss("b")
    bench.fail("b")
    bench.decide("b", "retry")

    bench.pause()
    bench.resume()

    assert [effect.generation for effect in bench.of(LookUpResult)] == [1, 2]


# Limits


def test_a_task_that_runs_again_and_fails_asks_again() -> None:
    """As often as somebody wants it."""
    bench = asked(*CHAIN)
    for _ in range(5):
        bench.decide("b", "retry")
        bench.fail("b")

    assert bench.task("b").is_asked


def test_edits_use_up_no_alternatives() -> None:
    """The limit is on replans; a person may change the plan as often as they like."""
    bench = Bench(
        graph("a b"),
        mode=OrchestrationMode.ADAPTIVE,
        can_replan=True,
        options=EngineOptions(max_replans=2),
    )
    bench.start()
    for number in range(6):
        bench.edit(added=(TaskNode(f"n{number}"),))

    bench.fail("a")
    bench.offer("a", plan("x"))
    bench.fail("b")

    assert bench.asked() == ["a", "b"]
    assert bench.statuses()["x~1"] == "ready"


def test_the_suffix_counts_alternatives_not_edits() -> None:
    """The first alternative is `~1`, whatever was edited before."""
    bench = Bench(graph("a"), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.start()
    bench.edit(added=(TaskNode("more"),))
    bench.fail("a")

    bench.offer("a", plan("x"))

    assert "x~1" in bench.state.tasks
    assert bench.state.revision == 3


# Pause, cancel, retry, takeover


def test_an_answer_while_paused_counts_when_it_goes_on() -> None:
    """The alternative takes its place, and waits."""
    bench = asked(*CHAIN)
    bench.pause()

    bench.offer("b", plan("x"), by="person")

    assert (bench.statuses()["x~1"], bench.running) == ("ready", [])
    bench.resume()
    assert bench.running == ["x~1"]


def test_a_failure_while_paused_asks_at_once() -> None:
    """Asking somebody starts nothing."""
    bench = Bench(graph("b"), mode=OrchestrationMode.ADAPTIVE, asks_caller=True)
    bench.start()
    bench.pause()

    bench.fail("b")

    assert bench.task("b").is_asked


def test_cancel_ends_a_question() -> None:
    """Nobody is asked any more."""
    bench = asked(*CHAIN)

    bench.cancel()

    assert bench.outcome is OrchestrationStatus.CANCELLED
    assert not bench.task("b").is_asked
    with pytest.raises(NotPossibleError):
        bench.offer("b", plan("x"), by="caller")


def test_a_retry_after_cancel_runs_it_again() -> None:
    """With its dependents."""
    bench = asked(*CHAIN)
    bench.cancel()
    bench.crash()

    bench.retry()
    bench.start()
    bench.run_out()

    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_the_next_driver_knows_who_is_asked() -> None:
    """It asks no planner, and takes the answer."""
    bench = asked(*CHAIN, can_replan=True)
    bench.crash()

    bench.start()

    assert bench.of(RequestAlternative) == []
    bench.offer("b", plan("x"), by="caller")
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_answer_while_nobody_drives_is_kept() -> None:
    """Whoever takes over runs the alternative."""
    bench = asked(*CHAIN)
    bench.crash()

    bench.offer("b", plan("x"), by="person")
    assert bench.running == []
    bench.start()

    assert bench.running == ["x~1"]


def test_the_time_limit_of_the_whole_ends_the_question() -> None:
    """It fails for want of time."""
    bench = asked(*CHAIN, timeout_seconds=10.0)

    bench.wait(10)

    assert bench.outcome is OrchestrationStatus.FAILED
