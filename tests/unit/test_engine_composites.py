"""Composites: a `foreach` and a parent run nothing themselves; their children do, and they settle with them."""

from __future__ import annotations

import pytest

from orchestration.engine.effects import DescribeApproval, FindItems, GatherOutputs, LookUpResult
from orchestration.engine.events import ChildrenGathered, TaskExpanded
from orchestration.engine.inputs import Routes
from orchestration.models import (
    CachePolicy,
    ErrorRecord,
    Fallback,
    OrchestrationStatus,
    TaskNode,
    TaskStatus,
)
from tests.engine_kit import events_of
from tests.unit.engine_starts import TOO_MANY, expanded, family, listed, part, started

# A `foreach`: beginning


def test_a_list_is_looked_at_when_its_task_is_ready() -> None:
    """Not before: an upstream makes it."""
    bench = started("u", listed(), edges=("u t",))
    assert bench.of(FindItems) == []

    bench.succeed("u")

    assert bench.of(FindItems) == [FindItems(orchestration_id="o", task_id="t", generation=1)]
    assert bench.statuses()["t"] == "ready"


def test_each_item_gets_a_child() -> None:
    """With the task's own fields but the list, and its place in it."""
    bench = started(listed(tool="fetch", max_retries=2, arguments={"x": "${item}"}))

    events = events_of(bench.found("t", 3))

    assert events[0] == TaskExpanded(task_id="t", count=3)
    assert bench.statuses() == {"t": "expanded", "t[0]": "running", "t[1]": "running", "t[2]": "running"}
    child = bench.task("t[1]")
    assert (child.node.tool, child.node.max_retries, child.node.arguments) == ("fetch", 2, {"x": "${item}"})
    assert (child.node.foreach, child.node.parent, child.index, child.system) == (None, "t", 1, "here")


def test_a_foreach_holds_no_slot_and_makes_no_attempt() -> None:
    """Its children do."""
    bench = expanded(2, slots=1)

    assert bench.running == ["t[0]"]
    bench.succeed("t[0]")
    assert bench.running == ["t[1]"]
    assert bench.task("t").attempt == 0


def test_an_empty_list_completes_at_once() -> None:
    """Nothing runs, and what depends on it does."""
    bench = expanded(0, listed(), "d", edges=("t d",))
    assert bench.statuses() == {"t": "expanded", "d": "pending"}
    assert len(bench.of(GatherOutputs)) == 1

    bench.gathered("t", [])

    assert bench.statuses() == {"t": "completed", "d": "running"}


def test_too_long_a_list_fails_the_task_before_any_child_starts() -> None:
    """So does one that is none."""
    bench = started(listed(), "d", edges=("t d",))

    bench.found("t", error=TOO_MANY)

    assert bench.statuses() == {"t": "failed", "d": "skipped"}
    assert bench.error("t") == TOO_MANY
    assert (bench.history(), bench.outcome) == ([], OrchestrationStatus.FAILED)


def test_composites_count_in_no_total() -> None:
    """Only what is really done is counted."""
    bench = expanded(3, listed(), "d", edges=("t d",))

    assert bench.state.total_tasks == 4
    assert bench.state.counts.get(TaskStatus.EXPANDED, 0) == 0
    assert bench.state.composites == {TaskStatus.PENDING: 0, TaskStatus.READY: 0, TaskStatus.EXPANDED: 1}


def test_an_answer_to_what_is_not_asked_any_more_is_passed_over() -> None:
    """The list was counted twice, or the task has changed."""
    bench = expanded(2)
    before = list(bench.journal)

    bench.found("t", 5)

    assert bench.journal == before


# A `foreach`: ending


def test_its_output_is_gathered_when_all_children_have_settled() -> None:
    """Once, and with verdicts on what depends on it."""
    bench = expanded(2, listed(), "d", edges=("t d if size(output) > 1",))
    bench.succeed("t[1]")
    assert bench.of(GatherOutputs) == []
    bench.succeed("t[0]")
    assert bench.of(GatherOutputs) == [GatherOutputs(orchestration_id="o", task_id="t", generation=1)]

    events = events_of(bench.gathered("t", [1, 2]))

    assert isinstance(events[0], ChildrenGathered)
    assert [verdict.delivers for verdict in events[0].verdicts] == [True]
    assert bench.running == ["d"]


