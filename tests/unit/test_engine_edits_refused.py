"""What of a running orchestration's graph can't be changed, and what a change makes of questions asked before it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.engine.effects import DescribeApproval, LookUpResult
from orchestration.engine.graph import present_graph, strict_order
from orchestration.engine.inputs import CacheAnswer
from orchestration.errors import NotPossibleError, TaskNotFoundError
from orchestration.models import (
    CachePolicy,
    OrchestrationMode,
    TaskNode,
)
from tests.engine_kit import ONE_OUTPUT, Bench, plan
from tests.unit.engine_starts import fields, links, started

# What may be changed


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"changed": (TaskNode("b", tool="x"),)}, "changed"),
        ({"removed": ("b",)}, "removed"),
        ({"skipped": ("b",)}, "skipped"),
        ({"linked": links("a b")}, "linked or unlinked"),
    ],
)
def test_what_runs_must_be_stopped_first(part: dict[str, Any], told: str) -> None:
    """Nothing is changed."""
    bench = started("a", "b")
    before = list(bench.journal)

    with pytest.raises(NotPossibleError) as caught:
        bench.edit(**part)

    assert str(caught.value) == (
        f"Task 'b' is running, so it can't be {told}. "
        "Because it is running; cancel the orchestration, or wait for the attempt to end."
    )
    assert bench.journal == before


def test_what_has_ended_is_frozen() -> None:
    """In whatever way it ended."""
    bench = started("a", "b", "c", "d", edges=("b c",))
    bench.succeed("a")
    bench.fail("b")

    for name, status in (("a", "completed"), ("b", "failed"), ("c", "skipped")):
        with pytest.raises(
            NotPossibleError, match=rf"it has ended \({status}\), and what has ended is frozen"
        ):
            bench.edit(changed=(TaskNode(name, tool="x"),))
    with pytest.raises(NotPossibleError, match="is frozen"):
        bench.edit(linked=links("d c"))


def test_a_task_with_an_attempt_keeps_its_edges() -> None:
    """It may be changed or skipped while it waits, but not unlinked or removed."""
    bench = started("u", TaskNode("a", max_retries=1), "b", edges=("u a",))
    bench.succeed("u")
    bench.fail("a", retryable=True)

    for part in ({"removed": ("a",)}, {"unlinked": (("u", "a"),)}, {"linked": links("b a")}):
        with pytest.raises(NotPossibleError, match="it is retrying and has begun"):
            bench.edit(**part)
    bench.edit(skipped=("a",))

    assert bench.statuses()["a"] == "skipped"


def test_an_open_end_is_decided_first() -> None:
    """Nobody knows what it did."""
    bench = started(TaskNode("a", idempotent=False))
    bench.fail("a", effect_open=True)

    with pytest.raises(NotPossibleError, match="decide that first"):
        bench.edit(changed=(TaskNode("a"),))


def test_what_was_replaced_is_not_there_any_more() -> None:
    """Neither to be changed nor to come from."""
    bench = started("a", "b", edges=("a b",), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("a")
    bench.offer("a", plan("x"))

    with pytest.raises(NotPossibleError, match="it was replaced or removed"):
        bench.edit(changed=(TaskNode("a", tool="y"),))
    with pytest.raises(TaskNotFoundError, match="'a'"):
        bench.edit(added=(TaskNode("c"),), linked=links("a c"))


def test_a_task_that_is_not_there_is_named() -> None:
    """With those that are."""
    bench = started("a")

    with pytest.raises(TaskNotFoundError, match="'nobody'"):
        bench.edit(removed=("nobody",))
    with pytest.raises(TaskNotFoundError, match="'nobody'"):
        bench.edit(added=(TaskNode("b"),), linked=links("nobody b"))


def test_a_child_of_a_list_is_not_edited() -> None:
    """The list is, before it begins."""
    bench = started(TaskNode("t", foreach=[1]))
    bench.found("t", 1)

    with pytest.raises(NotPossibleError) as caught:
        bench.edit(changed=(TaskNode(**{**fields(bench.task("t[0]").node), "tool": "x"}),))
    assert "it is the child of 't'; edit that one before it begins" in str(caught.value)


def test_a_list_that_has_begun_is_not_changed() -> None:
    """Not even when it waits to begin again: its children are there."""
    bench = started("u", TaskNode("t", foreach=[1]), "o", edges=("u t?",))
    bench.fail("u")
    bench.found("t", 1)
    with pytest.raises(NotPossibleError, match="it is expanded"):
        bench.edit(changed=(TaskNode("t", foreach=[1], tool="x"),))
    bench.fail("t[0]")
    bench.retry("u", "t")
    assert bench.statuses() == {"u": "running", "t": "pending", "o": "running", "t[0]": "pending"}

    with pytest.raises(NotPossibleError, match="its parts are there already"):
        bench.edit(changed=(TaskNode("t", foreach=[1], tool="x"),))


@pytest.mark.parametrize("ended", ["completed", "cancelled", "cancelling"])
def test_only_what_goes_on_is_edited(ended: str) -> None:
    """What has ended is retried first."""
    bench = started("a")
    if ended == "completed":
        bench.run_out()
    else:
        bench.cancel()
        if ended == "cancelled":
            bench.stopped("a")

    with pytest.raises(NotPossibleError, match="Running and paused ones can"):
        bench.edit(added=(TaskNode("b"),))


# Questions asked before


def test_a_cached_output_looked_for_before_a_change_of_inputs_is_not_used() -> None:
    """It was an equal task's of before; the cache is asked anew, once."""
    node = TaskNode("a", cache=CachePolicy(60.0))
    for change in (
        {"unlinked": (("u", "a"),)},
        {"linked": links("done a")},
        {"changed": (TaskNode("a", cache=CachePolicy(60.0), tool="x"),)},
    ):
        bench = started("u", "done", node, edges=("u a",))
        bench.succeed("u")
        bench.succeed("done")
        assert [effect.generation for effect in bench.of(LookUpResult)] == [1]

        bench.edit(**change)

        assert [effect.generation for effect in bench.of(LookUpResult)] == [1, 2]
        bench.tell(_old_hit(bench))
        assert bench.statuses()["a"] == "ready"
        bench.miss("a")
        assert bench.running == ["a"]


