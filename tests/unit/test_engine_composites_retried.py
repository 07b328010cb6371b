"""Composites when something goes otherwise: alternatives for parts, pause, cancel, takeover, retry; their order."""

from __future__ import annotations

import pytest

from orchestration.engine.effects import FindItems, GatherOutputs
from orchestration.engine.graph import present_graph, strict_order
from orchestration.engine.inputs import Routes
from orchestration.errors import NotPossibleError
from orchestration.models import (
    OrchestrationMode,
    OrchestrationStatus,
    TaskNode,
    TaskStatus,
)
from tests.engine_kit import Bench, graph, plan
from tests.unit.engine_starts import TOO_MANY, expanded, family, listed, part, started

# Alternatives for parts


def test_a_child_is_replaced_in_its_place() -> None:
    """The alternative is part of the same list; the list waits for it."""
    bench = expanded(2, mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("t[0]")

    bench.offer("t[0]", plan("x y", "x y"))

    assert bench.statuses() == {
        "t": "expanded", "t[0]": "superseded", "t[1]": "running", "x~1": "running", "y~1": "pending"
    }  # fmt: skip
    assert (bench.task("y~1").node.parent, bench.task("y~1").index) == ("t", 0)
    assert bench.state.current("t[0]") == "y~1"
    bench.run_out()
    bench.gathered("t")
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_alternative_that_fails_fails_the_list() -> None:
    """When nothing else is tried."""
    bench = expanded(1, mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("t[0]")
    bench.offer("t[0]", plan("x y", "x y"))
    bench.fail("x~1")
    bench.refuse("x~1")

    assert bench.statuses() == {"t": "failed", "t[0]": "superseded", "x~1": "failed", "y~1": "skipped"}


def test_the_alternative_of_a_part_is_a_part() -> None:
    """Fed by what its parent is fed, and what depended on the old one depends on it."""
    bench = started(
        "u", TaskNode("p"), part("a"), part("b"), "d",
        edges=("u p", "a b", "p d"), mode=OrchestrationMode.ADAPTIVE, can_replan=True,
    )  # fmt: skip
    bench.succeed("u")
    bench.fail("a")

    bench.offer("a", plan("x"))

    assert bench.task("x~1").node.parent == "p"
    assert [(edge.source, edge.delivers) for edge in bench.task("x~1").incoming] == [("u", True)]
    bench.run_out()
    bench.gathered("p")
    bench.run_out()
    assert bench.history() == ["u#1", "a#1", "x~1#1", "b#1", "d#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_alternative_may_have_parts_of_its_own() -> None:
    """Only what runs inherits that it must not be repeated, and that somebody must agree."""
    bench = started(
        TaskNode("a", idempotent=False, approval="person"), mode=OrchestrationMode.ADAPTIVE, can_replan=True
    )
    bench.described("a")
    bench.approve("a")
    bench.fail("a")
    inner = graph([TaskNode("q"), part("x", "q", tool="x"), part("y", "q", tool="y")], "x y")

    bench.offer("a", inner)

    parent, child = bench.task("q~1").node, bench.task("x~1").node
    assert (parent.approval, parent.idempotent) == (None, True)
    assert (child.approval, child.idempotent, child.parent) == ("person", False, "q~1")
    assert bench.statuses() == {"a": "superseded", "q~1": "expanded", "x~1": "ready", "y~1": "pending"}
    bench.effects.pop(0)  # the description of what was replaced
    bench.go_on()
    assert bench.outcome is OrchestrationStatus.COMPLETED


# Order


def test_strict_order_puts_parts_where_their_parent_stands() -> None:
    """One at a time, what comes after the parent after its parts."""
    bench = family(mode=OrchestrationMode.SIMPLE)

    bench.go_on()

    assert bench.history() == ["u#1", "a#1", "b#1", "c#1", "d#1"]
    assert strict_order(bench.state) == ["u", "p", "a", "b", "c", "d"]


def test_strict_order_takes_in_the_children_of_a_foreach() -> None:
    """Item by item, and what follows holds back meanwhile."""
    bench = started("u", listed(), "d", edges=("u t", "t d"), mode=OrchestrationMode.SIMPLE)
    bench.succeed("u")
    assert bench.running == []

    bench.go_on(items=3)

    assert bench.history() == ["u#1", "t[0]#1", "t[1]#1", "t[2]#1", "d#1"]


def test_a_list_that_is_being_looked_at_holds_its_place() -> None:
    """In SIMPLE, nothing overtakes it."""
    bench = started(listed(), "b", mode=OrchestrationMode.SIMPLE)

    assert (bench.statuses(), bench.running) == ({"t": "ready", "b": "ready"}, [])


def test_the_graph_shows_the_list_not_its_children() -> None:
    """What was planned: the children came into being by themselves."""
    bench = expanded(2, listed(), "d", edges=("t d",))

    shown = present_graph(bench.state)

    assert list(shown.nodes) == ["t", "d"]
    assert [(edge.source_task_id, edge.target_task_id) for edge in shown.edges] == [("t", "d")]


def test_the_graph_shows_parts_with_edges_of_one_level() -> None:
    """What a root child is fed by its parent is no edge of the plan."""
    bench = family()
    bench.succeed("u")

    shown = present_graph(bench.state)

    assert [(edge.source_task_id, edge.target_task_id) for edge in shown.edges] == [
        ("u", "p"), ("a", "b"), ("p", "d")
    ]  # fmt: skip


# Pause, cancel, takeover, retry


def test_nothing_expands_while_paused() -> None:
    """The list is looked at again when it goes on."""
    bench = started(listed())
    bench.pause()
    bench.found("t", 2)
    assert bench.statuses() == {"t": "ready"}

    bench.resume()

    assert len(bench.of(FindItems)) == 2
    bench.found("t", 2)
    assert bench.running == ["t[0]", "t[1]"]


def test_what_is_done_is_gathered_even_while_paused() -> None:
    """Nothing starts by it; an orchestration whose last task settles while paused ends."""
    bench = expanded(1)
    bench.pause()
    bench.succeed("t[0]")

    bench.gathered("t")

    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_parts_that_could_begin_wait_while_paused() -> None:
    """Their parent has begun; they start when it goes on."""
    bench = family()
    bench.pause()
    bench.succeed("u")
    assert bench.running == []

    bench.resume()

    assert bench.running == ["a", "c"]


def test_cancel_ends_composites_and_parts_at_once() -> None:
    """What runs is stopped."""
    bench = family()
    bench.succeed("u")
    bench.cancel()
    assert bench.statuses() == {
        "u": "completed", "p": "cancelled", "a": "running", "b": "cancelled", "c": "running", "d": "cancelled"
    }  # fmt: skip

    bench.stopped("a")
    bench.succeed("c")

    assert bench.outcome is OrchestrationStatus.CANCELLED
    assert bench.of(GatherOutputs) == []


def test_an_answer_after_cancel_changes_nothing() -> None:
    """Neither the list nor the outputs are wanted."""
    bench = started(listed())
    bench.cancel()
    before = list(bench.journal)

    bench.found("t", 3)
    bench.gathered("t")

    assert bench.journal == before


def test_the_next_driver_asks_for_the_list_again() -> None:
    """The answer was lost with the driver before."""
    bench = started(listed())
    bench.crash()

    bench.start()

    assert len(bench.of(FindItems)) == 1
    bench.go_on()
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_the_next_driver_goes_on_with_the_children_there_are() -> None:
    """No child begins twice for one item."""
    bench = expanded(2)
    bench.succeed("t[0]")
    bench.crash()

    bench.start()

    assert bench.of(FindItems) == []
    assert bench.history() == ["t[0]#1", "t[1]#1", "t[1]#2"]


def test_the_next_driver_gathers_once_what_nobody_gathered() -> None:
    """The children had settled; the answer was lost."""
    bench = expanded(1)
    bench.succeed("t[0]")
    bench.crash()

    bench.start()

    assert len(bench.of(GatherOutputs)) == 1
    bench.gathered("t")
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_retry_of_a_foreach_runs_its_failed_children_only() -> None:
    """What its other items came to stays."""
    bench = expanded(3, listed(), "d", edges=("t d",))
    for name in ("t[0]", "t[2]"):
        bench.succeed(name)
    bench.fail("t[1]")
    bench.crash()

    bench.retry("t")
    bench.start()
    assert bench.statuses() == {
        "t": "expanded", "d": "pending", "t[0]": "completed", "t[1]": "running", "t[2]": "completed"
    }  # fmt: skip
    bench.go_on()

    assert bench.history() == ["t[0]#1", "t[1]#1", "t[2]#1", "t[1]#2", "d#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_retry_of_one_child_reopens_its_list() -> None:
    """Which fails again when another child has failed."""
    bench = expanded(2)
    bench.fail("t[0]")
    bench.fail("t[1]")
    bench.crash()

    bench.retry("t[0]")
    bench.start()
    assert bench.statuses() == {"t": "expanded", "t[0]": "running", "t[1]": "failed"}
    bench.succeed("t[0]")
    assert bench.statuses()["t"] == "failed"
    bench.crash()
    bench.retry("t[1]")
    bench.start()
    bench.go_on()

    assert bench.history() == ["t[0]#1", "t[1]#1", "t[0]#2", "t[1]#2"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_one_child_can_be_retried_while_the_others_run() -> None:
    """The orchestration goes on."""
    bench = expanded(2)
    bench.fail("t[0]")

    bench.retry("t[0]")

    assert bench.statuses() == {"t": "expanded", "t[0]": "running", "t[1]": "running"}


def test_a_retry_of_a_list_that_could_not_be_had_looks_at_it_again() -> None:
    """It may be there now."""
    bench = started(listed())
    bench.found("t", error=TOO_MANY)
    bench.crash()

    bench.retry()
    bench.start()
    bench.go_on()

    assert bench.statuses() == {"t": "completed", "t[0]": "completed", "t[1]": "completed"}


def test_a_retry_of_outputs_that_could_not_be_gathered_gathers_again() -> None:
    """Nothing runs again."""
    bench = expanded(1)
    bench.succeed("t[0]")
    bench.gathered("t", error=TOO_MANY)
    bench.crash()

    bench.retry()
    bench.start()
    bench.gathered("t")

    assert (bench.outcome, bench.history()) == (OrchestrationStatus.COMPLETED, ["t[0]#1"])


def test_a_retry_of_a_part_reopens_every_parent_around_it() -> None:
    """And what was skipped over them."""
    bench = started(
        TaskNode("p"), part("q"), part("x", "q"), part("y", "q"), part("z"), "d",
        edges=("x y", "q z", "p d"),
    )  # fmt: skip
    bench.fail("x")
    assert bench.outcome is OrchestrationStatus.FAILED
    bench.crash()

    bench.retry("x")
    bench.start()
    bench.go_on()

    assert set(bench.statuses().values()) == {"completed"}
    assert bench.history() == ["x#1", "x#2", "y#1", "z#1", "d#1"]


def test_a_retry_of_what_led_to_a_parent_lets_its_parts_begin() -> None:
    """They never ran."""
    bench = family()
    bench.fail("u")
    bench.crash()

    bench.retry()
    bench.start()
    bench.go_on()

    assert bench.history() == ["u#1", "u#2", "a#1", "c#1", "b#1", "d#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_retry_after_cancel_goes_on_inside_composites() -> None:
    """What had completed stays."""
    bench = expanded(3, slots=1)
    bench.succeed("t[0]")
    bench.cancel()
    bench.stopped("t[1]")
    bench.crash()

    bench.retry()
    bench.start()
    bench.go_on()

    assert bench.history() == ["t[0]#1", "t[1]#1", "t[1]#2", "t[2]#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_part_can_be_retried_while_nobody_drives_after_another_reopened_its_parent() -> None:
    """A parent that was ready when its driver went begins with the next one."""
    bench = started("u", TaskNode("p"), part("a"), edges=("u p?",))
    bench.fail("u")
    bench.fail("a")
    bench.crash()

    bench.retry("u")
    bench.retry("a")
    bench.start()
    bench.go_on()

    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_composite_can_not_be_decided_about_or_approved() -> None:
    """There is nothing it did."""
    bench = expanded(1)

    with pytest.raises(NotPossibleError):
        bench.decide("t", "done")
    with pytest.raises(NotPossibleError):
        bench.approve("t")


def test_a_part_of_what_has_completed_without_it_is_not_retried() -> None:
    """What completed never runs again; everything else that failed is."""
    bench = started(TaskNode("p"), part("a"), part("h"), "x", edges=("a h if status == 'failed'",))
    bench.fail("a")
    bench.fail("x")
    bench.go_on()
    assert bench.outcome.value == "failed"
    bench.crash()

    with pytest.raises(NotPossibleError) as caught:
        bench.retry("a")
    assert str(caught.value) == (
        "Task 'a' is failed, and what it is a part of has completed without it, so it can't be retried. "
        "Failed or cancelled tasks can: x."
    )
    bench.retry()
    bench.start()
    bench.go_on()

    assert bench.statuses() == {"p": "completed", "a": "failed", "h": "completed", "x": "completed"}
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_a_list_inside_a_parent_that_waits_again_waits_with_it() -> None:
    """Both had begun; what the parent may be fed is made anew first."""
    bench = started("u", TaskNode("p"), listed("t", parent="p"), "d", edges=("u p?", "p d"))
    bench.fail("u")
    bench.found("t", 2)
    bench.succeed("t[0]")
    bench.fail("t[1]")
    assert bench.outcome.value == "failed"
    bench.crash()

    bench.retry()
    bench.start()
    assert bench.statuses() == {
        "u": "running", "p": "pending", "t": "pending", "d": "pending", "t[0]": "completed", "t[1]": "pending"
    }  # fmt: skip
    bench.go_on()

    assert bench.history() == ["u#1", "t[0]#1", "t[1]#1", "u#2", "t[1]#2", "d#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


@pytest.mark.parametrize("decision", ["retry", "done"])
def test_a_part_that_may_have_happened_is_decided_about_before_its_parent_begins_again(decision: str) -> None:
    """It was cancelled while it ran; it runs again with the others, when the parent does."""
    bench = started("u", TaskNode("p"), part("a", idempotent=False), part("b"), edges=("u p?", "a b"))
    bench.fail("u")
    bench.cancel()
    bench.stopped("a")
    bench.crash()
    bench.retry()
    assert bench.statuses() == {"u": "ready", "p": "pending", "a": "unknown", "b": "pending"}

    bench.decide("a", decision)  # type: ignore[arg-type]  # one of the two
    bench.start()
    assert bench.running == ["u"]
    bench.go_on()

    again = ["a#2"] if decision == "retry" else []
    assert bench.history() == ["u#1", "a#1", "u#2", *again, "b#1"]
    assert bench.outcome is OrchestrationStatus.COMPLETED


def test_an_item_nobody_knows_the_end_of_is_skipped_with_its_list() -> None:
    """What led to the list failed, and then, retried, did not: nothing of the list is wanted any more."""
    each = TaskNode("each", foreach=[1], idempotent=False, max_retries=0)
    bench = Bench(graph([TaskNode("up"), each], "up each if status == 'failed'"))
    bench.start()
    bench.fail("up")
    bench.found("each", 1)
    bench.fail("each[0]", effect_open=True)
    assert bench.task("each[0]").status == "unknown"
    bench.cancel()
    bench.retry()
    bench.succeed("up")

    assert bench.statuses() == {"up": "completed", "each": "skipped", "each[0]": "skipped"}


def test_a_part_that_comes_while_its_parent_is_to_begin_anew_waits_for_what_the_parent_waits_for() -> None:
    """What feeds the parent feeds the part, decided or not."""
    bench = Bench(graph([TaskNode("up"), TaskNode("whole"), TaskNode("one", parent="whole")], "up whole?"))
    bench.start()
    bench.fail("up")
    bench.fail("one")
    bench.retry()
    bench.edit(added=(TaskNode("two", parent="whole"),), routes=Routes(systems={"two": "here"}))
    assert bench.statuses() == {"up": "running", "whole": "pending", "one": "pending", "two": "pending"}

    bench.succeed("up")

    assert (bench.task("one").status, bench.task("two").status) == (TaskStatus.RUNNING, TaskStatus.RUNNING)