def test_it_fails_when_a_child_fails_after_the_others_have_settled() -> None:
    """What can still be done is done."""
    bench = expanded(3, listed(), "d", edges=("t d",))
    bench.fail("t[1]")
    assert bench.statuses()["t"] == "expanded"
    bench.succeed("t[0]")
    bench.succeed("t[2]")

    assert bench.statuses() == {
        "t": "failed", "d": "skipped", "t[0]": "completed", "t[1]": "failed", "t[2]": "completed"
    }  # fmt: skip
    assert bench.error("t") == ErrorRecord(
        code="children_failed", message="1 of its 3 parts failed: t[1]. t[1]: t[1] broke"
    )
    assert bench.outcome is OrchestrationStatus.FAILED


def test_a_failed_child_is_tolerated_where_its_foreach_is() -> None:
    """A handler lives with it: everything counts as completed, and the errors are still there."""
    bench = expanded(2, listed(), "h", edges=("t h if status == 'failed'",))
    bench.succeed("t[0]")
    bench.fail("t[1]")
    bench.run_out()

    assert bench.statuses() == {"t": "failed", "h": "completed", "t[0]": "completed", "t[1]": "failed"}
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_output_that_can_not_be_made_fails_it() -> None:
    """Too large, taken together."""
    bench = expanded(1)
    bench.succeed("t[0]")

    bench.gathered("t", error=ErrorRecord(code="output_too_large", message="too large"))

    assert bench.statuses() == {"t": "failed", "t[0]": "completed"}
    assert bench.outcome is OrchestrationStatus.FAILED


def test_children_retry_reroute_and_fall_back_as_their_task_says() -> None:
    """They have its retries, its other systems and its fallback."""
    routes = Routes(others={"t": ("second",)}, fallbacks={"t": ("spare",)})
    bench = expanded(2, listed(max_retries=1, fallback=Fallback(tool="x")), routes=routes)
    bench.fail("t[0]", retryable=True)
    assert bench.statuses()["t[0]"] == "retrying"
    bench.wait(60)
    bench.fail("t[0]", retryable=True)
    assert bench.task("t[0]").system == "second"

    bench.fail("t[0]", retryable=False)

    assert (bench.task("t[0]").system, bench.task("t[0]").node.tool) == ("spare", "x")
    assert bench.task("t[1]").system == "here"
    bench.run_out()
    bench.gathered("t")
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_each_child_is_agreed_to_and_looked_for_by_itself() -> None:
    """The list is not; what is done with each item is."""
    bench = expanded(2, listed(approval="person"))
    assert [effect.task_id for effect in bench.of(DescribeApproval)] == ["t[0]", "t[1]"]
    bench.described("t[0]")
    bench.approve("t[0]")
    assert bench.running == ["t[0]"]

    cached = expanded(2, listed(cache=CachePolicy(60.0)))
    assert [effect.task_id for effect in cached.of(LookUpResult)] == ["t[0]", "t[1]"]
    cached.hit("t[0]")
    assert cached.statuses()["t[0]"] == "completed"


def test_a_rejected_child_fails_the_whole() -> None:
    """It is no part less of it."""
    bench = expanded(1, listed(approval="person"))
    bench.described("t[0]")

    bench.reject("t[0]")

    assert bench.statuses() == {"t": "failed", "t[0]": "failed"}


# A parent


def test_parts_begin_when_what_their_parent_needs_is_there() -> None:
    """Edges into the parent gate its root children, which are fed what it is fed."""
    bench = family()
    assert bench.running == ["u"]

    bench.succeed("u", {"n": 1})

    assert bench.statuses() == {
        "u": "completed", "p": "expanded", "a": "running", "b": "pending", "c": "running", "d": "pending"
    }  # fmt: skip
    assert [edge.source for edge in bench.task("a").incoming] == ["u"]
    assert [edge.source for edge in bench.task("b").incoming] == ["a"]


def test_what_depends_on_a_parent_waits_for_all_of_its_parts() -> None:
    """And for their outputs to be gathered."""
    bench = family()
    bench.run_out()
    assert bench.statuses()["d"] == "pending"
    assert [effect.task_id for effect in bench.of(GatherOutputs)] == ["p"]

    bench.gathered("p", {"b": 1, "c": 2})
    bench.run_out()

    assert bench.outcome is OrchestrationStatus.COMPLETED
    assert bench.history() == ["u#1", "a#1", "c#1", "b#1", "d#1"]


def test_a_parent_whose_upstream_fails_is_skipped_with_its_parts() -> None:
    """No part of it begins."""
    bench = family()

    bench.fail("u")

    assert bench.statuses() == dict.fromkeys("pabcd", "skipped") | {"u": "failed"}
    assert bench.task("a").note == "skipped: nothing came from p"


