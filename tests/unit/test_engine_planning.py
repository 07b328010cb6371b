"""Plans that run while they are made: what may begin early, what waits, and how the plan ends."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.engine.effects import (
    ContinuePlan,
    DescribeApproval,
    FindItems,
    GatherOutputs,
    LookUpResult,
)
from orchestration.engine.events import CancelRequested, PlanCompleted, PlanExtended
from orchestration.errors import NotPossibleError
from orchestration.models import (
    CachePolicy,
    Fallback,
    OrchestrationMode,
    OrchestrationStatus,
    TaskNode,
)
from tests.engine_kit import Bench, events_of, graph, plan


def planning(**more: Any) -> Bench:
    """Return a started orchestration whose plan is still being made."""
    bench = Bench(graph(""), is_planning=True, **more)
    bench.start()
    return bench


def test_the_rest_of_the_plan_is_asked_for() -> None:
    """By whoever drives; and nothing ends before it is there."""
    bench = planning()

    assert bench.of(ContinuePlan) == [ContinuePlan(orchestration_id="o")]
    assert bench.outcome.value == "planning"


def test_a_task_starts_as_soon_as_it_is_planned() -> None:
    """The rest comes later."""
    bench = planning()

    events = events_of(bench.grow("a b", "a b"))

    assert isinstance(events[0], PlanExtended)
    assert bench.running == ["a"]
    bench.succeed("a")
    assert bench.running == ["b"]


def test_a_plan_that_is_whole_ends_as_any_other() -> None:
    """Not before."""
    bench = planning()
    bench.grow("a")
    bench.run_out()
    assert bench.outcome.value == "planning"

    events = events_of(bench.end_plan())

    assert events[0] == PlanCompleted()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_plan_without_tasks_is_done() -> None:
    """There was nothing to do."""
    bench = planning()

    bench.end_plan()

    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_edges_from_what_has_settled_are_decided_when_they_come() -> None:
    """With the output where a condition wants it."""
    bench = planning()
    bench.grow("a b")
    bench.succeed("a", {"n": 1})
    bench.fail("b")

    bench.grow("c d e", "a c if output.n > 0", "b d", "b e?", values={"a": {"n": 1}})

    assert bench.statuses() == {
        "a": "completed", "b": "failed", "c": "running", "d": "skipped", "e": "running"
    }  # fmt: skip


def test_an_output_that_was_not_looked_at_refuses_the_part() -> None:
    """Nothing of it is taken in; it can be tried again."""
    bench = planning()
    bench.grow("a")
    bench.succeed("a", {"n": 1})

    with pytest.raises(NotPossibleError, match="its output was not looked at"):
        bench.grow("c", "a c if output.n > 0")

    assert list(bench.state.tasks) == ["a"]


def test_an_edge_from_a_task_that_was_replaced_comes_from_what_stands_for_it() -> None:
    """The planner may not know of the alternative yet."""
    bench = planning(mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.grow("a")
    bench.fail("a")
    bench.offer("a", plan("x"))

    bench.grow("b", "a b")
    assert bench.statuses() == {"a": "superseded", "x~1": "running", "b": "pending"}
    bench.succeed("x~1", {"n": 1})
    bench.grow("c d", "a c", "a d if output.n > 1", values={"x~1": {"n": 1}})

    assert bench.statuses() == {
        "a": "superseded", "x~1": "completed", "b": "running", "c": "running", "d": "skipped"
    }  # fmt: skip
    bench.end_plan()
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED


# What waits


@pytest.mark.parametrize(
    "node",
    [
        TaskNode("a", idempotent=False),
        TaskNode("a", approval="person"),
        TaskNode("a", approval="caller"),
        TaskNode("a", fallback=Fallback(tool="x", fallback=Fallback(tool="y", idempotent=False))),
        TaskNode("a", foreach=[1], idempotent=False),
    ],
)
def test_what_can_not_be_taken_back_waits_for_the_whole_plan(node: TaskNode) -> None:
    """What must not be repeated, and what somebody must agree to; nobody is even asked."""
    bench = planning()

    bench.grow([node])

    assert bench.statuses() == {"a": "ready"}
    assert (bench.of(DescribeApproval), bench.of(FindItems)) == ([], [])
    bench.end_plan()
    bench.go_on(items=1)
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_what_may_be_repeated_goes_by_the_cache_at_once() -> None:
    """The plan need not be whole for that."""
    bench = planning()
    bench.grow([TaskNode("a", cache=CachePolicy(60.0)), TaskNode("b", cache=CachePolicy(60.0))])
    assert [effect.task_id for effect in bench.of(LookUpResult)] == ["a", "b"]

    bench.hit("a")
    bench.miss("b")

    assert bench.statuses() == {"a": "completed", "b": "running"}


def test_lists_and_parents_may_begin_early() -> None:
    """When all of them can be repeated."""
    bench = planning()

    bench.grow([TaskNode("t", foreach=[1]), TaskNode("p"), TaskNode("x", parent="p")])
    bench.found("t", 1)

    assert bench.running == ["x", "t[0]"]
    bench.run_out()
    assert [effect.task_id for effect in bench.of(GatherOutputs)] == ["p", "t"]
    bench.gathered("t")
    bench.gathered("p")
    bench.end_plan()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_part_that_must_not_be_repeated_waits_inside_its_parent() -> None:
    """The others go on."""
    bench = planning()
    bench.grow([TaskNode("p"), TaskNode("x", parent="p"), TaskNode("y", parent="p", idempotent=False)])

    assert bench.running == ["x"]
    bench.end_plan()

    assert bench.running == ["x", "y"]


def test_more_parts_of_a_parent_that_has_begun_are_fed_what_it_is_fed() -> None:
    """And waited for."""
    bench = planning()
    bench.grow([TaskNode("u"), TaskNode("p"), TaskNode("x", parent="p")], "u p")
    bench.succeed("u")

    bench.grow([TaskNode("y", parent="p")])

    assert bench.running == ["x", "y"]
    assert [edge.source for edge in bench.task("y").incoming] == ["u"]


def test_strict_order_holds_while_the_plan_grows() -> None:
    """One at a time, in the order of what is there."""
    bench = planning(mode=OrchestrationMode.SIMPLE)
    bench.grow("a b", "a b")
    bench.grow("c")
    assert bench.running == ["a"]

    bench.run_out()
    bench.grow("d", "b d")
    bench.end_plan()
    bench.run_out()

    assert bench.history() == ["a#1", "b#1", "c#1", "d#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_task_that_waits_for_the_plan_holds_its_place_in_simple_mode() -> None:
    """What comes after it does not overtake it."""
    bench = planning(mode=OrchestrationMode.SIMPLE)
    bench.grow([TaskNode("a", idempotent=False), TaskNode("b")])
    assert bench.running == []

    bench.end_plan()
    bench.run_out()

    assert bench.history() == ["a#1", "b#1"]


# What is refused


def test_a_part_that_is_there_already_is_refused() -> None:
    """Nothing that runs is overwritten."""
    bench = planning()
    bench.grow("a")

    with pytest.raises(NotPossibleError) as caught:
        bench.grow("b a")

    assert str(caught.value) == "Task 'a' is there already, so it can't be planned."
    assert list(bench.state.tasks) == ["a"]


@pytest.mark.parametrize("edge", ["x b", "b x", "b a"])
def test_an_edge_to_or_from_nowhere_is_refused(edge: str) -> None:
    """Edges lead to the new tasks, from what is there."""
    bench = planning()
    bench.grow("a")

    with pytest.raises(NotPossibleError, match="can't be planned"):
        bench.grow("b", edge)

    assert list(bench.state.tasks) == ["a"]


def test_a_task_that_has_begun_by_itself_gets_no_parts() -> None:
    """Nor does one that is not there."""
    bench = planning()
    bench.grow("a")

    for parent in ("a", "nobody"):
        with pytest.raises(NotPossibleError, match="can't be planned"):
            bench.grow([TaskNode("b", parent=parent)])


def test_a_plan_that_is_whole_grows_no_more() -> None:
    """Nor does one that will never be."""
    bench = planning()
    bench.grow("a")
    bench.end_plan()
    with pytest.raises(NotPossibleError, match="is running, so it can't be planned further"):
        bench.grow("b")
    bench.end_plan("too late")
    assert bench.outcome is OrchestrationStatus.RUNNING


# The plan changes its mind


# A plan that will never be whole


def test_a_plan_that_will_never_be_whole_fails() -> None:
    """What ran stays recorded; what runs is stopped; nothing more begins."""
    bench = planning()
    bench.grow("a b c", "b c")
    bench.succeed("a")

    events = events_of(bench.end_plan("the model is gone"))

    assert events[0] == CancelRequested(reason="the model is gone", because="plan_incomplete")
    bench.stopped("b")
    assert bench.statuses() == {"a": "completed", "b": "cancelled", "c": "cancelled"}
    assert bench.outcome is OrchestrationStatus.FAILED
    assert bench.state.ended_by == "plan_incomplete"
    assert bench.state.reason == "the model is gone"


def test_it_fails_even_where_everything_there_was_has_completed() -> None:
    """It is not what was wanted."""
    bench = planning()
    bench.grow("a")
    bench.run_out()

    bench.end_plan("the model is gone")

    assert bench.outcome is OrchestrationStatus.FAILED


@pytest.mark.parametrize(("how", "outcome"), [("cancelled", "cancelled"), ("out of time", "failed")])
def test_half_a_plan_is_never_completed(how: str, outcome: str) -> None:
    """Whoever ended it, and though everything that was planned is done."""
    bench = planning(timeout_seconds=10.0)
    bench.grow("a")
    bench.run_out()

    if how == "cancelled":
        bench.cancel()
    else:
        bench.wait(10)

    assert bench.outcome.value == outcome


@pytest.mark.parametrize("how", ["never whole", "cancelled", "out of time"])
def test_a_retry_goes_on_planning(how: str) -> None:
    """Half a plan is not run as if it were the whole; what has completed stays."""
    bench = planning(timeout_seconds=100.0)
    bench.grow([TaskNode("a"), TaskNode("b", idempotent=False), TaskNode("c")])
    bench.succeed("a")
    if how == "never whole":
        bench.end_plan("the model is gone")
    elif how == "cancelled":
        bench.cancel()
    else:
        bench.wait(100)
    bench.stopped("c")
    bench.crash()

    bench.retry()
    bench.start()

    assert bench.outcome.value == "planning"
    assert len(bench.of(ContinuePlan)) == 1
    assert bench.statuses() == {"a": "completed", "b": "ready", "c": "running"}
    bench.grow("d")
    bench.end_plan()
    bench.run_out()
    assert bench.outcome is OrchestrationStatus.COMPLETED
    assert bench.history() == ["a#1", "c#1", "c#2", "d#1", "b#1"]


def test_a_retry_goes_on_planning_even_where_all_there_was_has_completed() -> None:
    """There is no task to retry, but a plan to be made."""
    bench = planning()
    bench.grow("a")
    bench.run_out()
    bench.end_plan("the model is gone")

    bench.retry()

    assert bench.outcome.value == "planning"
    assert len(bench.of(ContinuePlan)) == 2


def test_a_retry_of_what_ended_after_its_plan_was_whole_runs() -> None:
    """Nothing is planned again."""
    bench = planning()
    bench.grow("a")
    bench.end_plan()
    bench.fail("a")
    bench.crash()

    bench.retry()
    bench.start()

    assert bench.outcome is OrchestrationStatus.RUNNING
    assert bench.of(ContinuePlan) == []


# Failures while planning


def test_a_failed_task_is_replanned_while_the_plan_grows() -> None:
    """Nobody waits for the whole."""
    bench = planning(mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.grow("a b", "a b")

    bench.fail("a")
    assert bench.asked() == ["a"]
    bench.offer("a", plan("x"))

    assert bench.running == ["x~1"]


def test_a_failed_task_can_be_retried_while_the_plan_grows() -> None:
    """The plan goes on being made."""
    bench = planning()
    bench.grow("a")
    bench.fail("a")

    bench.retry("a")

    assert (bench.outcome, bench.running) == (OrchestrationStatus.PLANNING, ["a"])
    assert len(bench.of(ContinuePlan)) == 1


# Pause, cancel, edit, takeover


def test_what_is_being_planned_is_neither_paused_nor_edited() -> None:
    """It can be cancelled."""
    bench = planning()
    bench.grow("a")

    with pytest.raises(NotPossibleError, match="is planning, so it can't be paused"):
        bench.pause()
    with pytest.raises(NotPossibleError, match="is planning, so it can't be edited"):
        bench.edit(added=(TaskNode("b"),))
    bench.cancel("enough")
    bench.stopped("a")

    assert bench.outcome is OrchestrationStatus.CANCELLED
    with pytest.raises(NotPossibleError):
        bench.grow("b")


def test_the_next_driver_goes_on_planning_from_what_is_there() -> None:
    """And with what ran."""
    bench = planning()
    bench.grow([TaskNode("a"), TaskNode("b"), TaskNode("c", approval="person")], "a b")
    bench.succeed("a")
    bench.crash()

    bench.start()

    assert len(bench.of(ContinuePlan)) == 1
    assert bench.outcome.value == "planning"
    assert bench.statuses() == {"a": "completed", "b": "running", "c": "ready"}
    assert bench.of(DescribeApproval) == []
    bench.end_plan()
    bench.go_on()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_the_time_limit_holds_while_planning() -> None:
    """The whole has so much time, planning included."""
    bench = planning(timeout_seconds=10.0)
    bench.grow("a")

    bench.wait(10)
    bench.stopped("a")

    assert bench.outcome is OrchestrationStatus.FAILED
    assert bench.state.ended_by == "timeout"