def _old_hit(bench: Bench) -> CacheAnswer:
    """Return an answer about the task as it was at first."""
    return CacheAnswer(
        orchestration_id=bench.id, task_id="a", output=ONE_OUTPUT, source="old:a", generation=1
    )


def test_a_task_made_to_wait_is_asked_about_when_its_turn_comes_again() -> None:
    """Even where the old answer came in a pause."""
    node = TaskNode("a", cache=CachePolicy(60.0))
    bench = started("u", node)
    bench.edit(linked=links("u a"))
    assert bench.statuses() == {"u": "running", "a": "pending"}

    bench.pause()
    bench.succeed("u")
    bench.tell(_old_hit(bench))
    bench.resume()

    assert [effect.generation for effect in bench.of(LookUpResult)] == [1, 2]
    bench.miss("a")
    assert bench.running == ["a"]


def test_a_ready_task_that_is_changed_and_made_to_wait_at_once_asks_nothing() -> None:
    """Its turn comes later."""
    bench = started("u", TaskNode("a", approval="person"))

    bench.edit(changed=(TaskNode("a", approval="person", tool="x"),), linked=links("u a"))

    assert len(bench.of(DescribeApproval)) == 1
    bench.succeed("u")
    assert len(bench.of(DescribeApproval)) == 2


# Pause, takeover, order


def test_a_paused_orchestration_can_be_edited() -> None:
    """Nothing starts by it."""
    bench = started("a", "b", edges=("a b",))
    bench.pause()

    bench.edit(added=(TaskNode("c"),), unlinked=(("a", "b"),))

    assert bench.running == ["a"]
    bench.resume()
    assert sorted(bench.running) == ["a", "b", "c"]


def test_an_edit_while_nobody_drives_is_kept() -> None:
    """Whoever takes over goes by it."""
    bench = started("a", "b", edges=("a b",))
    bench.crash()

    bench.edit(added=(TaskNode("c"),), removed=("b",))
    assert bench.running == ["a"]
    bench.start()
    bench.run_out()

    assert sorted(bench.history()) == ["a#1", "a#2", "c#1"]


def test_a_driver_that_comes_after_a_revision_and_before_its_tasks_start_starts_them() -> None:
    """The same plan, whoever drives."""
    bench = started("a", "b", edges=("a b",), mode=OrchestrationMode.ADAPTIVE, can_replan=True)
    bench.fail("a")
    bench.pause()  # the revision is stored, and nothing of it has started
    bench.offer("a", plan("x y", "x y"), by="person")
    bench.edit(added=(TaskNode("c"),), linked=links("y~1 c"))
    before = present_graph(bench.state)
    bench.crash()

    bench.start()
    after = present_graph(bench.state)
    assert (after.nodes, after.edges) == (before.nodes, before.edges)
    bench.resume()
    bench.run_out()

    assert bench.history() == ["a#1", "x~1#1", "y~1#1", "b#1", "c#1"]


def test_strict_order_follows_the_present_graph() -> None:
    """What was added goes where its edges put it, and what was removed holds no place."""
    bench = started("a", "b", "c", mode=OrchestrationMode.SIMPLE)

    bench.edit(added=(TaskNode("n"),), linked=links("n b"), removed=("c",))
    assert strict_order(bench.state) == ["a", "n", "b"]
    bench.run_out()

    assert bench.history() == ["a#1", "n#1", "b#1"]


def test_an_edit_of_what_holds_its_place_lets_the_next_begin() -> None:
    """In SIMPLE, when the one that waited is removed."""
    bench = started(TaskNode("a", approval="person"), "b", mode=OrchestrationMode.SIMPLE)
    bench.described("a")
    assert bench.running == []

    bench.edit(removed=("a",))

    assert bench.running == ["b"]