def test_a_failed_part_fails_the_parent_when_nothing_bears_it() -> None:
    """After the others have settled."""
    bench = family()
    bench.succeed("u")
    bench.fail("a")
    assert bench.statuses()["p"] == "expanded"

    bench.succeed("c")

    assert bench.statuses() == {
        "u": "completed", "p": "failed", "a": "failed", "b": "skipped", "c": "completed", "d": "skipped"
    }  # fmt: skip


def test_a_failure_that_is_handled_inside_a_parent_does_not_fail_it() -> None:
    """A handler among its parts lives with it."""
    bench = started(
        TaskNode("p"), part("a"), part("h"), edges=("a h if status == 'failed'",)
    )  # fmt: skip

    bench.fail("a")
    bench.run_out()
    bench.gathered("p")

    assert bench.statuses() == {"p": "completed", "a": "failed", "h": "completed"}
    assert bench.outcome is OrchestrationStatus.COMPLETED


@pytest.mark.parametrize("broken", ["a", "b", "c"])
def test_a_failed_part_is_tolerated_where_its_parent_is(broken: str) -> None:
    """Whether other parts depend on it or not: the handler of the parent's failure lives with it."""
    bench = family("h", edges=("p h if status == 'failed'",))
    bench.succeed("u")
    while bench.running:
        name = bench.running[0]
        if name == broken:
            bench.fail(name)
        else:
            bench.succeed(name)

    assert bench.statuses()["p"] == "failed"
    assert bench.statuses()["h"] == "completed"
    assert bench.outcome is OrchestrationStatus.FAILED, "`d` was skipped over it"

    lonely = started(
        TaskNode("p"), part("a"), part("b"), part("c"), "h", edges=("a b", "p h if status == 'failed'")
    )
    while lonely.running:
        name = lonely.running[0]
        if name == broken:
            lonely.fail(name)
        else:
            lonely.succeed(name)
    assert lonely.outcome is OrchestrationStatus.COMPLETED


def test_an_optional_dependent_tolerates_a_failed_parent() -> None:
    """It runs without what the parent would have delivered."""
    bench = started(TaskNode("p"), part("a"), part("b"), "d", edges=("a b", "p d?"))
    bench.fail("a")
    bench.run_out()

    assert bench.statuses() == {"p": "failed", "a": "failed", "b": "skipped", "d": "completed"}
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_parents_lie_inside_each_other() -> None:
    """The outer one waits for the inner one; what the outer one is fed goes down to the first that runs."""
    bench = started(
        "u", TaskNode("p"), part("q"), part("x", "q"), part("y", "q"), part("z"), "d",
        edges=("u p", "x y", "q z", "p d"),
    )  # fmt: skip
    bench.succeed("u")
    assert bench.statuses() == {
        "u": "completed", "p": "expanded", "q": "expanded", "x": "running", "y": "pending",
        "z": "pending", "d": "pending",
    }  # fmt: skip
    assert [edge.source for edge in bench.task("x").incoming] == ["u"]

    bench.go_on()

    assert bench.history() == ["u#1", "x#1", "y#1", "z#1", "d#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_failure_deep_inside_is_tolerated_at_the_top() -> None:
    """Through as many parents as there are."""
    bench = started(
        TaskNode("p"), part("q"), part("x", "q"), part("y", "q"), "h",
        edges=("x y", "p h if status == 'failed'"),
    )  # fmt: skip

    bench.fail("x")
    bench.run_out()

    assert bench.statuses() == {"p": "failed", "q": "failed", "x": "failed", "y": "skipped", "h": "completed"}
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_foreach_can_be_a_part() -> None:
    """Its children are parts of a part; the list may come from its sibling."""
    bench = started(
        TaskNode("p"), part("a"), listed("t", parent="p"), part("z"), "d", edges=("a t", "t z", "p d")
    )
    bench.succeed("a")
    bench.found("t", 2)

    assert bench.task("t[0]").node.parent == "t"
    assert bench.running == ["t[0]", "t[1]"]
    bench.go_on()
    assert bench.history() == ["a#1", "t[0]#1", "t[1]#1", "z#1", "d#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_empty_list_inside_a_parent_lets_the_parent_end() -> None:
    """It is gathered like any other."""
    bench = started(TaskNode("p"), listed("t", parent="p"), "d", edges=("p d",))
    bench.found("t", 0)

    bench.go_on()

    assert bench.statuses() == {"p": "completed", "t": "completed", "d": "completed"}
